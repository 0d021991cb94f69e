#include "launch/adapter/train_tree.h"

#include <fmt/format.h>

#include "base/error.h"
#include "base/log.h"

namespace flagscale::launch {
namespace {

using config::Entry;
using config::Kind;
using config::Node;
using config::NodePtr;

// FlagScale makes "None" a folder of that name. It is what YAML calls null, written in Python's way.
bool is_none(const NodePtr& value) {
  return !value || value->kind == Kind::kNull ||
         (value->kind == Kind::kString && (value->text.empty() || value->text == "None"));
}

void set_path(const NodePtr& section, const std::string& key, const std::filesystem::path& otherwise) {
  const NodePtr given = section->find({key});
  if (given && given->kind == Kind::kString && given->text == "None")
    warn("{}: {} is the text 'None': read as null, which is {}", describe(given->origin), key,
         otherwise.string());
  section->set(
      {key}, Node::string(is_none(given) ? otherwise.string() : absolute_path(python_str(*given)).string()));
}

NodePtr section_of(const NodePtr& tree, const std::string& key) {
  NodePtr section = tree->find({key});
  if (section && section->kind == Kind::kMap) return section;
  tree->set({key}, Node::map());
  return tree->find({key});
}

}  // namespace

NodePtr train_tree(const Experiment& e, const Job& job) {
  const NodePtr train = e.map("train");
  if (train->entries.empty()) fail(ErrorKind::kConfig, "the configuration has no `train`: nothing to do");
  const NodePtr system = section_of(train, "system");
  if (e.flag("experiment.runner.no_shared_fs")) system->set({"no_shared_fs"}, Node::boolean(true));
  const NodePtr checkpoint = section_of(system, "checkpoint"), logging = section_of(system, "logging");
  set_path(checkpoint, "save", job.experiment / "checkpoints");
  set_path(checkpoint, "load", job.experiment / "checkpoints");
  set_path(logging, "wandb_save_dir", job.experiment / "wandb");
  set_path(logging, "tensorboard_dir", job.experiment / "tensorboard");
  return train;
}

NodePtr merged_sections(const Node& train) {
  const NodePtr merged = Node::map();
  for (const char* name : {"system", "model", "data"})
    if (const NodePtr section = train.find({name}); section && section->kind == Kind::kMap)
      for (const Entry& entry : section->entries) merged->set(entry.key, entry.value->copy());
  return merged;
}

}  // namespace flagscale::launch
