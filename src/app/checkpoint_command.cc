#include <fmt/core.h>

#include <CLI/CLI.hpp>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>

#include "app/checkpoint_convert.h"
#include "app/command.h"
#include "base/error.h"
#include "io/inspect.h"

namespace flagscale::checkpoint_command {
namespace {

struct Options {
  std::string path;
  bool json = false;
};

constexpr const char* kPath = "a safetensors file or Hugging Face folder, a .gguf file, or a checkpoint";

void add_inspect(CLI::App& app) {
  const auto options = std::make_shared<Options>();
  CLI::App* command = app.add_subcommand("inspect", "list a model's or a checkpoint's tensors and facts");
  command->add_option("path", options->path, kPath)->required();
  command->add_flag("--json", options->json, "print JSON");
  command->footer(
      "Examples:\n"
      "  flagscale checkpoint inspect SmolLM2-135M-Instruct.Q4_1.gguf\n"
      "  flagscale checkpoint inspect outputs/aquila/checkpoints --json");
  command->callback([options] {
    const io::Inspection inspection = io::inspect(options->path);
    fmt::print("{}", options->json ? io::to_json(inspection) : io::to_text(inspection));
  });
}

// With --json what is wrong is a result too, so it is printed as one; the exit code stays.
size_t verified(const Options& options) {
  try {
    return io::verify(options.path);
  } catch (const Error& error) {
    if (error.kind() == ErrorKind::kInterrupted) throw;
    const nlohmann::ordered_json out{{"whole", false}, {"error", error.what()}};
    if (options.json) fmt::print("{}\n", out.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace));
    throw;
  }
}

void add_verify(CLI::App& app) {
  const auto options = std::make_shared<Options>();
  CLI::App* command = app.add_subcommand("verify", "read everything once and check it");
  command->add_option("path", options->path, kPath)->required();
  command->add_flag("--json", options->json, "print JSON");
  command->footer("Examples:\n  flagscale checkpoint verify outputs/aquila/checkpoints");
  command->callback([options] {
    const size_t tensors = verified(*options);
    if (options->json)
      fmt::print("{{\"whole\": true, \"tensors\": {}}}\n", tensors);
    else
      fmt::print("{}: whole, {} tensors\n", options->path, tensors);
  });
}

void setup(CLI::App& app) {
  app.require_subcommand(1);
  add_inspect(app);
  add_verify(app);
  add_import(app);
  add_export(app);
  add_merge(app);
  app.footer(
      "Examples:\n"
      "  flagscale checkpoint inspect outputs/aquila/checkpoints\n"
      "  flagscale checkpoint import SmolLM2-135M-Instruct.Q4_1.gguf smollm2");
}

const Registration<Command> kCheckpoint{
    "checkpoint", {"inspect, verify, import, export and merge models and checkpoints", &setup}};

}  // namespace
}  // namespace flagscale::checkpoint_command
