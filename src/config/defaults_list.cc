#include "config/defaults_list.h"

#include <fmt/format.h>

#include <algorithm>
#include <set>

#include "base/error.h"
#include "config/group_choices.h"
#include "config/hydra_settings.h"
#include "config/resolve.h"

namespace flagscale::config {
namespace {

constexpr size_t kMaxFiles = 1000;

// A file in the tree that defaults lists span, with what its place in the tree decides. Names follow Hydra's.
struct Place {
  DefaultItem item;
  bool primary = false, self = false;
  std::string parent_group;  // the group that its path is relative to
  std::string parent_package;
  std::optional<std::string> header;  // its file's "# @package"

  bool absolute() const { return item.path.starts_with('/'); }
  std::string relative_path() const { return absolute() ? item.path.substr(1) : item.path; }
  std::string relative_group() const {
    std::string path = relative_path();
    if (item.is_group) return path;
    const size_t slash = path.rfind('/');
    return slash == std::string::npos ? "" : path.substr(0, slash);
  }
  std::string group() const {
    std::string relative = relative_group();
    if (absolute() || parent_group.empty()) return relative;
    return relative.empty() ? parent_group : parent_group + "/" + relative;
  }
  std::optional<std::string> name() const {
    if (item.is_group) return item.option;
    return item.path.substr(item.path.rfind('/') + 1);
  }
  std::string config_path() const {
    if (item.is_group) return group() + "/" + item.option.value_or("");
    return absolute() || parent_group.empty() ? relative_path() : parent_group + "/" + relative_path();
  }

  std::optional<std::string> package(bool with_header) const {
    return item.package || !with_header ? item.package : header;
  }
  std::string final_package(bool with_header) const {
    std::string own = relative_group();
    std::replace(own.begin(), own.end(), '/', '.');
    own = package(with_header).value_or(own);
    std::string joined = parent_package.empty() ? own
                         : own.empty()          ? parent_package
                                                : parent_package + "." + own;
    const std::string global = "_global_";
    const size_t at = joined.rfind(global);
    if (at == std::string::npos) return joined;
    return joined.substr(std::min(joined.size(), at + global.size() + 1));
  }
  std::string choice_key() const {
    std::string usual = group();
    std::replace(usual.begin(), usual.end(), '/', '.');
    const std::string final = final_package(false);
    if (usual == final) return group();
    return group() + "@" + (final.empty() ? "_global_" : final);
  }
  void settle(const std::string& group_above, const std::string& package_above) {
    parent_group = group_above;
    parent_package = package_above;
    const std::string mark = "_group_";
    if (!item.package || item.package->find(mark) == std::string::npos) return;
    std::string usual = group();
    std::replace(usual.begin(), usual.end(), '/', '.');
    item.package->replace(item.package->find(mark), mark.size(), usual);
    item.package = "_global_." + *item.package;
  }
};

// A header is counted from the root, whatever list names the file.
std::optional<std::string> absolute_header(const std::optional<std::string>& header) {
  if (!header || *header == "_global_" || header->starts_with("_global_.")) return header;
  return "_global_." + *header;
}

class Expander {
 public:
  Expander(Repository& repository, GroupChoices& choices) : repository_(repository), choices_(choices) {}

  // Appends the files of `place`, in merging order reversed: lists are walked from the end, because a later
  // entry's "override" decides for an earlier one.
  void expand(Place place, const Place* above, bool in_interpolation, std::vector<ResultFile>& out) {
    if (++depth_ > kMaxDepth || out.size() > kMaxFiles)
      fail(ErrorKind::kConfig, "the defaults list of '{}' contains itself", place.config_path());
    expand_here(std::move(place), above, in_interpolation, out);
    --depth_;
  }

