# The Rust static library (tokenizers, minijinja, llguidance) is built by src/text.
