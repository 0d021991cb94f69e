#pragma once
// The tokenizer of a checkpoint. A run copies it to DIR/tokenizer, beside its iter_* folders: the checkpoints
// can be moved, and a tokenizer that is made anew in its old place does not become theirs.

#include <string>
#include <vector>

#include "io/checkpoint.h"

namespace flagscale::io {

// Copies what of a tokenizer lies at `from` (a folder, or one of the files in it) and returns the files'
// names.
std::vector<std::string> copy_tokenizer(const std::string& from, const std::string& folder);

// Throws Error{kInvalidArgument} where `dir` has checkpoints that keep another tokenizer than the one at
// `from`.
void check_tokenizer(const std::string& from, const std::string& dir);

// Keeps a copy for the checkpoints in `dir`: of a folder's files, or of the one file `from`. A GGUF file,
// whose tokenizer cannot be copied alone, is left where it is.
void keep_tokenizer(const std::string& from, const std::string& dir);

// Where a checkpoint's tokenizer is: the copy, else the path that the run was given, which may be gone; ""
// for none.
std::string tokenizer_of(const Checkpoint& checkpoint);

}  // namespace flagscale::io