 private:
  void expand_here(Place place, const Place* above, bool in_interpolation, std::vector<ResultFile>& out) {
    if (place.name() && place.name() != "???")
      if (const ConfigFile* file = repository_.load(place.config_path()))
        place.header = absolute_header(file->package);
    if (place.item.is_group) {
      if (choices_.deleted(place.choice_key(), place.name())) return;
      choices_.note(place.choice_key(), place.group(), place.name());
    }
    if (!place.name()) return;
    if (place.config_path().ends_with("???")) must_choose(place);
    const ConfigFile* file = repository_.load(place.config_path());
    if (file == nullptr) {
      if (place.item.optional) return;
      not_found(place, above);
    }
    std::vector<Place> children = children_of(place, *file);
    take_overrides(place, children, in_interpolation);
    // A list of nothing but overrides brings no file and has no place for its own: the file is as without it.
    if (std::all_of(children.begin(), children.end(),
                    [](const Place& child) { return child.item.is_override; }))
      return emit(place, false, out);
    expand_children(place, children, in_interpolation, out);
  }

  std::vector<Place> children_of(const Place& place, const ConfigFile& file) {
    std::vector<Place> children;
    bool has_self = false, has_file = false;
    for (const DefaultItem& item : file.defaults) {
      Place child;
      child.item = item;
      child.self = item.is_group ? item.option == "_self_" : item.path == "_self_";
      if (child.self && has_self)
        fail(ErrorKind::kConfig, "{}: _self_ stands in the defaults list twice", describe(item.origin));
      has_self = has_self || child.self;
      has_file = has_file || !item.is_override;
      children.push_back(child);
    }
    const bool appends = place.primary && !choices_.appended.empty();
    if ((!children.empty() || appends) && ((!has_self && has_file) || children.empty())) {
      Place self;
      self.item.path = "_self_";
      self.self = true;
      children.push_back(self);
    }
    if (place.primary) {
      for (const DefaultItem& item : choices_.appended) {
        Place child;
        child.item = item;
        children.push_back(child);
      }
    }
    for (Place& child : children)
      if (!child.self) child.settle(place.group(), place.final_package(true));
    return children;
  }

  // "override group: option" entries come last in a list and choose for the whole tree.
  void take_overrides(const Place& place, const std::vector<Place>& children, bool in_interpolation) {
    bool seen = false;
    const size_t appended = place.primary ? choices_.appended.size() : 0;
    for (size_t i = 0; i < children.size(); ++i) {
      const Place& child = children[i];
      if (child.self) continue;
      if (seen && !child.item.is_override && i + appended < children.size())
        fail(ErrorKind::kConfig, "{}: entries with 'override' must be at the end of the defaults list",
             describe(child.item.origin));
      if (!child.item.is_override) continue;
      seen = true;
      if (in_interpolation)
        fail(ErrorKind::kConfig, "{}: no 'override' below an interpolated choice",
             describe(child.item.origin));
      choices_.add_from_file(child.choice_key(), child.item);
    }
  }

  void expand_children(const Place& place, std::vector<Place>& children, bool in_interpolation,
                       std::vector<ResultFile>& out) {
    // Each child's files; interpolated choices wait until the others are known.
    std::vector<std::vector<ResultFile>> parts(children.size());
    std::vector<size_t> waiting;
    for (size_t i = children.size(); i-- > 0;) {
      Place& child = children[i];
      if (child.self) {
        emit(place, true, parts[i]);
      } else if (!child.item.is_override) {
        choose(child);
        if (child.item.is_list)
          expand_options(child, place, in_interpolation, parts[i]);
        else if (is_interpolated(child))
          waiting.push_back(i);
        else
          expand(child, &place, in_interpolation, parts[i]);
      }
    }
    for (const size_t i : waiting) {
      interpolate(children[i], children);
      children[i].settle(place.group(), place.final_package(true));
      expand(children[i], &place, true, parts[i]);
    }
    for (const std::vector<ResultFile>& part : parts) out.insert(out.end(), part.begin(), part.end());
  }

  void choose(Place& child) {
    if (!child.item.is_group) return;
    const Choice* choice = choices_.chosen(child.choice_key());
    if (choice == nullptr) return;
    child.item.option = choice->option;
    child.item.options = choice->options;
    child.item.is_list = choice->is_list;
  }

