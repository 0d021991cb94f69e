#pragma once
// The source tree as the architecture tests see it.

#include <filesystem>
#include <map>
#include <set>
#include <string>
#include <vector>

namespace flagscale::architecture {

std::filesystem::path source_dir();

// Files below source_dir()/folder with one of the extensions, sorted; build folders left out.
std::vector<std::filesystem::path> files(const std::string& folder, const std::set<std::string>& extensions);

std::vector<std::string> lines(const std::filesystem::path& file);

// A path as people write it: "src/op/rms_norm/rms_norm.h".
std::string shown(const std::filesystem::path& file);

// What a line `#include "x"` or `#include <x>` names, else "". quoted: only the first form.
std::string included(const std::string& line, bool quoted_only);

// tools/layers.toml: folder -> the folders it may include.
std::map<std::string, std::set<std::string>> layers();

}  // namespace flagscale::architecture
