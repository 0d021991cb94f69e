#include "config/compose.h"

#include "base/error.h"
#include "config/defaults_list.h"
#include "config/edit.h"
#include "config/hydra_settings.h"
#include "config/override.h"
#include "config/repository.h"
#include "config/resolve.h"

namespace flagscale::config {
namespace {

// hydra.searchpath of the command line, else of the primary file: more folders to look in.
void add_search_path(Repository& repository, const std::string& name,
                     const std::vector<Override>& overrides) {
  NodePtr path;
  const ConfigFile* primary = repository.load(name);
  if (primary != nullptr && primary->config->kind != Kind::kMap)
    fail(ErrorKind::kConfig, "'{}' is a list, expected a mapping at the top", name);
  if (primary != nullptr) path = select_value(primary->config, "hydra.searchpath");
  for (const Override& override_ : overrides)
    if (override_.key_element() == "hydra.searchpath") path = override_.value;
  if (!path) return;
  bool strings = path->kind == Kind::kList;
  for (const NodePtr& item : path->items) strings = strings && item->kind == Kind::kString;
  if (!strings) fail(ErrorKind::kConfig, "hydra.searchpath is a list of folders, not {}", python_repr(*path));
  for (const NodePtr& item : path->items)
    repository.add_folder(item->text.starts_with("file://") ? item->text.substr(7) : item->text);
}

void merge_file(Node& root, Repository& repository, const ResultFile& file) {
  NodePtr content = repository.load(file.path)->config;
  if (!file.package.empty()) {
    const NodePtr outer = Node::map();
    update(*outer, file.package, content, Update::kReplace, true);
    content = outer;
  }
  const NodePtr hydra = content->kind == Kind::kMap ? content->find(Key("hydra")) : nullptr;
  if (hydra) {
    if (!file.primary && select_value(content, "hydra.searchpath"))
      fail(ErrorKind::kConfig, "'{}' sets hydra.searchpath, which only the primary file may", file.path);
    if (hydra->kind != Kind::kMap)
      fail(ErrorKind::kConfig, "{}: 'hydra' is a {}, expected a mapping", describe(hydra->origin),
           name(hydra->kind));
    merge_hydra_settings(*root.find(Key("hydra")), *hydra);
    content = content->copy();
    content->erase(Key("hydra"));
  }
  merge(root, *content, Mode::kOpen);
}

void apply_delete(const NodePtr& root, const Override& override_) {
  if (override_.key == "hydra") fail(ErrorKind::kConfig, "Hydra's own settings cannot be deleted");
  const NodePtr value = select_value(root, override_.key);
  if (!value) fail(ErrorKind::kConfig, "there is no '{}' to delete, or it is null", override_.key);
  if (override_.value && override_.value->kind != Kind::kNull && !equal(*override_.value, *value))
    fail(ErrorKind::kConfig, "'{}' is {}, not {}", override_.key, python_str(*value),
         python_str(*override_.value));
  const size_t dot = override_.key.rfind('.');
  const std::string last = dot == std::string::npos ? override_.key : override_.key.substr(dot + 1);
  const NodePtr container =
      dot == std::string::npos ? root : select_value(root, override_.key.substr(0, dot));
  if (!container || container->kind != Kind::kMap || !container->erase(Key(last)))
    fail(ErrorKind::kConfig, "'{}' is an item of a list, which cannot be deleted", override_.key);
}

void apply(const NodePtr& root, const Override& override_) {
  if (override_.has_package) fail(ErrorKind::kConfig, "there is no configuration group '{}'", override_.key);
  const bool add = override_.type == Override::Type::kAdd || override_.type == Override::Type::kForceAdd;
  if (override_.key.starts_with("hydra.")) check_hydra_override(override_.key, override_.value.get(), add);
  switch (override_.type) {
    case Override::Type::kDelete:
      return apply_delete(root, override_);
    case Override::Type::kChange:
      return update(*root, override_.key, override_.value, Update::kMerge, false);
    case Override::Type::kForceAdd:
      return update(*root, override_.key, override_.value, Update::kMerge, true);
    case Override::Type::kAdd:
      if (select_value(root, override_.key) && !override_.value->is_container())
        fail(ErrorKind::kConfig, "'{}' is there already; drop the + to change it, or write ++ for either",
             override_.key);
      return update(*root, override_.key, override_.value, Update::kMerge, true);
  }
}

void check_interpolations(const Node& node) {
  if (node.is_interpolation()) parse_interpolation(node.text);
  for (const Entry& entry : node.entries) check_interpolations(*entry.value);
  for (const NodePtr& item : node.items) check_interpolations(*item);
}

}  // namespace

NodePtr Composed::value(const std::string& path) const {
  try {
    return select_value(root_, path);
  } catch (const ResolutionError& error) {
    const std::string where = describe(select_raw(root_, path)->origin);
    throw ResolutionError(error.exception(),
                          fmt::format("{}{}{}: {}", where, where.empty() ? "" : ": ", path, error.what()));
  }
}

Composed compose(const ComposeRequest& request) {
  Repository repository(request.folder);
  const std::vector<Override> overrides = parse_overrides(request.overrides);
  add_search_path(repository, request.name, overrides);
  const DefaultsList list = defaults_list(repository, request.name, overrides);

  const NodePtr root = Node::map();
  root->set(Key("hydra"), hydra_settings());
  std::vector<std::string> files;
  for (const ResultFile& file : list.files) {
    try {
      merge_file(*root, repository, file);
    } catch (const Error&) {
      rethrow_with(file.path);
    }
    files.push_back(file.path);
  }
  for (const Override& override_ : list.values) {
    try {
      if (override_.value) check_interpolations(*override_.value);
      apply(root, override_);
    } catch (const Error& error) {
      fail(ErrorKind::kConfig, "the override '{}' is refused: {}", override_.text, error.what());
    }
  }
  NodePtr hydra = root->find(Key("hydra"));
  root->erase(Key("hydra"));
  if (hydra) hydra->parent = root.get();  // so that ${experiment.exp_dir} in hydra.run.dir still resolves
  return Composed(root, hydra, std::move(files));
}

}  // namespace flagscale::config