  void expand_options(const Place& child, const Place& place, bool in_interpolation,
                      std::vector<ResultFile>& out) {
    std::vector<std::vector<ResultFile>> parts(child.item.options.size());
    for (size_t i = child.item.options.size(); i-- > 0;) {
      Place option;
      option.item.path = child.item.path + "/" + child.item.options[i];
      option.item.package = child.item.package;
      option.item.optional = child.item.optional;
      option.item.origin = child.item.origin;
      if (option.item.path.find("${") != std::string::npos)
        fail(ErrorKind::kConfig, "{}: no interpolation in a list of options", describe(child.item.origin));
      option.settle(place.group(), place.final_package(true));
      expand(option, &place, in_interpolation, parts[i]);
    }
    for (const std::vector<ResultFile>& part : parts) out.insert(out.end(), part.begin(), part.end());
  }

  static bool is_interpolated(const Place& child) {
    const std::string text = child.item.is_group ? child.item.option.value_or("") : child.config_path();
    return text.find("${") != std::string::npos;
  }

  // "${group}" is the option chosen for that group.
  void interpolate(Place& child, const std::vector<Place>& siblings) {
    const NodePtr known = Node::map();
    for (const auto& [key, option] : choices_.known())
      known->set(Key(key), option ? Node::string(*option) : Node::null());
    const NodePtr list = Node::list();
    for (const Place& sibling : siblings) {
      if (sibling.self) continue;
      const NodePtr entry = Node::map();
      if (sibling.item.is_group && !sibling.item.is_list)
        entry->set(Key(sibling.choice_key()), Node::string(sibling.item.option.value_or("")));
      list->append(sibling.item.is_group ? entry : Node::string(sibling.config_path()));
    }
    known->set(Key("defaults"), list);
    const NodePtr text = Node::string(child.item.is_group ? *child.item.option : child.config_path());
    known->set(Key("_dummy_"), text);
    try {
      const NodePtr value = resolve(text);
      if (value->kind != Kind::kString) fail(ErrorKind::kConfig, "it is a {}", name(value->kind));
      if (child.item.is_group)
        child.item.option = value->text;
      else
        child.item.path = value->text;
    } catch (const Error& error) {
      fail(ErrorKind::kConfig, "{}: cannot tell what '{}' chooses: {}", describe(child.item.origin),
           text->text, error.what());
    }
  }

  void emit(const Place& place, bool self, std::vector<ResultFile>& out) {
    if (!self && place.item.is_group && !seen_.insert(place.choice_key()).second)
      fail(ErrorKind::kConfig, "{} appears more than once in the final defaults list", place.choice_key());
    out.push_back({place.config_path(), place.final_package(true), place.primary});
  }

  [[noreturn]] void must_choose(const Place& place) const {
    const std::string key = place.item.is_group ? place.choice_key() : place.item.path;
    fail(ErrorKind::kConfig, "choose one with {}=…; there are: {}", key,
         fmt::join(repository_.options(place.group()), ", "));
  }

  [[noreturn]] void not_found(const Place& place, const Place* above) const {
    const std::string where = above != nullptr ? " (wanted by " + above->config_path() + ")" : "";
    const std::vector<std::string> options = repository_.options(place.group());
    const std::string listed =
        options.empty() ? "" : fmt::format("; there are: {}", fmt::join(options, ", "));
    fail(ErrorKind::kConfig, "there is no configuration '{}'{}{}", place.config_path(), where, listed);
  }

  Repository& repository_;
  GroupChoices& choices_;
  std::set<std::string> seen_;
  int depth_ = 0;
};

}  // namespace

DefaultsList defaults_list(Repository& repository, const std::string& config_name,
                           const std::vector<Override>& overrides) {
  GroupChoices choices(repository, overrides);
  Place primary;
  primary.item.path = config_name;
  primary.primary = true;
  DefaultsList result;
  Expander(repository, choices).expand(primary, nullptr, false, result.files);
  choices.check_used();
  result.values = std::move(choices.values);
  return result;
}

}  // namespace flagscale::config
