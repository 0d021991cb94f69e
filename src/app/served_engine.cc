#include "app/served_engine.h"

#include <algorithm>

#include "app/engine_options.h"
#include "app/model_argument.h"
#include "base/error.h"
#include "base/log.h"

namespace flagscale {

namespace {

void make_room_for_adapters(const serve::ServiceConfig& config, engine::RunnerOptions& options) {
  constexpr int64_t kPlaces = 8, kRank = 16;
  const auto& modules = config.lora_modules.list;
  if (!config.enable_lora && modules.empty()) return;
  const auto count = static_cast<int64_t>(modules.size());
  options.max_adapters = static_cast<int>(config.max_loras.value_or(std::max(kPlaces, count)));
  options.max_adapter_rank = config.max_lora_rank.value_or(kRank);
  if (!config.max_lora_rank)
    for (const serve::LoraModule& module : modules)
      options.max_adapter_rank = std::max(options.max_adapter_rank, model::open_peft(module.path).max_rank());
}

// What a step and its cache take less by.
std::string lower_of(const serve::ServiceConfig& config, bool adapters) {
  return std::string(config.num_kv_blocks > 0 ? "num_kv_blocks" : "max_model_len") +
         (adapters ? ", max_loras" : "") + " or max_num_batched_tokens";
}

std::string format_of(const serve::ServiceConfig& config) {
  if (!config.quantization.empty() && config.quantization != "none") return config.quantization;
  if (config.dtype == "float" || config.dtype == "fp32") return "float32";
  if (config.dtype == "half" || config.dtype == "fp16") return "float16";
  return config.dtype == "bf16" ? "bfloat16" : config.dtype;
}

// Tokens of the longest sequence, for which the cache must have room.
int64_t length_of(const serve::ServiceConfig& config, int64_t longest) {
  const int64_t length = std::min(config.max_model_len.value_or(config.default_length), longest);
  if (config.max_model_len.value_or(0) > longest)
    warn("max_model_len is {}, the model's longest sequence has {} tokens: that counts",
         *config.max_model_len, longest);
  if (config.num_kv_blocks > 0 && config.num_kv_blocks * 16 < length)
    fail(ErrorKind::kInvalidArgument,
         "num_kv_blocks is {}: {} tokens, fewer than the {} of one sequence; give more, or lower "
         "max_model_len",
         config.num_kv_blocks, config.num_kv_blocks * 16, length);
  return length;
}

engine::RunnerOptions runner_options(const serve::ServiceConfig& config, const engine::LoadedModel& model,
                                     DeviceKind device) {
  engine::RunnerOptions options;
  options.weights = engine::parse_weight_format(format_of(config), config.quantize_lm_head);
  options.weights.compute = op::parse_compute(config.compute), options.weights.keep = true;
  options.device = device;
  options.memory_share = config.gpu_memory_utilization;
  if (config.kv_cache_dtype != "auto")
    options.cache = engine::parse_cache_dtype(config.kv_cache_dtype);
  else if (device != DeviceKind::kCuda)
    options.cache = config.compute == "exact" ? DType::kF32 : DType::kBF16;
  options.cache_bytes = static_cast<size_t>(config.kv_cache_memory_bytes);
  options.max_sequences = most_sequences(config, device);
  options.max_tokens =
      std::max(config.max_num_batched_tokens.value_or(usual_step_tokens(device)), options.max_sequences);
  options.max_length = length_of(config, model.config.max_positions);
  if (const int drafts = config.speculative_config.value.draft_tokens; drafts > 0)
    options.max_rows = std::min(options.max_tokens, options.max_sequences * (1 + drafts));
  options.pages = static_cast<int32_t>(config.num_kv_blocks);
  options.threads = static_cast<int>(config.threads);
  make_room_for_adapters(config, options);
  options.lower = lower_of(config, options.max_adapters > 0);
  return options;
}

engine::LoadedModel load_served_model(const serve::ServiceConfig& config) {
  engine::LoadedModel model = engine::load_model(model_path(config.model), config.tokenizer);
  if (!model.tokenizer)
    fail(ErrorKind::kNotFound,
         "{} brings no tokenizer: name one with --engine-args '{{\"tokenizer\": \"PATH\"}}'", model.path);
  return model;
}

}  // namespace

int64_t most_sequences(const serve::ServiceConfig& config, DeviceKind device) {
  return config.max_num_seqs.value_or(usual_sequences(device));
}

ServedPlan plan_served_engine(const serve::ServiceConfig& config) {
  const DeviceKind device = choose_device(config.device);
  const engine::LoadedModel model = load_served_model(config);
  const auto plan = engine::Runner::plan(model.config, *model.weights, runner_options(config, model, device));
  return {device, plan.bytes, plan.available, int64_t{plan.pages} * 16};
}

ServedEngine load_served_engine(const serve::ServiceConfig& config) {
  ServedEngine result;
  const DeviceKind device =
      choose_device(config.device);  // what cannot be had is said before anything is read
  result.model = load_served_model(config);
  const engine::LoadedModel& model = result.model;
  const engine::RunnerOptions options = runner_options(config, model, device);
  engine::EngineOptions engine_options;
  engine_options.prefix_caching = config.enable_prefix_caching;
  engine_options.tokenizer = model.tokenizer.get();
  engine_options.speculation = config.speculative_config.value;
  auto runner = std::make_unique<engine::Runner>(model.config, *model.weights, options);
  result.formats = engine::weight_formats(runner->decoder());
  result.compute = engine::compute_text(runner->decoder(), options.weights.compute);
  for (const serve::LoraModule& module : config.lora_modules.list)
    runner->adapters()->load(module.name, module.path);
  result.engine = std::make_unique<engine::Engine>(std::move(runner), engine_options);
  result.capacity = int64_t{result.engine->runner().pages()} * 16;
  result.cache = name(*result.engine->runner().options().cache);
  return result;
}

}  // namespace flagscale
