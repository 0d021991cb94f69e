#pragma once
// Whole files, of a size that a tokenizer may have.

#include <string>

namespace flagscale::text {

bool is_file(const std::string& path);
bool is_folder(const std::string& path);
// Errors: kNotFound, kResource; kInvalidArgument for UTF-16 and UTF-32; kCorrupt beyond 512 MiB.
std::string read_text_file(const std::string& path);
// Written aside and renamed. Errors: kResource.
void write_text_file(const std::string& path, const std::string& text);

}  // namespace flagscale::text
