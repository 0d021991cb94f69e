#include "tests/architecture/source_tree.h"

#include <algorithm>
#include <fstream>
#include <regex>

namespace flagscale::architecture {

namespace fs = std::filesystem;

fs::path source_dir() { return FLAGSCALE_SOURCE_DIR; }

std::vector<fs::path> files(const std::string& folder, const std::set<std::string>& extensions) {
  std::vector<fs::path> result;
  for (auto it = fs::recursive_directory_iterator(source_dir() / folder);
       it != fs::recursive_directory_iterator(); ++it) {
    const std::string name = it->path().filename();
    const bool generated =
        name.starts_with(".") || name.starts_with("build") || name == "target" || name == "outputs";
    if (it->is_directory() && generated) it.disable_recursion_pending();
    if (it->is_regular_file() && extensions.contains(it->path().extension())) result.push_back(it->path());
  }
  std::sort(result.begin(), result.end());
  return result;
}

std::vector<std::string> lines(const fs::path& file) {
  std::ifstream in(file);
  std::vector<std::string> result;
  for (std::string line; std::getline(in, line);) result.push_back(line);
  return result;
}

std::string shown(const fs::path& file) { return file.lexically_relative(source_dir()); }

std::string included(const std::string& line, bool quoted_only) {
  static const std::regex kQuoted("\\s*#\\s*include\\s*\"([^\"]+)\".*"),
      kAny("\\s*#\\s*include\\s*[\"<]([^\">]+)[\">].*");
  std::smatch match;
  return std::regex_match(line, match, quoted_only ? kQuoted : kAny) ? match[1].str() : "";
}

std::map<std::string, std::set<std::string>> layers() {
  static const std::regex kRow("(\\w+) = \\[(.*)\\]"), kName("\"([^\"]+)\"");
  std::map<std::string, std::set<std::string>> result;
  for (const std::string& line : lines(source_dir() / "tools/layers.toml")) {
    std::smatch row;
    if (!std::regex_match(line, row, kRow)) continue;
    std::set<std::string>& below = result[row[1]];
    const std::string list = row[2];
    for (std::sregex_iterator it(list.begin(), list.end(), kName), end; it != end; ++it)
      below.insert((*it)[1]);
  }
  return result;
}

}  // namespace flagscale::architecture
