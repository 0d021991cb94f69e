#include "app/model_argument.h"

#include <fmt/format.h>

#include <filesystem>
#include <set>
#include <vector>

#include "base/error.h"
#include "config/compose.h"
#include "config/key_table.h"
#include "hub/fetch.h"
#include "hub/http.h"
#include "io/checkpoint.h"
#include "train/keys/train_keys.h"

namespace flagscale {

namespace fs = std::filesystem;

namespace {

// ./examples, then the ones installed beside the program.
std::vector<fs::path> example_folders() {
  std::error_code error;
  const fs::path program = fs::read_symlink("/proc/self/exe", error).parent_path();
  return {"examples", program / "../share/flagscale/examples", program / "../examples"};
}

}  // namespace

std::vector<std::string> example_names() {
  std::set<std::string> names;
  for (const fs::path& folder : example_folders()) {
    std::error_code error;
    for (const auto& entry : fs::directory_iterator(folder, error))
      if (fs::exists(entry.path() / "conf")) names.insert(entry.path().filename());
  }
  return {names.begin(), names.end()};
}

bool is_model_path(const std::string& model) {
  if (!fs::exists(model)) return false;
  const bool holds =
      fs::is_regular_file(model) || fs::exists(fs::path(model) / "config.json") || io::is_checkpoint(model);
  return holds || example_conf(model).empty();  // else it is named like an example, and only that
}

std::string example_conf(const std::string& name) {
  if (name.find('/') != std::string::npos) return {};
  for (const fs::path& folder : example_folders())
    if (fs::exists(folder / name / "conf")) return (folder / name / "conf").lexically_normal();
  return {};
}

void unknown_model(const std::string& model, const std::string& hub) {
  const std::vector<std::string> names = example_names();
  fail(ErrorKind::kNotFound,
       "MODEL '{}' is none of: an existing path (Hugging Face folder, checkpoint, .gguf file); the name of "
       "an example ({}); "
       "owner/name on the hub{}",
       model, names.empty() ? "none here" : fmt::format("{}", fmt::join(names, ", ")),
       hub.empty() ? "" : " (" + hub + ")");
}

namespace {

std::string hub_model(const std::string& model) {
  if (!hub::is_model_id(model)) unknown_model(model);
  try {
    return hub::fetch_model(hub::parse_model_id(model), hub::settings());
  } catch (const hub::NetworkError& error) {
    unknown_model(model, error.what());
  } catch (const Error& error) {
    if (error.kind() == ErrorKind::kNotFound) unknown_model(model, error.what());
    throw;
  }
}

config::Composed compose_example(const std::string& conf, const char* name) {
  config::ComposeRequest request;
  request.folder = conf;
  request.name = name;
  return config::compose(request);
}

// Where a training saves: its key `save`, else FlagScale's <exp_dir>/checkpoints.
std::string checkpoints_of(const config::Composed& train) {
  for (const config::FlatKey& key : config::flatten_keys(train.root(), train::train_sections()))
    if (key.name == "save")
      if (const config::NodePtr save = train.value(key.path)) return config::python_str(*save);
  const config::NodePtr exp_dir = train.value("experiment.exp_dir");
  return (exp_dir ? exp_dir->text : "outputs") + "/checkpoints";
}

// engine_args.model of the first service that names one.
std::string served_model(const std::string& model, const std::string& conf) {
  const config::Composed serve = compose_example(conf, "serve");
  const config::NodePtr services = serve.value("serve");
  for (size_t i = 0; services && i < services->items.size(); ++i)
    if (const config::NodePtr path = serve.value(fmt::format("serve.{}.engine_args.model", i)))
      return path->text;
  fail(ErrorKind::kConfig, "example {} names no model (serve[].engine_args.model in {}/serve.yaml)", model,
       conf);
}

// What the example has trained, else what it serves.
std::string example_model(const std::string& model, const std::string& conf) {
  const auto has = [&](const char* file) { return fs::exists(fs::path(conf) / file); };
  const std::string trained = has("train.yaml") ? checkpoints_of(compose_example(conf, "train")) : "";
  if (!trained.empty() && (fs::exists(trained) || !has("serve.yaml"))) {
    if (fs::exists(trained)) return trained;
    fail(ErrorKind::kNotFound,
         "example {} has no checkpoint yet ({} does not exist): run `flagscale train {}` first", model,
         trained, model);
  }
  const std::string served = served_model(model, conf);
  if (fs::exists(served)) return served;
  fail(ErrorKind::kNotFound,
       "example {} serves {}, which does not exist: put the model there, or give its path as MODEL{}", model,
       served, trained.empty() ? "" : fmt::format("; nor has it trained one ({})", trained));
}

}  // namespace

std::string model_path(const std::string& model) {
  if (is_model_path(model)) return model;
  const std::string conf = example_conf(model);
  return conf.empty() ? hub_model(model) : example_model(model, conf);
}

}  // namespace flagscale
