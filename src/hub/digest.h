#pragma once
// The names that the hub gives to files are checksums: SHA-256 for large ones, git's SHA-1 of a blob for the
// rest.

#include <string>

namespace flagscale::hub {

// 64 or 40 hexadecimal digits.
bool is_digest(const std::string& name);

// True when the file's bytes are those that `digest` names. Throws Error{kResource} when it cannot be read.
bool matches_digest(const std::string& file, const std::string& digest);

}  // namespace flagscale::hub
