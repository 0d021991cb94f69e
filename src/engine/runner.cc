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

Runner::Runner(model::DecoderConfig config, const RunnerOptions& options)
    : options_(options), config_(std::move(config)), team_(options.threads) {
  RunnerOptions& o = options_;
  config_.max_positions = o.max_length =
      std::min(o.max_length, config_.max_positions);  // rotary tables no longer than needed
  if (o.max_rows == 0) o.max_rows = std::max<int64_t>(64, 2 * o.max_sequences);
  o.max_rows = std::clamp<int64_t>(o.max_rows, 1, o.max_tokens);
  if (o.pages == 0)
    o.pages =
        static_cast<int32_t>(o.max_sequences * ((o.max_length + op::kPageTokens - 1) / op::kPageTokens));
}

Runner::Runner(model::DecoderConfig config, const io::WeightSet& weights, const RunnerOptions& options)
    : Runner(std::move(config), options) {
  attention_ = std::make_unique<Attention>();
  allocator_ = make_cpu_allocator();
  decoder_ = std::make_unique<model::Decoder>(config_, partition_);
  place_weights(arena_, *decoder_, weights, options_.weights);
  place_cache();
  place_inputs();
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

void Runner::place_cache() {
  const auto& c = config_;
  const Shape k = op::k_pages_shape(options_.pages, c.num_kv_heads, c.head_dim),
              v = op::v_pages_shape(options_.pages, c.num_kv_heads, c.head_dim);
  for (int layer = 0; layer < c.num_layers; ++layer) {
    attention_->k_pages.push_back(arena_.persistent(fmt::format("k_pages.{}", layer), k, options_.cache));
    attention_->v_pages.push_back(arena_.persistent(fmt::format("v_pages.{}", layer), v, options_.cache));
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
  program_.plan(DeviceKind::kCpu, machine_isa(), team_.size());
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
  for (const int32_t id : chunk.ids) place_token(id, position++, *chunk.pages);
  if (chunk.embed) embedded_rows_.data<int32_t>()[num_embedded_++] = static_cast<int32_t>(num_tokens_ - 1);
  for (const int32_t id : chunk.drafts) place_token(id, position++, *chunk.pages);
  attention_->context_lens.data<int32_t>()[num_sequences_] = position;
  attention_->cu_seqlens.data<int32_t>()[++num_sequences_] = static_cast<int32_t>(num_tokens_);
}

void Runner::place_token(int32_t id, int32_t position, const std::vector<int32_t>& pages) {
  FLAGSCALE_CHECK(num_tokens_ < options_.max_tokens);
  constexpr auto kPage = static_cast<int32_t>(op::kPageTokens);
  ids_.data<int32_t>()[num_tokens_] = id;
  positions_.data<int32_t>()[num_tokens_] = position;
  slots_.data<int32_t>()[num_tokens_] =
      pages[static_cast<size_t>(position / kPage)] * kPage + position % kPage;
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
