#include <fmt/core.h>
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <memory>
#include <nlohmann/json.hpp>

#include "app/command.h"
#include "base/error.h"
#include "base/progress.h"
#include "hub/cache.h"
#include "hub/fetch.h"

namespace flagscale::models_command {
namespace {

struct Options {
  std::vector<std::string> models;
  bool json = false;
};

std::string size_text(uint64_t bytes) { return format_amount(static_cast<double>(bytes), "B"); }

void list(bool as_json) {
  const hub::Settings settings = hub::settings();
  const auto models = hub::list_models(settings.cache);
  if (as_json) {
    nlohmann::ordered_json out = nlohmann::ordered_json::array();
    for (const auto& m : models)
      out.push_back({{"model", m.repo},
                     {"bytes", m.bytes},
                     {"revisions", m.revisions},
                     {"complete", m.complete},
                     {"path", m.folder}});
    fmt::print("{}\n", out.dump());
    return;
  }
  uint64_t total = 0;
  for (const auto& m : models) {
    total += m.bytes;
    fmt::print("{:<48} {:>9}  {}{}\n", m.repo, size_text(m.bytes), fmt::join(m.revisions, ", "),
               m.complete ? "" : "  (cut off, or not a model that runs here)");
  }
  fmt::print("{} {} in {}, {}\n", models.size(), models.size() == 1 ? "model" : "models", settings.cache,
             size_text(total));
}

void add_fetch(CLI::App& app) {
  const auto options = std::make_shared<Options>();
  CLI::App* command = app.add_subcommand("fetch", "fetch models of the hub, or what has changed of them");
  command->add_option("models", options->models, "owner/name[@revision][:gguf]")->required();
  command->add_flag("--json", options->json, "one JSON array: model and path of each");
  command->footer(
      "Examples:\n  flagscale models fetch HuggingFaceTB/SmolLM2-135M-Instruct\n  flagscale models fetch "
      "owner/name-GGUF:Q4_K_M");
  command->callback([options] {
    nlohmann::ordered_json out = nlohmann::ordered_json::array();
    for (const std::string& model : options->models) {
      const std::string path =
          hub::fetch_model(hub::parse_model_id(model), hub::settings(), /*refresh=*/true);
      out.push_back({{"model", model}, {"path", path}});
      if (!options->json) fmt::print("{}\n", path);
    }
    if (options->json) fmt::print("{}\n", out.dump());
  });
}

void add_remove(CLI::App& app) {
  const auto options = std::make_shared<Options>();
  CLI::App* command = app.add_subcommand("remove", "remove models from the cache");
  command->add_option("models", options->models, "owner/name")->required();
  command->add_flag("--json", options->json, "one JSON array: model and freed bytes of each");
  command->footer("Examples:\n  flagscale models remove HuggingFaceTB/SmolLM2-135M-Instruct");
  command->callback([options] {
    nlohmann::ordered_json out = nlohmann::ordered_json::array();
    for (const std::string& model : options->models) {
      const uint64_t bytes = hub::remove_model(hub::settings().cache, hub::parse_model_id(model).repo);
      out.push_back({{"model", model}, {"bytes", bytes}});
      if (!options->json) fmt::print("removed {}: {}\n", model, size_text(bytes));
    }
    if (options->json) fmt::print("{}\n", out.dump());
  });
}

void setup(CLI::App& app) {
  const auto options = std::make_shared<Options>();
  app.require_subcommand(0, 1);
  app.add_flag("--json", options->json, "print JSON");
  add_fetch(app);
  add_remove(app);
  app.footer(
      "The cache is Hugging Face's own: HF_HOME, HF_HUB_CACHE, HF_TOKEN, HF_ENDPOINT and HF_HUB_OFFLINE mean "
      "what they mean there.\n"
      "Examples:\n"
      "  flagscale models\n"
      "  flagscale models fetch HuggingFaceTB/SmolLM2-135M-Instruct\n"
      "  flagscale models remove HuggingFaceTB/SmolLM2-135M-Instruct");
  app.callback([&app, options] {
    if (app.get_subcommands().empty()) list(options->json);
  });
}

const Registration<Command> kModels{"models", {"list, fetch and remove models of the hub", &setup}};

}  // namespace
}  // namespace flagscale::models_command
