#pragma once
// Which bytes may stand in a configuration's text.

#include <optional>
#include <string>

namespace flagscale::config {

struct BadCharacter {
  int line = 0;
  std::string what;  // "is not UTF-8", "has the control character 0x01"
};

// The first byte that is not UTF-8, or a control character that YAML does not allow.
std::optional<BadCharacter> first_bad_character(const std::string& text);

}  // namespace flagscale::config
