#include "launch/experiment.h"

#include <cstdlib>

#include "base/error.h"
#include "base/log.h"
#include "config/edit.h"
#include "config/read_value.h"
#include "config/required.h"
#include "config/resolve.h"

namespace flagscale::launch {
namespace {

namespace fs = std::filesystem;
using config::Kind;
using config::Node;
using config::NodePtr;

// FlagScale moves it whole, over one that is there.
void move_deploy(const NodePtr& root) {
  const NodePtr experiment = config::select_value(root, "experiment");
  if (!experiment || experiment->kind != Kind::kMap) return;
  const NodePtr deploy = experiment->find({"deploy"});
  if (!deploy || deploy->kind != Kind::kMap || deploy->entries.empty()) return;
  warn("{}: experiment.deploy is the old place of experiment.runner.deploy: it is read from there",
       describe(deploy->origin));
  experiment->erase({"deploy"});
  config::update(*root, "experiment.runner.deploy", deploy->copy(), config::Update::kReplace, true);
}

}  // namespace

fs::path absolute_path(const std::string& path) { return fs::absolute(path).lexically_normal(); }

Experiment::Experiment(const config::Composed& composed, fs::path folder, bool planning)
    : root_(composed.root()->copy()), folder_(std::move(folder)), planning_(planning) {
  move_deploy(root_);
  if (!composed.hydra()) return;
  hydra_ = composed.hydra()->copy();
  hydra_->parent = root_.get();  // so that ${experiment.exp_dir} in it resolves
}

fs::path Experiment::hydra_folder() const {
  const NodePtr raw = hydra_ ? config::select_raw(hydra_, "run.dir") : nullptr;
  return absolute_path(raw ? python_str(*config::resolved_copy(raw, "hydra.run.dir")) : "outputs");
}

NodePtr Experiment::value(const std::string& path) const {
  const NodePtr raw = config::select_raw(root_, path);
  if (!raw) return nullptr;
  std::vector<std::string> unknown;
  const NodePtr value = config::resolved_copy(raw, path, planning_ ? &unknown : nullptr);
  for (const std::string& why : unknown)
    if (told_.insert(why).second) warn("{}; a run would stop here", why);
  return value->kind == Kind::kNull ? nullptr : value;
}

NodePtr Experiment::map(const std::string& path) const {
  NodePtr node = value(path);
  if (!node) return Node::map();
  if (node->kind != Kind::kMap)
    fail(ErrorKind::kConfig, "{} must be a mapping, got {}", place(path), config::name(node->kind));
  return node;
}

std::string Experiment::text(const std::string& path, const std::string& otherwise) const {
  const NodePtr node = value(path);
  if (!node) return otherwise;
  if (node->is_container())
    fail(ErrorKind::kConfig, "{} must be one value, got {}", place(path), config::name(node->kind));
  return python_str(*node);
}

int64_t Experiment::number(const std::string& path, int64_t otherwise, int64_t least) const {
  const NodePtr node = value(path);
  if (!node) return otherwise;
  int64_t number = 0;
  try {
    config::read_value(*node, number);
  } catch (const Error& error) {
    fail(ErrorKind::kConfig, "{} {}", place(path), error.what());
  }
  if (number < least) fail(ErrorKind::kConfig, "{} must be at least {}, got {}", place(path), least, number);
  return number;
}

bool Experiment::flag(const std::string& path, bool otherwise) const {
  const NodePtr node = value(path);
  if (!node) return otherwise;
  bool flag = false;
  try {
    config::read_value(*node, flag);
  } catch (const Error& error) {
    fail(ErrorKind::kConfig, "{} {}", place(path), error.what());
  }
  return flag;
}

std::string Experiment::place(const std::string& path) const {
  const NodePtr raw = config::select_raw(root_, path);
  const std::string where = raw ? describe(raw->origin) : "";
  return where.empty() ? path : where + ": " + path;
}

fs::path Experiment::directory() const {
  const std::string given = text("experiment.exp_dir");
  if (given.empty())
    fail(ErrorKind::kConfig,
         "required value experiment.exp_dir is not set: the folder that everything is written to; give it as "
         "an "
         "override: experiment.exp_dir=outputs/NAME");
  return absolute_path(given);
}

fs::path Experiment::checkout(const std::string& script) const {
  if (const char* given = std::getenv("FLAGSCALE_ROOT"); given && *given) return absolute_path(given);
  fs::path here = fs::current_path();
  if (script.empty() || fs::path(script).is_absolute()) return here;
  for (const fs::path& start : {folder_.empty() ? here : fs::absolute(folder_).lexically_normal(), here})
    for (fs::path at = start;; at = at.parent_path()) {
      std::error_code none;
      if (fs::exists(at / script, none)) return at;
      if (at == at.parent_path()) break;
    }
  return here;
}

}  // namespace flagscale::launch
