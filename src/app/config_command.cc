#include <fmt/core.h>

#include <CLI/CLI.hpp>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>

#include "app/command.h"
#include "app/serving.h"
#include "app/training.h"
#include "base/error.h"
#include "base/log.h"
#include "config/explain.h"
#include "config/schema.h"
#include "config/show.h"
#include "launch/check_launch.h"
#include "train/keys/train_keys.h"

namespace flagscale::config_command {
namespace {

struct Options {
  config::ComposeRequest request;
  std::string key;
  bool flat = false, json = false, markdown = false;
};
using Shared = std::shared_ptr<Options>;

void add_source(CLI::App& app, const Shared& options, bool required) {
  auto* path = app.add_option("--config-path", options->request.folder, "folder of the configuration");
  auto* name = app.add_option("--config-name", options->request.name, "file in it, without .yaml");
  app.add_option("overrides", options->request.overrides,
                 "key=value, +key=value, ++key=value, ~key, group=option");
  path->needs(name);
  name->needs(path);
  if (required) path->required(), name->required();
}

void setup_show(CLI::App& app) {
  const auto options = std::make_shared<Options>();
  add_source(app, options, true);
  app.add_flag("--flat", options->flat, "one JSON object from dotted key to value");
  app.add_flag("--json", options->json, "nested JSON");
  app.footer(
      "Examples:\n  flagscale config show --config-path examples/aquila/conf --config-name train\n"
      "  flagscale config show --config-path examples/aquila/conf --config-name train --flat train=7b");
  app.callback([=] {
    const config::NodePtr root = config::compose(options->request).root();
    fmt::print("{}", options->flat   ? config::to_flat_json(root)
                     : options->json ? config::to_json(root)
                                     : config::to_yaml(root));
  });
}

void setup_explain(CLI::App& app) {
  const auto options = std::make_shared<Options>();
  app.add_option("key", options->key, "a key, with or without its path")->required();
  add_source(app, options, false);
  app.add_flag("--json", options->json, "one JSON object");
  app.footer(
      "Examples:\n  flagscale config explain train.model.rotary_base\n"
      "  flagscale config explain lr --config-path examples/aquila/conf --config-name train");
  app.callback([=] {
    std::unique_ptr<config::Composed> composed;
    if (!options->request.folder.empty())
      composed = std::make_unique<config::Composed>(config::compose(options->request));
    const auto result =
        config::explain(train::train_schema(), train::train_sections(), options->key, composed.get());
    fmt::print("{}", options->json ? config::to_json(result) : config::to_text(result));
  });
}

struct Validated {
  std::string type;
  train::TrainReading reading;  // of a training task
};

// With --json a refusal is a result too, so it is printed as one; the exit code stays.
Validated validated(const Options& options) {
  try {
    const config::Composed composed = config::compose(options.request);
    launch::check_launch(launch::Experiment(composed, options.request.folder, true), composed);
    Validated result{task_type(composed), {}};
    if (result.type == "serve" || result.type == "inference") {
      check_serving_task(composed, result.type);
      return result;
    }
    training_action(composed);
    result.reading = train::read_train_config(composed);
    train::check_train_config(result.reading.config);
    result.type = "training";
    return result;
  } catch (const Error& error) {
    const nlohmann::ordered_json out{{"valid", false}, {"error", error.what()}};
    if (options.json) fmt::print("{}\n", out.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace));
    throw;
  }
}

void setup_validate(CLI::App& app) {
  const auto options = std::make_shared<Options>();
  add_source(app, options, true);
  app.add_flag("--json", options->json, "one JSON object");
  app.footer(
      "Examples:\n  flagscale config validate --config-path examples/aquila/conf --config-name train "
      "data_path=book tokenizer_path=tok");
  app.callback([=] {
    const auto [type, reading] = validated(*options);
    if (options->json) {
      const nlohmann::ordered_json out{
          {"valid", true}, {"notes", reading.notes}, {"ignored", reading.ignored}};
      return fmt::print("{}\n", out.dump());
    }
    for (const std::string& note : reading.notes) info("{}", note);
    if (!reading.ignored.empty()) info("{}", reading.ignored_line());
    fmt::print("{} is a valid {} configuration\n", options->request.name, type);
  });
}

nlohmann::ordered_json key_json(const config::KeyInfo& key) {
  return {{"key", key.name},        {"class", name(key.key_class)},
          {"type", key.type},       {"default", nlohmann::ordered_json::parse(key.default_json)},
          {"range", key.range},     {"required", key.required},
          {"aliases", key.aliases}, {"brought_by", key.brought_by},
          {"doc", key.doc}};
}

void setup_keys(CLI::App& app) {
  const auto options = std::make_shared<Options>();
  app.add_flag("--markdown", options->markdown, "as the page docs/keys.md");
  app.add_flag("--json", options->json, "one JSON object a line");
  app.footer(
      "Examples:\n  flagscale config keys\n  flagscale config keys --json | grep '\"class\":\"refused\"'");
  app.callback([=] {
    if (options->markdown) return fmt::print("{}", train::train_keys_page());
    for (const config::KeyInfo& key : train::train_schema().keys())
      options->json ? fmt::print("{}\n", key_json(key).dump())
                    : fmt::print("{:<44} {:<8} {}\n", key.name, name(key.key_class), key.doc);
  });
}

void setup(CLI::App& app) {
  app.require_subcommand(1);
  setup_show(*app.add_subcommand("show", "print a configuration, composed and resolved"));
  setup_explain(*app.add_subcommand("explain", "what a key means, and where its value came from"));
  setup_validate(
      *app.add_subcommand("validate", "check a train, serve or inference configuration without starting it"));
  setup_keys(*app.add_subcommand("keys", "list every key that a training configuration may have"));
  app.footer("Examples:\n  flagscale config explain train.model.rotary_base\n  flagscale config keys");
}

const Registration<Command> kConfig{"config", {"compose, check and explain configurations", &setup}};

}  // namespace
}  // namespace flagscale::config_command
