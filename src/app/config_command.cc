#include <fmt/core.h>

#include <CLI/CLI.hpp>
#include <memory>
#include <string>

#include "app/command.h"
#include "config/compose.h"
#include "config/show.h"

namespace flagscale {
namespace {

struct Options {
  config::ComposeRequest request;
  bool flat = false, json = false;
};

void add_source(CLI::App& app, const std::shared_ptr<Options>& options, bool required) {
  auto* path = app.add_option("--config-path", options->request.folder, "folder of the configuration");
  auto* name = app.add_option("--config-name", options->request.name, "file in it, without .yaml");
  if (required) path->required(), name->required();
}

void setup_show(CLI::App& app) {
  const auto options = std::make_shared<Options>();
  add_source(app, options, true);
  app.add_option("overrides", options->request.overrides, "key=value, +key=value, ~key, group=option");
  app.add_flag("--flat", options->flat, "one JSON object from dotted key to value");
  app.add_flag("--json", options->json, "nested JSON");
  app.callback([=] {
    const config::NodePtr root = config::compose(options->request).root();
    fmt::print("{}", options->flat   ? config::to_flat_json(root)
                     : options->json ? config::to_json(root)
                                     : config::to_yaml(root));
  });
}

void setup(CLI::App& app) {
  app.require_subcommand(1);
  setup_show(*app.add_subcommand("show", "print a configuration, composed and resolved"));
}

const Registration<Command> kConfig{"config", {"compose, check and explain configurations", &setup}};

}  // namespace
}  // namespace flagscale
