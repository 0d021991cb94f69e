#include <CLI/CLI.hpp>
#include <filesystem>
#include <memory>

#include "app/command.h"
#include "app/model_argument.h"
#include "app/training.h"
#include "base/error.h"

namespace flagscale::train_command {
namespace {

namespace fs = std::filesystem;

struct Options {
  std::string model;
  std::vector<std::string> rest;  // [YAML] [overrides...]
  std::string action;
  std::string device = "auto";
  bool json = false;
};

bool is_override(const std::string& text) {
  return text.find('=') != std::string::npos || text.starts_with('~');
}
bool is_yaml(const std::string& text) { return text.ends_with(".yaml") || text.ends_with(".yml"); }

// The words that were typed may come in another order than they are to.
void check_order(const Options& o) {
  std::error_code error;
  if (is_yaml(o.model) && !fs::is_directory(o.model, error)) {
    const std::vector<std::string> names = example_names();
    const bool named = !o.rest.empty() && !is_override(o.rest[0]) && !is_yaml(o.rest[0]);
    fail(
        ErrorKind::kInvalidArgument,
        "{} is a YAML, where MODEL comes first (an example's name, or the weights to start from): `flagscale "
        "train {} {}`",
        o.model,
        named           ? o.rest[0]
        : names.empty() ? "MODEL"
                        : names[0],
        o.model);
  }
  for (size_t i = 1; i < o.rest.size(); ++i)
    if (is_yaml(o.rest[i]) && !is_override(o.rest[i]))
      fail(ErrorKind::kInvalidArgument,
           "{} comes too late: one YAML comes before the overrides, `flagscale train {} {} key=value`",
           o.rest[i], o.model, o.rest[i]);
}

void train(const Options& o) {
  check_order(o);
  TrainingRequest request;
  request.action = o.action;
  request.json = o.json;
  request.device = choose_device(o.device);
  auto& c = request.configuration;
  c.overrides = o.rest;
  std::string yaml;
  if (!c.overrides.empty() && (is_yaml(c.overrides[0]) || !is_override(c.overrides[0]))) {
    yaml = c.overrides[0];
    c.overrides.erase(c.overrides.begin());
  }
  const bool weights = is_model_path(o.model);
  c.folder = weights ? "" : example_conf(o.model);
  c.name = "train";
  if (weights) {
    if (yaml.empty())
      fail(ErrorKind::kInvalidArgument,
           "{} holds weights to start from: give the YAML that says how to train them, `flagscale train {} "
           "my/conf/train.yaml`",
           o.model, o.model);
    request.init_from = o.model;
  } else if (c.folder.empty()) {
    unknown_model(o.model);
  }
  if (!yaml.empty()) {
    if (!fs::exists(yaml)) fail(ErrorKind::kNotFound, "{} does not exist (overrides are key=value)", yaml);
    c.folder = fs::path(yaml).has_parent_path() ? fs::path(yaml).parent_path().string() : ".";
    c.name = fs::path(yaml).stem().string();
  }
  run_training(request);
}

void setup(CLI::App& app) {
  const auto o = std::make_shared<Options>();
  app.add_option("model", o->model, "an example's name, or a Hugging Face folder or .gguf file to start from")
      ->required();
  app.add_option("yaml_and_overrides", o->rest, "[YAML] [key=value ...]");
  app.add_option("--action", o->action, "run, dryrun (plan only) or test (5 iterations, nothing saved)")
      ->check(CLI::IsMember({"run", "dryrun", "test"}));
  app.add_option("--device", o->device, "auto (a GPU where there is one), cpu or cuda")
      ->capture_default_str()
      ->check(CLI::IsMember({"auto", "cpu", "cuda"}));
  app.add_flag("--json", o->json, "the result as one JSON object; log lines go to stderr");
  app.footer(
      "Examples:\n  flagscale train aquila data_path=data/text_document tokenizer_path=data/tokenizer\n"
      "  flagscale train aquila train=7b data_path=data/text_document --action dryrun\n"
      "  flagscale train models/SmolLM2-135M-Instruct my/conf/train.yaml "
      "train.model.optimizer.lr_scheduler.lr=1e-5");
  app.callback([o] { train(*o); });
}

const Registration<Command> kTrain{"train", {"train a model from an example's or your own YAML", &setup}};

}  // namespace
}  // namespace flagscale::train_command
