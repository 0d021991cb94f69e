#pragma once

#include <string>
#include <string_view>

namespace flagscale::net {

// SHA-256 in base64, as a Content-Security-Policy names a script.
std::string sha256_base64(std::string_view data);

enum class DigestKind { kSha1, kSha256 };

// Of `before` and then a file's bytes, in hexadecimal digits. Error{kResource} when it cannot be read,
// Error{kInterrupted} after Ctrl-C.
std::string digest_of_file(const std::string& path, DigestKind kind, std::string_view before = {});

}  // namespace flagscale::net
