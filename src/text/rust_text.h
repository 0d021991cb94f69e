#pragma once
// The C interface of the Rust library in rust/: only rust_library.cc, and the classes that own a handle,
// include it.
//
// Every function returns a status; its result, or the text of its error, is in the buffer, which the caller
// frees with fs_buffer_free(). Nothing unwinds out of a function. Handles but grammars and rows may be used
// from any thread.

#include <cstddef>
#include <cstdint>

extern "C" {

struct FsBuffer {
  uint8_t* data;
  size_t size, capacity;
};
void fs_buffer_free(FsBuffer buffer);

// 0 done, 1 invalid input, 2 refused by a template's raise_exception, 3 beyond a limit, 4 panic
typedef int FsStatus;

struct FsTokenizer;
FsStatus fs_tokenizer_new(const uint8_t* json, size_t size, FsTokenizer** handle, FsBuffer* error);
void fs_tokenizer_free(FsTokenizer* handle);
FsStatus fs_tokenizer_encode(const FsTokenizer* handle, const uint8_t* text, size_t size, bool add_special,
                             FsBuffer* ids);  // uint32 each
FsStatus fs_tokenizer_decode(const FsTokenizer* handle, const uint32_t* ids, size_t count, bool skip_special,
                             FsBuffer* text);
// For each token in order of id: uint32 id, special, size; then its text.
FsStatus fs_tokenizer_vocab(const FsTokenizer* handle, FsBuffer* tokens);

FsStatus fs_nfc(const uint8_t* text, size_t size, FsBuffer* normalized);

struct FsTemplate;
FsStatus fs_template_new(const uint8_t* source, size_t size, FsTemplate** handle, FsBuffer* error);
FsStatus fs_template_render(const FsTemplate* handle, const uint8_t* json, size_t size, FsBuffer* text);
void fs_template_free(FsTemplate* handle);

struct FsGrammarVocab;
struct FsGrammar;
// Token i is blob[offsets[i] .. offsets[i + 1]); special tokens start with a byte 0xff.
FsStatus fs_grammar_vocab_new(const uint8_t* blob, const uint32_t* offsets, uint32_t count, uint32_t eos,
                              FsGrammarVocab** handle, FsBuffer* error);
void fs_grammar_vocab_free(FsGrammarVocab* handle);
FsStatus fs_grammar_new(const FsGrammarVocab* vocab, const uint8_t* kind, size_t kind_size,
                        const uint8_t* grammar, size_t grammar_size, FsGrammar** handle, FsBuffer* error);
FsStatus fs_grammar_clone(const FsGrammar* handle, FsGrammar** clone, FsBuffer* error);
FsStatus fs_grammar_mask(FsGrammar* handle, uint32_t* words, size_t count,
                         FsBuffer* error);  // token 0 in the lowest bit
FsStatus fs_grammar_accept(FsGrammar* handle, uint32_t token, bool* ended, FsBuffer* error);
void fs_grammar_free(FsGrammar* handle);

// Rows of a Parquet file as JSON objects, a line each; null fields are left out. names: of the columns to
// read, parted by newlines; those that the file lacks are passed over, and where it has none of them all are
// read. One thread at a time.
struct FsRows;
FsStatus fs_rows_open(const uint8_t* path, size_t path_size, const uint8_t* names, size_t names_size,
                      FsRows** handle, FsBuffer* error);
FsStatus fs_rows_skip(FsRows* handle, uint64_t count, FsBuffer* error);  // whole row groups unread
FsStatus fs_rows_next(FsRows* handle, size_t least, FsBuffer* lines);    // nothing at the end
FsStatus fs_rows_columns(const uint8_t* path, size_t size, FsBuffer* names);
void fs_rows_free(FsRows* handle);
}
