#include <CLI/CLI.hpp>
#include <memory>

#include "app/command.h"
#include "app/training.h"

namespace flagscale {
namespace {

void setup(CLI::App& app) {
  const auto request = std::make_shared<TrainingRequest>();
  app.add_option("--config-path", request->configuration.folder, "folder of the configuration")->required();
  app.add_option("--config-name", request->configuration.name, "file in it, without .yaml")->required();
  app.add_option("overrides", request->configuration.overrides, "key=value, +key=value, ~key, group=option");
  app.add_flag("--json", request->json, "the result as one JSON object; log lines go to stderr");
  app.footer(
      "Examples:\n  flagscale run --config-path examples/aquila/conf --config-name train action=dryrun\n"
      "  flagscale run --config-path examples/aquila/conf --config-name train data_path=data/text_document "
      "tokenizer_path=data/tokenizer");
  app.callback([request] { run_training(*request); });
}

const Registration<Command> kRun{"run",
                                 {"run a FlagScale configuration: action=run, dryrun or test", &setup}};

}  // namespace
}  // namespace flagscale
