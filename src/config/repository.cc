#include "config/repository.h"

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <set>
#include <sstream>

#include "base/error.h"
#include "config/yaml.h"

namespace flagscale::config {
namespace {

namespace fs = std::filesystem;

constexpr size_t kHeaderBytes = 512;

std::string trimmed(const std::string& text) {
  const size_t begin = text.find_first_not_of(" \t\r\n");
  return begin == std::string::npos ? "" : text.substr(begin, text.find_last_not_of(" \t\r\n") - begin + 1);
}

// "# @package name" in the comment lines at a file's start.
std::optional<std::string> package_header(const std::string& text, const std::string& file) {
  std::optional<std::string> package;
  std::istringstream lines(text.substr(0, kHeaderBytes));
  for (std::string line; std::getline(lines, line);) {
    line = trimmed(line);
    if (line.empty()) continue;
    if (line[0] != '#' || trimmed(line.substr(1)).substr(0, 1) != "@") break;
    std::istringstream words(line.substr(line.find('@')));
    std::string key, value, more;
    words >> key >> value;
    if (value.empty() || words >> more)
      fail(ErrorKind::kConfig, "{}: the header '{}' is not of the form '# @package NAME'", file, line);
    if (key == "@package") package = value;
  }
  return package;
}

DefaultItem read_item(const Node& node) {
  DefaultItem item;
  item.origin = node.origin;
  const auto stop = [&](const char* what) {
    fail(ErrorKind::kConfig, "{}: an entry of the defaults list {}", describe(node.origin), what);
  };
  std::string name;
  if (node.kind == Kind::kString) {
    name = node.text;
  } else {
    if (node.kind != Kind::kMap || node.entries.size() != 1 || node.entries[0].key.kind != Kind::kString)
      stop("is neither 'file' nor 'group: option'");
    item.is_group = true;
    name = node.entries[0].key.text;
    const Node& value = *node.entries[0].value;
    item.is_list = value.kind == Kind::kList;
    if (value.kind == Kind::kString)
      item.option = value.text;
    else if (!item.is_list && value.kind != Kind::kNull)
      stop("names an option that is no string; quote it");
    for (const NodePtr& option : value.items) {
      if (option->kind != Kind::kString) stop("lists an option that is no string; quote it");
      item.options.push_back(option->text);
    }
  }
  const size_t at = name.find('@');
  if (at != std::string::npos) {
    const std::string package = name.substr(at + 1);
    item.package = package.substr(0, package.find(':'));
    if (*item.package == "_here_") item.package = "";
    name.resize(at);
  }
  item.path = name;
  if (!item.is_group) {
    if (name == "_self_" && item.package) stop("gives _self_ a package");
    return item;
  }
  for (size_t space = item.path.find(' '); space != std::string::npos; space = item.path.find(' ')) {
    const std::string keyword = item.path.substr(0, space);
    if (keyword != "optional" && keyword != "override") break;
    (keyword == "optional" ? item.optional : item.is_override) = true;
    item.path.erase(0, space + 1);
  }
  item.path = item.path.substr(item.path.rfind(' ') + 1);
  if (item.path.empty()) stop("has no group");
  return item;
}

std::vector<DefaultItem> take_defaults(Node& config, const std::string& file) {
  std::vector<DefaultItem> items;
  const NodePtr list = config.find(Key("defaults"));
  if (!list) return items;
  if (list->kind != Kind::kList)
    fail(ErrorKind::kConfig, "{}: 'defaults' is a {}, expected a list", file, name(list->kind));
  for (const NodePtr& item : list->items) items.push_back(read_item(*item));
  config.erase(Key("defaults"));
  return items;
}

// A file that holds one string is YAML inside YAML to OmegaConf.
NodePtr parse_file(const std::string& text, const std::string& file) {
  NodePtr config = parse_yaml(text, file);
  if (config->kind == Kind::kString) {
    const std::string inner = config->text;
    config = parse_yaml(inner, file);
    if (config->kind == Kind::kString) {
      NodePtr map = Node::map();
      map->set(Key(config->text), Node::null());
      return map;
    }
  }
  if (config->kind == Kind::kNull) return Node::map();
  if (!config->is_container())
    fail(ErrorKind::kConfig, "{} holds a single {}, expected a mapping or a list", file, name(config->kind));
  return config;
}

}  // namespace

Repository::Repository(const std::string& folder) {
  if (!fs::is_directory(folder)) fail(ErrorKind::kNotFound, "there is no configuration folder {}", folder);
  if (access(folder.c_str(), R_OK | X_OK) != 0)
    fail(ErrorKind::kResource, "the configuration folder {}: {}", folder, std::strerror(errno));
  folders_.push_back(folder);
}

void Repository::add_folder(const std::string& folder) { folders_.push_back(folder); }

bool Repository::has_group(const std::string& group) const {
  return std::any_of(folders_.begin(), folders_.end(), [&](const std::string& folder) {
    std::error_code error;
    return fs::is_directory(fs::path(folder) / group, error);
  });
}

std::optional<std::string> Repository::find(const std::string& path) const {
  const std::string file = path.ends_with(".yaml") ? path : path + ".yaml";
  for (const std::string& folder : folders_) {
    const fs::path full = fs::path(folder) / file;
    std::error_code error;
    if (fs::exists(full, error) || error) return full.string();  // which read_text_file() tells the reason of
  }
  return std::nullopt;
}

bool Repository::has_config(const std::string& path) const { return find(path).has_value(); }

const ConfigFile* Repository::load(const std::string& path) {
  const auto cached = files_.find(path);
  if (cached != files_.end()) return cached->second.get();
  const std::optional<std::string> file = find(path);
  std::unique_ptr<ConfigFile> loaded;
  if (file) {
    loaded = std::make_unique<ConfigFile>();
    const std::string text = read_text_file(*file);
    loaded->package = package_header(text, *file);
    loaded->config = parse_file(text, *file);
    if (loaded->config->kind == Kind::kMap) loaded->defaults = take_defaults(*loaded->config, *file);
  }
  return files_.emplace(path, std::move(loaded)).first->second.get();
}

std::vector<std::string> Repository::options(const std::string& group) const {
  std::set<std::string> names;
  for (const std::string& folder : folders_) {
    std::error_code error;
    for (fs::directory_iterator it(fs::path(folder) / group, error), end; !error && it != end;
         it.increment(error))
      if (it->path().extension() == ".yaml") names.insert(it->path().stem().string());
  }
  return {names.begin(), names.end()};
}

}  // namespace flagscale::config
