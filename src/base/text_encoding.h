#pragma once
// Texts are UTF-8 here; what an editor of another system may save is told from its byte-order mark.

#include <string>
#include <string_view>

#include "base/error.h"

namespace flagscale {

// `begin`: the first bytes of a file, four or more where it has so many. Throws Error of `kind` that names
// the encoding and the command that changes it, for UTF-16 and UTF-32.
void refuse_other_encoding(std::string_view begin, const std::string& file,
                           ErrorKind kind = ErrorKind::kInvalidArgument);

// Of a file that is to be a text by its use; NUL bytes among the first 4096, which UTF-16 and UTF-32 without
// a mark have, are refused too. One that cannot be opened is passed over, and Parquet and what is compressed,
// which tell themselves.
void refuse_file_of_other_encoding(const std::string& file);

}  // namespace flagscale
