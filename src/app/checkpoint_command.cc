#include <fmt/core.h>

#include <CLI/CLI.hpp>
#include <memory>
#include <string>

#include "app/command.h"
#include "base/log.h"
#include "base/progress.h"
#include "io/convert.h"
#include "io/inspect.h"

namespace flagscale {
namespace {

struct Options {
  std::string path, folder, dtype = "float32", tokenizer;
  bool json = false;
};

void inspect_command(CLI::App& app, Options& options) {
  CLI::App* command = app.add_subcommand("inspect", "list a model's or a checkpoint's tensors and facts");
  command->add_option("path", options.path, "safetensors file or folder, .gguf file, or checkpoint")
      ->required();
  command->add_flag("--json", options.json, "print JSON");
  command->footer(
      "Examples:\n  flagscale checkpoint inspect SmolLM2.gguf\n  flagscale checkpoint inspect "
      "out/checkpoints --json");
  command->callback([&options] {
    const io::Inspection inspection = io::inspect(options.path);
    fmt::print("{}", options.json ? io::to_json(inspection) : io::to_text(inspection));
  });
}

void verify_command(CLI::App& app, Options& options) {
  CLI::App* command = app.add_subcommand("verify", "read everything once and check it");
  command->add_option("path", options.path, "safetensors file or folder, .gguf file, or checkpoint")
      ->required();
  command->footer("Examples:\n  flagscale checkpoint verify out/checkpoints");
  command->callback(
      [&options] { fmt::print("{}: whole, {} tensors\n", options.path, io::verify(options.path)); });
}

// The options that import and export share, and a progress bar around convert().
template <class Convert>
void conversion(CLI::App* command, Options& options, Convert convert) {
  command->add_option("folder", options.folder, "Hugging Face folder to write")->required();
  command->add_option("--dtype", options.dtype, "type of the weights")
      ->check(CLI::IsMember({"float32", "bfloat16", "float16"}))
      ->capture_default_str();
  command->callback([&options, convert] {
    io::ConvertOptions settings;
    settings.dtype = parse_dtype(options.dtype);
    settings.tokenizer = options.tokenizer;
    Progress progress("convert", static_cast<int64_t>(io::converted_bytes(options.path, settings.dtype)),
                      "B");
    settings.progress = [&](uint64_t bytes) { progress.advance(static_cast<int64_t>(bytes)); };
    convert(options, settings);
    progress.finish();
    fmt::print(stderr, "wrote {}\n", options.folder);
  });
}

void import_command(CLI::App& app, Options& options) {
  CLI::App* command = app.add_subcommand("import", "make a Hugging Face folder of a GGUF file");
  command->add_option("file", options.path, "a .gguf file (llama, qwen2, qwen3)")->required();
  command->footer(
      "Examples:\n  flagscale checkpoint import SmolLM2-135M-Instruct.Q4_1.gguf smollm2 --dtype bfloat16");
  conversion(command, options, [](const Options& o, const io::ConvertOptions& settings) {
    io::import_gguf(o.path, o.folder, settings);
  });
}

void export_command(CLI::App& app, Options& options) {
  CLI::App* command = app.add_subcommand("export", "make a Hugging Face folder of a checkpoint");
  command->add_option("checkpoint", options.path, "a checkpoint's folder")->required();
  command->add_option("--tokenizer", options.tokenizer,
                      "folder with the tokenizer (default: the one it trained with)");
  command->footer("Examples:\n  flagscale checkpoint export out/checkpoints exported --dtype bfloat16");
  conversion(command, options, [](const Options& o, const io::ConvertOptions& settings) {
    if (io::export_weights(o.path, o.folder, settings).empty())
      warn("no tokenizer was found to go with the weights; name it with --tokenizer");
  });
}

void setup(CLI::App& app) {
  const auto options = std::make_shared<Options>();
  app.require_subcommand(1);
  inspect_command(app, *options);
  verify_command(app, *options);
  import_command(app, *options);
  export_command(app, *options);
  app.footer(
      "Examples:\n  flagscale checkpoint inspect PATH\n  flagscale checkpoint import FILE.gguf FOLDER");
  app.callback([options] {});  // keeps the options as long as the command
}

const Registration<Command> kCheckpoint{
    "checkpoint", {"inspect, verify, import and export models and checkpoints", &setup}};

}  // namespace
}  // namespace flagscale
