#pragma once

#include <string>
#include <string_view>

namespace flagscale::net {

// SHA-256 in base64, as a Content-Security-Policy names a script.
std::string sha256_base64(std::string_view data);

// SHA-256 of a file, 64 hexadecimal digits. Error{kResource} when it cannot be read.
std::string sha256_hex_of_file(const std::string& path);

}  // namespace flagscale::net
