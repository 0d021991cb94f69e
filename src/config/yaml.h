#pragma once
// YAML text to a tree, as OmegaConf.load() does: PyYAML's SafeLoader with a repeated key being an error,
// merge keys, and interpolations checked for their grammar.

#include <string>

#include "config/node.h"

namespace flagscale::config {

// Throws Error{kConfig} naming file and line. An empty text is an empty mapping. file: for origins and
// errors.
NodePtr parse_yaml(const std::string& text, const std::string& file);

// The text of a file. Throws Error{kNotFound}, Error{kResource}; Error{kConfig} when it is not UTF-8.
std::string read_text_file(const std::string& path);

}  // namespace flagscale::config
