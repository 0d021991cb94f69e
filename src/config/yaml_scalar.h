#pragma once
// The type of a scalar: PyYAML's YAML 1.1 rules with OmegaConf's changes (1e-5 is a float, dates are
// strings).

#include <string>

#include "config/node.h"

namespace flagscale::config {

// A plain (unquoted) scalar. Throws Error{kConfig} for text that PyYAML takes for a number and cannot read
// ("089").
NodePtr plain_scalar(const std::string& text);

// True for the forms of null: "", ~, null, Null, NULL.
bool is_null_text(const std::string& text);

// With an explicit tag: "bool", "int", "float", "null", "str" of tag:yaml.org,2002. Throws Error{kConfig} for
// text that does not fit, and for any other tag.
NodePtr tagged_scalar(const std::string& tag, const std::string& text);

// A number in the given base without sign or underscores, of any length: its decimal digits. False for a
// wrong digit.
NodePtr integer_from_digits(const std::string& digits, int base, bool negative);

}  // namespace flagscale::config
