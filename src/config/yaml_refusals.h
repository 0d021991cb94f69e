#pragma once
// Where libyaml is laxer than PyYAML's own scanner, which reads Hydra's files.

#include <string>
#include <string_view>

namespace flagscale::config {

// Refuses what libyaml takes and PyYAML refuses or reads differently: tabs outside quotes, '?' inside [] and
// {}, a comma right behind a tag, a comment right behind | or >. text: as LibYaml takes it, and can be
// parsed. Throws Error{kConfig} naming source and line.
void refuse_what_pyyaml_refuses(std::string_view text, const std::string& source);

}  // namespace flagscale::config
