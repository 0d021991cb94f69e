#include "app/engine_options.h"

#include <CLI/CLI.hpp>
#include <algorithm>

#include "app/model_argument.h"
#include "base/error.h"
#include "base/interrupt.h"
#include "base/log.h"

namespace flagscale {

void add_engine_options(CLI::App& app, EngineOptions& o) {
  app.add_option("model", o.model, "Hugging Face folder, checkpoint, .gguf file, or an example's name")->required();
  app.add_option("--tokenizer", o.tokenizer, "tokenizer file or folder, in place of the model's own");
  app.add_option("--dtype", o.dtype, "type of the weights in memory: auto is the file's, float32 for GGUF blocks")
      ->check(CLI::IsMember({"auto", "float32", "bfloat16"}))->capture_default_str();
  app.add_option("--max-model-len", o.max_model_len, "tokens of the longest sequence; 0: what the requests need")
      ->check(CLI::Range(int64_t{0}, int64_t{1} << 24))->capture_default_str();
  app.add_option("--threads", o.threads, "0: all cores")->check(CLI::Range(0, 4096))->capture_default_str();
  app.add_option("--prompts", o.prompts, "JSON lines {\"prompt\": ...} or {\"messages\": [...]}");
  app.add_flag("--json", o.json, "one JSON object a prompt");
}

engine::LoadedModel open_model(const EngineOptions& o) {
  engine::LoadedModel model = engine::load_model(model_path(o.model), o.tokenizer);
  if (!model.tokenizer)
    fail(ErrorKind::kNotFound, "{} brings no tokenizer: name one with --tokenizer PATH", model.path);
  if (model.tokenizer->vocab_size() > model.config.vocab_size)
    warn("the tokenizer has {} ids, the model {} rows: tokens above are refused", model.tokenizer->vocab_size(), model.config.vocab_size);
  return model;
}

std::unique_ptr<engine::Engine> make_engine(const engine::LoadedModel& model, const EngineOptions& o, int64_t longest, int64_t sequences, bool score) {
  engine::RunnerOptions options;
  options.weights = o.dtype == "float32" ? DType::kF32 : o.dtype == "bfloat16" ? DType::kBF16 : engine::natural_dtype(*model.weights);
  options.cache = DType::kF32;
  options.max_sequences = std::clamp<int64_t>(sequences, 1, 32);
  options.max_length = o.max_model_len > 0 ? o.max_model_len : std::max<int64_t>(longest, 16);
  options.max_tokens = std::clamp<int64_t>(longest, options.max_sequences, 256);
  if (score) options.max_rows = options.max_tokens;
  options.threads = o.threads;
  return std::make_unique<engine::Engine>(std::make_unique<engine::Runner>(model.config, *model.weights, options));
}

void add_request(engine::Engine& engine, engine::Request request, engine::Sink sink, const std::string& where) {
  try {
    engine.add(std::move(request), std::move(sink));
  } catch (const Error&) {
    rethrow_with(where);
  }
}

void run_engine(engine::Engine& engine) {
  while (engine.step()) throw_if_interrupted();
}

}  // namespace flagscale
