#include "app/served_engine.h"

#include <algorithm>

#include "app/model_argument.h"
#include "base/error.h"

namespace flagscale {

namespace {

constexpr int64_t kDefaultLength = 8192;

engine::RunnerOptions runner_options(const serve::ServiceConfig& config, const engine::LoadedModel& model) {
  engine::RunnerOptions options;
  options.weights = {
      engine::parse_weight_format(config.quantization.empty() ? config.dtype : config.quantization),
      op::parse_compute(config.compute), /*keep=*/true};
  options.cache = config.kv_cache_dtype == "auto" ? DType::kF32 : parse_dtype(config.kv_cache_dtype);
  options.max_sequences = config.max_num_seqs;
  options.max_tokens = std::max(config.max_num_batched_tokens, config.max_num_seqs);
  const int64_t longest = model.config.max_positions;
  options.max_length = config.max_model_len ? *config.max_model_len : std::min(longest, kDefaultLength);
  options.pages = static_cast<int32_t>(config.num_kv_blocks);
  options.threads = static_cast<int>(config.threads);
  return options;
}

}  // namespace

ServedEngine load_served_engine(const serve::ServiceConfig& config) {
  ServedEngine result;
  result.model = engine::load_model(model_path(config.model), config.tokenizer);
  const engine::LoadedModel& model = result.model;
  if (!model.tokenizer)
    fail(ErrorKind::kNotFound,
         "{} brings no tokenizer: name one with --engine-args '{{\"tokenizer\": \"PATH\"}}'", model.path);
  const engine::RunnerOptions options = runner_options(config, model);
  engine::EngineOptions engine_options;
  engine_options.prefix_caching = config.enable_prefix_caching;
  engine_options.tokenizer = model.tokenizer.get();
  auto runner = std::make_unique<engine::Runner>(model.config, *model.weights, options);
  result.formats = engine::weight_formats(runner->decoder());
  result.engine = std::make_unique<engine::Engine>(std::move(runner), engine_options);
  result.capacity = int64_t{result.engine->runner().pages()} * 16;
  result.cache = name(options.cache);
  return result;
}

}  // namespace flagscale
