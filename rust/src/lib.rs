//! What flagscale takes from Rust, behind the C functions of src/text/rust_text.h: Hugging Face's tokenizers, Jinja
//! chat templates, grammars for constrained decoding, rows of Parquet files. Every function catches panics and bounds
//! what it is given.

mod ffi;
mod grammar;
mod limits;
mod parquet_rows;
mod python;
mod template;
mod tokenizer;
