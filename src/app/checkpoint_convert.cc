#include "app/checkpoint_convert.h"

#include <fmt/core.h>

#include <CLI/CLI.hpp>
#include <filesystem>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>

#include "base/error.h"
#include "base/log.h"
#include "base/progress.h"
#include "io/checkpoint.h"
#include "io/convert.h"
#include "io/gguf_weights.h"
#include "model/merge.h"
#include "model/peft.h"
#include "text/gguf_vocab.h"
#include "text/tokenizer.h"

namespace flagscale {
namespace {

struct ConvertFlags {
  std::string path, adapter, folder, tokenizer, dtype = "float32";
  bool overwrite = false, json = false;
};

// What import and export share: the target, the type, a progress bar around convert().
template <class Convert>
void conversion(CLI::App* command, const std::shared_ptr<ConvertFlags>& options, Convert convert) {
  command->add_option("folder", options->folder, "Hugging Face folder to write")->required();
  command->add_option("--dtype", options->dtype, "type of the weights")
      ->check(CLI::IsMember({"float32", "bfloat16", "float16"}))
      ->capture_default_str();
  command->add_flag("--overwrite", options->overwrite, "replace a model in the folder, whatever it is of");
  command->add_flag("--json", options->json, "the result as one JSON object");
  command->callback([options, convert] {
    io::ConvertOptions settings;
    settings.dtype = parse_dtype(options->dtype);
    settings.tokenizer = options->tokenizer;
    if (options->overwrite) settings.replace = io::Replace::kAny;
    const uint64_t bytes = io::converted_bytes(options->path, settings.dtype);
    Progress progress("convert", static_cast<int64_t>(bytes), "B");
    settings.progress = [&](uint64_t written) { progress.advance(static_cast<int64_t>(written)); };
    convert(*options, settings);
    progress.finish();
    fmt::print(stderr, "wrote {}\n", options->folder);
    const nlohmann::ordered_json out{
        {"folder", options->folder}, {"dtype", options->dtype}, {"bytes", bytes}};
    if (options->json) fmt::print("{}\n", out.dump());
  });
}

// Name to text.
std::map<std::string, std::string> tokenizer_files(const std::string& path) {
  const io::GgufFile file(path);
  if (!file.strings("tokenizer.ggml.tokens")) return {};
  const auto vocab = io::gguf_tokenizer(file).as<text::GgufVocab>();
  const std::string json = text::tokenizer_json(vocab, path);
  if (!json.empty()) return {{"tokenizer.json", json}};
  return {{"tokenizer.model", text::sentencepiece_model(vocab, path)}};
}

}  // namespace

void add_import(CLI::App& checkpoint) {
  const auto options = std::make_shared<ConvertFlags>();
  CLI::App* command = checkpoint.add_subcommand("import", "make a Hugging Face folder of a GGUF file");
  command->add_option("file", options->path, "a .gguf file (llama, qwen2, qwen3, qwen2moe, qwen3moe)")
      ->required()
      ->check([](const std::string& path) {
        return std::filesystem::is_directory(path)
                   ? path + " is a folder, not a .gguf file; a Hugging Face folder is read as it is"
                   : "";
      });
  command->footer(
      "Examples:\n"
      "  flagscale checkpoint import SmolLM2-135M-Instruct.Q4_1.gguf smollm2\n"
      "  flagscale checkpoint import SmolLM2-135M-Instruct.Q4_1.gguf smollm2 --dtype bfloat16");
  conversion(command, options, [](const ConvertFlags& o, io::ConvertOptions& settings) {
    settings.more_files = tokenizer_files(o.path);  // before the weights: it may be refused
    io::import_gguf(o.path, o.folder, settings);
  });
}

namespace {

// A checkpoint of an adapter alone becomes a PEFT folder.
bool holds_adapter(const std::string& path) {
  return io::is_checkpoint(path) && model::holds_adapter(io::Checkpoint(path));
}

// merge and unmerge: BASE with the adapter at o.adapter added, or taken out.
void add_merging(CLI::App& checkpoint, const char* name, float sign, const char* description,
                 const char* example) {
  const auto options = std::make_shared<ConvertFlags>();
  CLI::App* command = checkpoint.add_subcommand(name, description);
  command->add_option("model", options->path, "a Hugging Face folder, a .gguf file or a checkpoint")
      ->required();
  command->add_option("adapter", options->adapter, "a PEFT folder, or a checkpoint of an adapter")
      ->required();
  command->add_option("--tokenizer", options->tokenizer, "its tokenizer (default: the model's own)");
  command->footer(example);
  conversion(command, options, [sign](const ConvertFlags& o, io::ConvertOptions& settings) {
    const auto weights = io::open_weights(o.path);
    settings.adapter = o.adapter;
    settings.change = model::Merge(model::open_peft(o.adapter), *weights, sign);
    if (!o.path.ends_with(".gguf")) {
      io::export_weights(o.path, o.folder, settings);
      return;
    }
    if (!o.tokenizer.empty())
      fail(ErrorKind::kInvalidArgument, "{} brings its own tokenizer: leave --tokenizer out", o.path);
    settings.more_files = tokenizer_files(o.path);
    io::import_gguf(o.path, o.folder, settings);
  });
}

}  // namespace

void add_merge(CLI::App& checkpoint) {
  add_merging(
      checkpoint, "merge", 1, "add a LoRA adapter into a model's weights",
      "Examples:\n  flagscale checkpoint merge SmolLM2-135M-Instruct.Q4_1.gguf adapters/terse merged");
  add_merging(checkpoint, "unmerge", -1, "take a LoRA adapter out of merged weights again",
              "Examples:\n  flagscale checkpoint unmerge merged adapters/terse base");
}

void add_export(CLI::App& checkpoint) {
  const auto options = std::make_shared<ConvertFlags>();
  CLI::App* command = checkpoint.add_subcommand(
      "export", "make a Hugging Face folder of a checkpoint, or a PEFT folder of one of an adapter");
  command->add_option("checkpoint", options->path, "a checkpoint's folder")->required();
  command->add_option("--tokenizer", options->tokenizer, "its tokenizer (default: the one it trained with)");
  command->footer(
      "Examples:\n"
      "  flagscale checkpoint export outputs/aquila/checkpoints exported\n"
      "  flagscale checkpoint export outputs/aquila/checkpoints/iter_0000100 exported --dtype bfloat16");
  conversion(command, options, [](const ConvertFlags& o, const io::ConvertOptions& settings) {
    if (holds_adapter(o.path)) return model::export_peft(o.path, o.folder, settings.replace);
    if (io::export_weights(o.path, o.folder, settings).empty())
      warn("no tokenizer was found to go with the weights; name it with --tokenizer");
  });
}

}  // namespace flagscale
