#include "app/engine_options.h"

#include <CLI/CLI.hpp>
#include <algorithm>

#include "app/model_argument.h"
#include "app/numbers.h"
#include "base/error.h"
#include "base/interrupt.h"
#include "base/log.h"
#include "device/device.h"

namespace flagscale {

engine::RunnerOptions runner_options(const EngineOptions& o) {
  if (!o.quantization.empty() && o.dtype != "auto")
    fail(ErrorKind::kInvalidArgument, "give --dtype or --quantization, not both");
  engine::RunnerOptions options;
  options.weights =
      engine::parse_weight_format(o.quantization.empty() ? o.dtype : o.quantization, o.quantize_lm_head);
  options.weights.compute = op::parse_compute(o.compute), options.weights.keep = o.weight_cache;
  if (o.cache != "auto") options.cache = engine::parse_cache_dtype(o.cache);
  options.device = choose_device(o.device);
  options.memory_share = o.gpu_memory;
  options.threads = o.threads;
  if (!o.lora.empty()) {
    options.max_adapters = 1;
    options.max_adapter_rank = model::open_peft(o.lora).max_rank();
  }
  return options;
}

void add_engine_options(CLI::App& app, EngineOptions& o) {
  app.add_option("model", o.model, "Hugging Face folder, checkpoint, .gguf file, or an example's name")
      ->required();
  app.add_option("--tokenizer", o.tokenizer, "tokenizer file or folder, in place of the model's own");
  app.add_option("--dtype", o.dtype,
                 "type of the weights in memory; auto: as the file has each, GGUF's blocks too")
      ->check(CLI::IsMember({"auto", "float32", "bfloat16", "float16"}))
      ->capture_default_str();
  app.add_option(
         "--quantization", o.quantization,
         "quantise the weights at load: int8, int4 (a scale for 128), int4-32; on a GPU fp8 too (with "
         "--compute fast activations as well, where it multiplies fp8)")
      ->check(CLI::IsMember({"int8", "int4", "int4-32", "fp8"}));
  app.add_flag("--quantize-lm-head", o.quantize_lm_head,
               "with --quantization: hold the output head in eight bits on a GPU too (a CPU always does)");
  app.add_option("--compute", o.compute,
                 "exact: fp32; int8: quantised activations on integer weights; bf16: rounded ones on bf16; "
                 "fast: the fastest")
      ->check(CLI::IsMember({"exact", "bf16", "int8", "fast"}))
      ->capture_default_str();
  app.add_option("--device", o.device, "auto (a GPU where there is one), cpu or cuda")
      ->check(CLI::IsMember({"auto", "cpu", "cuda"}))
      ->capture_default_str();
  app.add_option("--gpu-memory-utilization", o.gpu_memory, "share of a GPU's memory that may be taken in all")
      ->check(between(0.01, 1.0))
      ->capture_default_str();
  app.add_option("--kv-cache-dtype", o.cache, "of keys and values; auto: float32, on a GPU the weights' type")
      ->check(CLI::IsMember({"auto", "fp32", "float32", "bf16", "bfloat16", "int8"}))
      ->capture_default_str();
  app.add_flag("!--no-weight-cache", o.weight_cache,
               "neither use nor leave packed weights and tokenizer tables in ~/.cache/flagscale");
  app.add_option("--max-model-len", o.max_model_len,
                 "tokens of the longest sequence; 0: what the requests need")
      ->check(between(int64_t{0}, int64_t{1} << 24))
      ->capture_default_str();
  app.add_option("--threads", o.threads, "0: all cores")->check(between(0, 4096))->capture_default_str();
  app.add_option("--prompts", o.prompts, "JSON lines {\"prompt\": ...} or {\"messages\": [...]}");
  app.add_flag("--json", o.json, "one JSON object a prompt");
}

engine::LoadedModel open_model(const EngineOptions& o) {
  engine::LoadedModel model = engine::load_model(model_path(o.model), o.tokenizer, o.weight_cache);
  if (!model.tokenizer)
    fail(ErrorKind::kNotFound, "{} brings no tokenizer: name one with --tokenizer PATH", model.path);
  if (model.tokenizer->vocab_size() > model.config.vocab_size)
    warn("the tokenizer has {} ids, the model {} rows: tokens above are refused",
         model.tokenizer->vocab_size(), model.config.vocab_size);
  return model;
}

std::unique_ptr<engine::Engine> make_engine(const engine::LoadedModel& model, const EngineOptions& o,
                                            int64_t longest, int64_t sequences, bool score) {
  engine::RunnerOptions options = runner_options(o);
  options.max_sequences = std::clamp<int64_t>(sequences, 1, 32);
  if (longest > model.config.max_positions)
    warn(
        "{} tokens are asked for, prompt included, the model has {} positions (max_position_embeddings): "
        "texts end there",
        longest, model.config.max_positions);
  options.max_length = o.max_model_len > 0 ? o.max_model_len : std::max<int64_t>(longest, 16);
  options.max_tokens = std::clamp<int64_t>(longest, options.max_sequences, usual_step_tokens(options.device));
  if (score) options.max_rows = options.max_tokens;
  auto runner = std::make_unique<engine::Runner>(model.config, *model.weights, options);
  if (!o.lora.empty()) runner->adapters()->load(o.lora, o.lora);
  return std::make_unique<engine::Engine>(std::move(runner));
}

void add_request(engine::Engine& engine, engine::Request request, engine::Sink sink,
                 const std::string& where) {
  try {
    engine.add(std::move(request), std::move(sink));
  } catch (const Error&) {
    rethrow_with(where);
  }
}

void require_answer(const engine::Answer& answer, const engine::LoadedModel& model,
                    const std::string& where) {
  if (answer.finish != engine::FinishReason::kError) return;
  fail(ErrorKind::kCorrupt, "{}: {}: {}; `flagscale checkpoint verify` names weights that are no numbers",
       model.path, where, answer.error);
}

void run_engine(engine::Engine& engine) {
  while (engine.step()) throw_if_interrupted();
}

}  // namespace flagscale
