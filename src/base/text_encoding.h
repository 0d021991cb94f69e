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

// The same of a file that is read by parts; one that cannot be opened is passed over.
void refuse_file_of_other_encoding(const std::string& file);

}  // namespace flagscale
