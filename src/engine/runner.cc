#include "engine/runner.h"

#include <fmt/core.h>

#include <algorithm>

#include "base/check.h"
#include "base/error.h"
#include "engine/weights.h"
#include "op/cross_entropy/cross_entropy.h"
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

  Tensor attend(Context& context, const nn::AttentionSpec& spec, const Tensor& q, const Tensor& k, const Tensor& v) override {
    const auto layer = static_cast<size_t>(spec.layer);
    const Tensor rotated = op::rope_append(context, q, k, v, positions, slots, spec.cos->value, spec.sin->value,
                                           spec.interleaved, k_pages[layer], v_pages[layer]);
    return op::paged_attention(context, rotated, k_pages[layer], v_pages[layer], block_tables, cu_seqlens, context_lens,
                               sequences, {spec.heads, spec.kv_heads, spec.head_dim, spec.scale, spec.window});
  }
};

Runner::Runner(model::DecoderConfig config, const io::WeightSet& weights, const RunnerOptions& options)
    : options_(options), team_(options.threads), attention_(std::make_unique<Attention>()), allocator_(make_cpu_allocator()) {
  options_.max_length = std::min(options_.max_length, config.max_positions);
  config.max_positions = options_.max_length;  // rotary tables no longer than needed
  decoder_ = std::make_unique<model::Decoder>(std::move(config), partition_);
  const int64_t pages_a_sequence = (options_.max_length + op::kPageTokens - 1) / op::kPageTokens;
  if (options_.pages == 0) options_.pages = static_cast<int32_t>(options_.max_sequences * pages_a_sequence);
  place_weights(arena_, *decoder_, options_.weights);
  place_cache();
  place_inputs();
  trace();
  const size_t available = available_memory();
  if (arena_.bytes() > available)
    fail(ErrorKind::kResource, "the model needs {:.1f} GiB (weights, {} cache pages, one step), this machine has {:.1f} free; "
         "lower --max-model-len, or use --dtype bfloat16", static_cast<double>(arena_.bytes()) / (1 << 30), options_.pages,
         static_cast<double>(available) / (1 << 30));
  arena_.bind(*allocator_);
  load_weights(*decoder_, weights);
}

Runner::~Runner() = default;

void Runner::place_cache() {
  const auto& c = decoder_->config();
  const Shape k = op::k_pages_shape(options_.pages, c.num_kv_heads, c.head_dim), v = op::v_pages_shape(options_.pages, c.num_kv_heads, c.head_dim);
  for (int layer = 0; layer < c.num_layers; ++layer) {
    attention_->k_pages.push_back(arena_.persistent(fmt::format("k_pages.{}", layer), k, options_.cache));
    attention_->v_pages.push_back(arena_.persistent(fmt::format("v_pages.{}", layer), v, options_.cache));
  }
}

void Runner::place_inputs() {
  const int64_t n = options_.max_tokens, pages = (options_.max_length + op::kPageTokens - 1) / op::kPageTokens;
  const auto ints = [&](const char* what, const int64_t* live) { return arena_.persistent(what, {n}, DType::kI32).with_live(live); };
  ids_ = ints("ids", &num_tokens_);
  positions_ = ints("positions", &num_tokens_);
  slots_ = ints("slots", &num_tokens_);
  rows_ = ints("rows", &num_rows_);
  labels_ = ints("labels", &num_rows_);
  mask_ = arena_.persistent("mask", {n}, DType::kF32).with_live(&num_rows_);
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
  losses_ = tracer.empty({options_.max_tokens}, DType::kF32, &num_rows_);
  tracer.launch(op::kCrossEntropy, {logits_, labels_, mask_, losses_, {}, nullptr});
  program_.keep(logits_);
  program_.keep(losses_);
  program_.plan(DeviceKind::kCpu, machine_isa(), team_.size());
  arena_.add(program_);
}

void Runner::run(std::span<const StepChunk> chunks) {
  num_tokens_ = num_rows_ = num_sequences_ = 0;
  attention_->cu_seqlens.data<int32_t>()[0] = 0;
  for (const StepChunk& chunk : chunks) {
    FLAGSCALE_CHECK(num_sequences_ < options_.max_sequences && !chunk.ids.empty());
    const Tensor& tables = attention_->block_tables;
    std::copy(chunk.pages->begin(), chunk.pages->end(), tables.data<int32_t>() + num_sequences_ * tables.dim(1));
    for (size_t i = 0; i < chunk.ids.size(); ++i) place_token(chunk, i);
    attention_->context_lens.data<int32_t>()[num_sequences_] = chunk.first + static_cast<int32_t>(chunk.ids.size());
    attention_->cu_seqlens.data<int32_t>()[++num_sequences_] = static_cast<int32_t>(num_tokens_);
  }
  program_.run(team_);
}

void Runner::place_token(const StepChunk& chunk, size_t i) {
  FLAGSCALE_CHECK(num_tokens_ < options_.max_tokens);
  constexpr auto kPage = static_cast<int32_t>(op::kPageTokens);
  const int32_t position = chunk.first + static_cast<int32_t>(i);
  ids_.data<int32_t>()[num_tokens_] = chunk.ids[i];
  positions_.data<int32_t>()[num_tokens_] = position;
  slots_.data<int32_t>()[num_tokens_] = (*chunk.pages)[static_cast<size_t>(position / kPage)] * kPage + position % kPage;
  const int32_t label = i < chunk.labels.size() ? chunk.labels[i] : -1;
  if (label >= 0 || (chunk.sample && i + 1 == chunk.ids.size())) {
    rows_.data<int32_t>()[num_rows_] = static_cast<int32_t>(num_tokens_);
    labels_.data<int32_t>()[num_rows_] = std::max(label, 0);
    mask_.data<float>()[num_rows_] = label >= 0 ? 1.f : 0.f;
    ++num_rows_;
  }
  ++num_tokens_;
}

std::span<const float> Runner::logits(int64_t i) const {
  const int64_t vocab = decoder_->config().vocab_size;
  return {logits_.data<float>() + i * vocab, static_cast<size_t>(vocab)};
}

float Runner::logprob(int64_t i) const { return -losses_.data<float>()[i]; }

}  // namespace flagscale::engine
