#include "engine/runner.h"

#include <fmt/core.h>

#include <algorithm>

#include "base/check.h"
#include "base/error.h"
#include "engine/weights.h"
#include "op/embedding/embedding.h"
#include "op/paged_attention/paged_attention.h"
#include "op/rope/rope.h"

namespace flagscale::engine {

// The model's attention over pages.
class Runner::Attention final : public nn::AttentionContext {
 public:
  Tensor positions, slots, block_tables, cu_seqlens, context_lens;
  const int64_t* sequences = nullptr;
  std::vector<Tensor> k_pages, v_pages;  // a layer

  Tensor attend(Context& context, const nn::AttentionSpec& spec, const Tensor& q, const Tensor& k,
                const Tensor& v) override {
    const auto layer = static_cast<size_t>(spec.layer);
    const Tensor rotated = op::rope_append(context, q, k, v, positions, slots, spec.cos->value,
                                           spec.sin->value, spec.interleaved, k_pages[layer], v_pages[layer]);
    return op::paged_attention(context, rotated, k_pages[layer], v_pages[layer], block_tables, cu_seqlens,
                               context_lens, sequences,
                               {spec.heads, spec.kv_heads, spec.head_dim, spec.scale, spec.window});
  }
};

DType parse_cache_dtype(std::string_view name) {
  if (name == "fp32" || name == "float32") return DType::kF32;
  if (name == "bf16" || name == "bfloat16") return DType::kBF16;
  if (name == "int8") return DType::kI8;
  fail(ErrorKind::kInvalidArgument, "the cache may be fp32, bf16 or int8, not '{}'", name);
}

Runner::Runner(model::DecoderConfig config, const RunnerOptions& options)
    : options_(options), config_(std::move(config)), team_(options.threads) {
  RunnerOptions& o = options_;
  config_.max_positions = o.max_length =
      std::min(o.max_length, config_.max_positions);  // rotary tables no longer than needed
  if (o.max_rows == 0) o.max_rows = std::max<int64_t>(64, 2 * o.max_sequences);
  o.max_rows = std::clamp<int64_t>(o.max_rows, 1, o.max_tokens);
  constexpr int64_t kMostPages = INT32_MAX / op::kPageTokens;  // slots are int32
  if (o.pages == 0)
    o.pages = static_cast<int32_t>(
        std::min(kMostPages, o.max_sequences * ((o.max_length + op::kPageTokens - 1) / op::kPageTokens)));
}

Runner::Runner(model::DecoderConfig config, const io::WeightSet& weights, const RunnerOptions& options)
    : Runner(std::move(config), options) {
  attention_ = std::make_unique<Attention>();
  allocator_ = make_cpu_allocator();
  decoder_ = std::make_unique<model::Decoder>(config_, partition_);
  place_weights(arena_, *decoder_, weights, options_.weights);
  if (options.pages == 0) fit_cache();
  place_cache();
  place_inputs();
  if (options_.max_adapters > 0)
    adapters_ = std::make_unique<Adapters>(arena_, *decoder_, options_.max_adapters,
                                           options_.max_adapter_rank, options_.max_tokens, &num_tokens_);
  trace();
  const size_t available = available_memory();
  if (arena_.bytes() > available)
    fail(ErrorKind::kResource,
         "the model needs {:.1f} GiB (weights, {} cache pages, one step), this machine has {:.1f} free; "
         "lower --max-model-len, or take fewer bits with --quantization",
         static_cast<double>(arena_.bytes()) / (1 << 30), options_.pages,
         static_cast<double>(available) / (1 << 30));
  arena_.bind(*allocator_);
  load_weights(*decoder_, weights, options_.weights, team_);
}

Runner::~Runner() = default;

size_t Runner::page_bytes() const {
  const auto& c = config_;
  const int64_t elements = op::k_pages_shape(1, c.num_kv_heads, c.head_dim, options_.cache).numel() +
                           op::v_pages_shape(1, c.num_kv_heads, c.head_dim, options_.cache).numel();
  return static_cast<size_t>(elements * c.num_layers) * size_of(options_.cache);
}

// The memory is touched as pages are used, so that a large cache costs nothing until then; but it may all be
// used one day. One sequence of full length must fit in any case.
void Runner::fit_cache() {
  const size_t weights = std::max(weight_use(*decoder_).bytes, arena_.persistent_bytes()),
               available = available_memory(), left = available > weights ? available - weights : 0;
  const int64_t least = (options_.max_length + op::kPageTokens - 1) / op::kPageTokens,
                most = static_cast<int64_t>((options_.cache_bytes > 0 ? options_.cache_bytes : left / 2) /
                                            page_bytes());
  if (options_.cache_bytes > 0 && most < least)
    fail(ErrorKind::kInvalidArgument,
         "a cache of {} bytes holds {} tokens, fewer than the {} of one sequence: it needs {} bytes for it",
         options_.cache_bytes, most * op::kPageTokens, options_.max_length,
         static_cast<size_t>(least) * page_bytes());
  options_.pages = static_cast<int32_t>(std::clamp<int64_t>(options_.pages, least, std::max(least, most)));
}

// A page of all layers lies together, so that memory is touched as sequences grow and no further.
void Runner::place_cache() {
  const auto& c = config_;
  const int64_t k = op::k_pages_shape(1, c.num_kv_heads, c.head_dim, options_.cache).numel(),
                v = op::v_pages_shape(1, c.num_kv_heads, c.head_dim, options_.cache).numel();
  const Tensor pages =
      arena_.persistent("kv_pages", {options_.pages, c.num_layers * (k + v)}, options_.cache);
  for (int64_t layer = 0; layer < c.num_layers; ++layer) {
    attention_->k_pages.push_back(pages.columns(layer * (k + v), k));
    attention_->v_pages.push_back(pages.columns(layer * (k + v) + k, v));
  }
}

void Runner::place_inputs() {
  const int64_t n = options_.max_tokens,
                pages = (options_.max_length + op::kPageTokens - 1) / op::kPageTokens;
  const auto ints = [&](const char* what, const int64_t* live) {
    return arena_.persistent(what, {n}, DType::kI32).with_live(live);
  };
  ids_ = ints("ids", &num_tokens_);
  positions_ = ints("positions", &num_tokens_);
  slots_ = ints("slots", &num_tokens_);
  rows_ = arena_.persistent("rows", {options_.max_rows}, DType::kI32).with_live(&num_rows_);
  embedded_rows_ =
      arena_.persistent("embedded_rows", {options_.max_sequences}, DType::kI32).with_live(&num_embedded_);
  attention_->positions = positions_;
  attention_->slots = slots_;
  attention_->block_tables = arena_.persistent("block_tables", {options_.max_sequences, pages}, DType::kI32);
  attention_->cu_seqlens = arena_.persistent("cu_seqlens", {options_.max_sequences + 1}, DType::kI32);
  attention_->context_lens = arena_.persistent("context_lens", {options_.max_sequences}, DType::kI32);
  attention_->sequences = &num_sequences_;
}

void Runner::trace() {
  Tracer tracer(program_);
  Context context{tracer, nullptr};
  const Tensor hidden = decoder_->hidden(context, ids_, *attention_);
  logits_ = decoder_->logits(context, op::embedding(context, rows_, hidden));
  embeddings_ = op::embedding(context, embedded_rows_, hidden);
  program_.keep(logits_);
  program_.keep(embeddings_);
  program_.plan(machine_isa(), team_.size());
  arena_.add(program_);
}

void Runner::run(std::span<const StepChunk> chunks) {
  num_tokens_ = num_rows_ = num_embedded_ = num_sequences_ = 0;
  attention_->cu_seqlens.data<int32_t>()[0] = 0;
  for (const StepChunk& chunk : chunks) place_chunk(chunk);
  program_.run(team_);
}

void Runner::place_chunk(const StepChunk& chunk) {
  FLAGSCALE_CHECK(num_sequences_ < options_.max_sequences && !chunk.ids.empty());
  const Tensor& tables = attention_->block_tables;
  std::copy(chunk.pages->begin(), chunk.pages->end(),
            tables.data<int32_t>() + num_sequences_ * tables.dim(1));
  FLAGSCALE_CHECK(num_rows_ + chunk.rows <= options_.max_rows);
  for (int64_t i = 0; i < chunk.rows; ++i)
    rows_.data<int32_t>()[num_rows_++] = static_cast<int32_t>(num_tokens_ + chunk.first_row + i);
  int32_t position = chunk.first;
  for (const int32_t id : chunk.ids) place_token(id, position++, chunk);
  if (chunk.embed) embedded_rows_.data<int32_t>()[num_embedded_++] = static_cast<int32_t>(num_tokens_ - 1);
  for (const int32_t id : chunk.drafts) place_token(id, position++, chunk);
  attention_->context_lens.data<int32_t>()[num_sequences_] = position;
  attention_->cu_seqlens.data<int32_t>()[++num_sequences_] = static_cast<int32_t>(num_tokens_);
}

void Runner::place_token(int32_t id, int32_t position, const StepChunk& chunk) {
  FLAGSCALE_CHECK(num_tokens_ < options_.max_tokens);
  constexpr auto kPage = static_cast<int32_t>(op::kPageTokens);
  ids_.data<int32_t>()[num_tokens_] = id;
  positions_.data<int32_t>()[num_tokens_] = position;
  slots_.data<int32_t>()[num_tokens_] =
      (*chunk.pages)[static_cast<size_t>(position / kPage)] * kPage + position % kPage;
  if (adapters_) adapters_->slots().data<int32_t>()[num_tokens_] = chunk.adapter;
  ++num_tokens_;
}

std::span<float> Runner::logits(int64_t i) const {
  const int64_t vocab = config_.vocab_size;
  return {logits_.data<float>() + i * vocab, static_cast<size_t>(vocab)};
}

std::span<const float> Runner::embedding(int64_t i) const {
  const int64_t hidden = config_.hidden_size;
  return {embeddings_.data<float>() + i * hidden, static_cast<size_t>(hidden)};
}

}  // namespace flagscale::engine
