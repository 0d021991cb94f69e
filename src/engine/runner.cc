#include "engine/runner.h"

#include <fmt/core.h>

#include <algorithm>
#include <array>
#include <bit>

#include "base/check.h"
#include "base/does_not_fit.h"
#include "base/gib.h"
#include "device/cuda/cuda.h"
#include "engine/dense_weights.h"
#include "engine/team_worth.h"
#include "engine/weight_cache.h"
#include "model/weights.h"
#include "op/elementwise/elementwise.h"
#include "op/embedding/embedding.h"
#include "op/paged_attention/paged_attention.h"
#include "op/rope/rope.h"
#include "op/take_drawn/take_drawn.h"

namespace flagscale::engine {

// The model's attention over pages.
class Runner::Attention final : public nn::AttentionContext {
 public:
  const StepInputs* inputs = nullptr;
  const int64_t* sequences = nullptr;
  op::LongestSequence longest;
  std::vector<Tensor> k_pages, v_pages;  // a layer

  void place(Arena& arena, const model::DecoderConfig& config, int64_t pages, DType cache);

  Tensor attend(Context& context, const nn::AttentionSpec& spec, const Tensor& q, const Tensor& k,
                const Tensor& v) override {
    const auto layer = static_cast<size_t>(spec.layer);
    const Tensor rotated =
        op::rope_append(context, q, k, v, inputs->positions, inputs->slots, spec.cos->value, spec.sin->value,
                        spec.interleaved, k_pages[layer], v_pages[layer]);
    return op::paged_attention(context, rotated, k_pages[layer], v_pages[layer], inputs->block_tables,
                               inputs->cu_seqlens, inputs->context_lens, sequences,
                               {spec.heads, spec.kv_heads, spec.head_dim, spec.scale, spec.window}, longest);
  }
};

DType parse_cache_dtype(std::string_view name) {
  if (name == "fp32" || name == "float32") return DType::kF32;
  if (name == "bf16" || name == "bfloat16") return DType::kBF16;
  if (name == "int8") return DType::kI8;
  fail(ErrorKind::kInvalidArgument, "the cache may be fp32, bf16 or int8, not '{}'", name);
}

Runner::Runner(model::DecoderConfig config, const RunnerOptions& options)
    : options_(options),
      config_(std::move(config)),
      team_(options.threads),
      spares_a_core_(on_gpu() || team_.size() < available_cores()) {
  RunnerOptions& o = options_;
  if (!o.cache && !on_gpu()) o.cache = DType::kF32;
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
  allocator_ = make_allocator(options_.device);
  place_all(weights, options.pages == 0);
  const size_t graphs = on_gpu() ? graphs_beside(options.pages > 0) : 0;
  arena_.bind(*allocator_, options_.device);
  load_model(weights, graphs);
  use_ = weight_use(*decoder_);
  if (on_gpu()) try_step();
}

Runner::~Runner() = default;

Runner::Plan Runner::plan(model::DecoderConfig config, const io::WeightSet& weights,
                          const RunnerOptions& options) {
  Runner runner(std::move(config), options);
  runner.place_all(weights, options.pages == 0);
  return {runner.bytes(), available_memory(runner.options_.device), runner.pages()};
}

void Runner::place_all(const io::WeightSet& weights, bool fit) {
  attention_ = std::make_unique<Attention>();
  decoder_ = std::make_unique<model::Decoder>(config_, partition_);
  place_model(weights);
  place_inputs();
  if (options_.max_adapters > 0)
    adapters_ = std::make_unique<Adapters>(arena_, *decoder_, options_.max_adapters,
                                           options_.max_adapter_rank, activations_, inputs_.adapters);
  if (fit) fit_cache();
  attention_->place(arena_, config_, options_.pages, *options_.cache);
  results_ = trace(program_, *attention_);
  arena_.add(program_);
  require_room();
}

void Runner::place_model(const io::WeightSet& weights) {
  if (!on_gpu()) return place_weights(arena_, *decoder_, weights, options_.weights);
  activations_ = dense_type(*decoder_, weights, options_.weights);
  if (!options_.cache) options_.cache = activations_;
  place_dense(arena_, *decoder_, weights, activations_, options_.weights);
}

void Runner::require_room() const {
  const size_t available = available_memory(options_.device);
  if (arena_.bytes() <= available) return;
  throw DoesNotFit(
      fmt::format("the model needs {} (weights, {} cache pages, one step), this {} has {} free{}, {} too "
                  "little; lower {}, or take fewer bits with --quantization",
                  gib(arena_.bytes()), options_.pages, on_gpu() ? "GPU" : "machine", gib(available),
                  on_gpu() ? cuda::of_others(cuda::total_memory() - available) : "",
                  gib(arena_.bytes() - available), options_.lower));
}

void Runner::load_model(const io::WeightSet& weights, size_t graphs) {
  model::warn_of_unused(weights, decoder_->parameters(), config_.tie_embeddings);
  if (on_gpu()) {
    upload_weights(*decoder_, weights, options_.device, team_);
    gpu_ = std::make_unique<GpuSteps>(program_, team_, inputs_.all,
                                      GpuSteps::Results{results_.logits, results_.drawn, results_.embeddings},
                                      graphs);
    host_logits_ = gpu_->logits(), host_embeddings_ = gpu_->embeddings();
    return;
  }
  if (load_weights(*decoder_, weights, options_.weights, team_))
    keeping_ = std::jthread(
        [this, key = weight_cache_key(*decoder_, weights)] { store_cached_weights(*decoder_, key); });
  host_inputs_ = inputs_.all.data<int32_t>();
  host_logits_ = results_.logits.data<float>(), host_embeddings_ = results_.embeddings.data<float>();
}

size_t Runner::page_bytes() const {
  const auto& c = config_;
  const int64_t elements = op::k_pages_shape(1, c.num_kv_heads, c.head_dim, *options_.cache).numel() +
                           op::v_pages_shape(1, c.num_kv_heads, c.head_dim, *options_.cache).numel();
  return static_cast<size_t>(elements * c.num_layers) * size_of(*options_.cache);
}

// On the CPU memory is touched as pages are used, so that a large cache costs nothing until then; but it may
// all be used one day. One sequence of full length must fit in any case.
void Runner::fit_cache() {
  const size_t given = options_.cache_bytes, there = on_gpu() || given == 0 ? memory_for_cache() : given,
               bytes = given > 0 ? std::min(given, there) : there;
  const int64_t least = (options_.max_length + op::kPageTokens - 1) / op::kPageTokens,
                most = static_cast<int64_t>(bytes / page_bytes());
  if (given > 0 && most < least)
    fail(ErrorKind::kInvalidArgument,
         "a cache of {} bytes holds {} tokens, fewer than the {} of one sequence: it needs {} bytes for it",
         bytes, most * op::kPageTokens, options_.max_length, static_cast<size_t>(least) * page_bytes());
  options_.pages = static_cast<int32_t>(std::clamp<int64_t>(options_.pages, least, std::max(least, most)));
}

GpuRoom Runner::gpu_room(size_t model, size_t launches) const {
  GpuRoom room{cuda::free_memory(), cuda::total_memory(), options_.memory_share, model};
  room.length = options_.max_length, room.lower = options_.lower;
  room.graph = graph_bytes(launches);
  room.most_graphs = useful_graphs(options_.max_sequences, options_.max_length, adapters_ != nullptr);
  return room;
}

// As they were planned with the cache; where its pages were given, in all that it leaves.
size_t Runner::graphs_beside(bool given) const {
  GpuRoom room = gpu_room(arena_.bytes(), program_.num_launches());
  if (given) room.share = 1;
  return room.graphs();
}

// On the CPU half of what weights leave free; of a GPU's share all, but for the driver's own and our graphs.
size_t Runner::memory_for_cache() const {
  if (on_gpu()) {
    const StepUse step = step_use();
    GpuRoom room = gpu_room(arena_.persistent_bytes() + step.bytes, step.launches);
    const auto pages = static_cast<size_t>((options_.max_length + op::kPageTokens - 1) / op::kPageTokens);
    room.sequence = pages * page_bytes();
    room.require_sequence();
    return room.for_cache();
  }
  const size_t weights = std::max(weight_use(*decoder_).bytes, arena_.persistent_bytes()),
               available = available_memory();
  return available > weights ? (available - weights) / 2 : 0;
}

// What a GPU cannot do is found here, and not by the first request.
void Runner::try_step() {
  const std::vector<int32_t> ids{0}, pages{0};
  StepChunk chunk;
  chunk.ids = ids, chunk.pages = &pages, chunk.rows = 1;
  run({&chunk, 1});
}

// Traced with a cache of one page, since the pages' number changes none of it.
Runner::StepUse Runner::step_use() const {
  Arena arena;
  Attention attention = *attention_;
  attention.place(arena, config_, 1, *options_.cache);
  Program probe("probe");
  trace(probe, attention);
  return {probe.transient_bytes(), probe.num_launches()};
}

// A page of all layers lies together, so that memory is touched as sequences grow and no further.
void Runner::Attention::place(Arena& arena, const model::DecoderConfig& c, int64_t pages, DType cache) {
  const int64_t k = op::k_pages_shape(1, c.num_kv_heads, c.head_dim, cache).numel(),
                v = op::v_pages_shape(1, c.num_kv_heads, c.head_dim, cache).numel();
  const Tensor all = arena.persistent("kv_pages", {pages, c.num_layers * (k + v)}, cache);
  k_pages.clear(), v_pages.clear();
  for (int64_t layer = 0; layer < c.num_layers; ++layer) {
    k_pages.push_back(all.columns(layer * (k + v), k));
    v_pages.push_back(all.columns(layer * (k + v) + k, v));
  }
}

void Runner::place_inputs() {
  const int64_t n = options_.max_tokens, s = options_.max_sequences,
                pages = (options_.max_length + op::kPageTokens - 1) / op::kPageTokens;
  constexpr int64_t kLine = 16;  // what begins at a line of memory
  const int64_t rows = options_.max_rows;
  const int64_t adapted = options_.max_adapters > 0 ? n : 0, taken = on_gpu() ? n : 0;
  const std::array<int64_t, 11> sizes{n,       n,     n,        rows, s, s + 1, s, rows * op::kDrawWords,
                                      adapted, taken, s * pages};
  std::array<int64_t, 12> at{};
  for (size_t i = 0; i < sizes.size(); ++i) at[i + 1] = at[i] + (sizes[i] + kLine - 1) / kLine * kLine;
  StepInputs& in = inputs_;
  in.all = arena_.persistent("inputs", {at.back()}, DType::kI32);
  const auto piece = [&](size_t i) { return in.all.rows(at[i], sizes[i]); };
  in.ids = piece(0).with_live(&num_tokens_);
  in.positions = piece(1).with_live(&num_tokens_);
  in.slots = piece(2).with_live(&num_tokens_);
  in.rows = piece(3).with_live(&num_rows_);
  in.embedded_rows = piece(4).with_live(&num_embedded_);
  in.cu_seqlens = piece(5);
  in.context_lens = piece(6);
  in.draws = piece(7).reshape({rows, op::kDrawWords});
  if (adapted > 0) in.adapters = piece(8).with_live(&num_adapted_);
  if (taken > 0) in.id_rows = piece(9).with_live(&num_tokens_);
  in.block_tables = piece(10).reshape({s, pages});
  if (on_gpu()) drawn_ = arena_.persistent("drawn", {rows}, DType::kI32);
  attention_->inputs = &inputs_;
  attention_->sequences = &num_sequences_;
  attention_->longest = {&longest_chunk_, &longest_context_};
}

Runner::Results Runner::trace(Program& program, Attention& attention) const {
  Tracer tracer(program);
  Context context{tracer, nullptr};
  const Tensor ids = on_gpu() ? op::take_drawn(context, inputs_.ids, inputs_.id_rows, drawn_) : inputs_.ids;
  const Tensor hidden = decoder_->hidden(context, ids, attention);
  Results results;
  results.logits = decoder_->logits(context, op::embedding(context, inputs_.rows, hidden));
  results.embeddings = op::embedding(context, inputs_.embedded_rows, hidden);
  if (results.embeddings.dtype() != DType::kF32)
    results.embeddings = op::cast(context, results.embeddings, DType::kF32);
  if (on_gpu()) results.drawn = op::draw_rows(context, results.logits, inputs_.draws, drawn_);
  program.keep(results.logits);
  program.keep(results.embeddings);
  program.plan(on_gpu() ? Isa::kCuda : machine_isa(), team_.size());
  return results;
}

void Runner::run(std::span<const StepChunk> chunks) {
  if (on_gpu()) return launch(chunks, 0), finish(0);
  place(chunks);
  const bool team = worth_a_team({num_tokens_, num_rows_, attended_}, use_, config_, program_.num_launches());
  program_.start(team ? team_ : alone_, [this](size_t) {
    timespec now{};
    clock_gettime(CLOCK_MONOTONIC_COARSE, &now);  // 5 ns
    last_launch_.store(now.tv_sec * 1'000'000'000 + now.tv_nsec, std::memory_order_relaxed);
  });
}

void Runner::launch(std::span<const StepChunk> chunks, int turn) {
  host_inputs_ = gpu_->inputs(turn);
  place(chunks);
  // A power of two, so that few graphs serve all lengths.
  longest_context_ = std::min(static_cast<int64_t>(std::bit_ceil(static_cast<uint64_t>(longest_context_))),
                              inputs_.block_tables.dim(1) * op::kPageTokens);
  const int64_t tables = (inputs_.block_tables.offset() - inputs_.all.offset()) / sizeof(int32_t);
  const bool single = num_tokens_ == num_sequences_ && num_rows_ == num_tokens_ && num_embedded_ == 0;
  gpu_->launch({tables + num_sequences_ * inputs_.block_tables.dim(1), num_rows_, logit_rows_, num_embedded_,
                num_tokens_, longest_context_, num_adapted_ > 0, single},
               turn);
}

void Runner::finish(int turn) {
  gpu_->finish(turn);
  host_drawn_ = gpu_->drawn(turn);
}

void Runner::place(std::span<const StepChunk> chunks) {
  num_tokens_ = num_rows_ = num_embedded_ = num_sequences_ = longest_chunk_ = longest_context_ = 0;
  attended_ = 0;
  logit_rows_.clear();
  host(inputs_.cu_seqlens)[0] = 0;
  for (const StepChunk& chunk : chunks) place_chunk(chunk);
  num_adapted_ = std::ranges::any_of(chunks, [](const StepChunk& chunk) { return chunk.adapter >= 0; })
                     ? num_tokens_
                     : 0;
}

int32_t* Runner::host(const Tensor& input) const {
  return host_inputs_ + (input.offset() - inputs_.all.offset()) / sizeof(int32_t);
}

void Runner::place_chunk(const StepChunk& chunk) {
  FLAGSCALE_CHECK(num_sequences_ < options_.max_sequences && !chunk.ids.empty());
  FLAGSCALE_CHECK(chunk.id_row < 0 || (chunk.ids.size() == 1 && chunk.drafts.empty() && on_gpu()));
  const int64_t before = num_tokens_;
  std::copy(chunk.pages->begin(), chunk.pages->end(),
            host(inputs_.block_tables) + num_sequences_ * inputs_.block_tables.dim(1));
  place_rows(chunk);
  int32_t position = chunk.first;
  for (const int32_t id : chunk.ids) place_token(id, position++, chunk);
  if (chunk.embed) host(inputs_.embedded_rows)[num_embedded_++] = static_cast<int32_t>(num_tokens_ - 1);
  for (const int32_t id : chunk.drafts) place_token(id, position++, chunk);
  host(inputs_.context_lens)[num_sequences_] = position;
  host(inputs_.cu_seqlens)[++num_sequences_] = static_cast<int32_t>(num_tokens_);
  longest_chunk_ = std::max(longest_chunk_, num_tokens_ - before);
  longest_context_ = std::max<int64_t>(longest_context_, position);
  attended_ += (num_tokens_ - before) * position;
}

void Runner::place_rows(const StepChunk& chunk) {
  FLAGSCALE_CHECK(num_rows_ + chunk.rows <= options_.max_rows);
  auto* draws = reinterpret_cast<op::Draw*>(host(inputs_.draws)) + num_rows_;
  if (!chunk.draws.empty()) {
    FLAGSCALE_CHECK(on_gpu() && std::ssize(chunk.draws) == chunk.rows);
    std::ranges::copy(chunk.draws, draws);
  } else if (on_gpu() && chunk.rows > 0) {
    std::fill_n(draws, chunk.rows, op::Draw{});
    if (!logit_rows_.empty() && logit_rows_.back().first + logit_rows_.back().count == num_rows_)
      logit_rows_.back().count += chunk.rows;
    else
      logit_rows_.push_back({num_rows_, chunk.rows});
  }
  for (int64_t i = 0; i < chunk.rows; ++i)
    host(inputs_.rows)[num_rows_++] = static_cast<int32_t>(num_tokens_ + chunk.first_row + i);
}

void Runner::place_token(int32_t id, int32_t position, const StepChunk& chunk) {
  FLAGSCALE_CHECK(num_tokens_ < options_.max_tokens);
  constexpr auto kPage = static_cast<int32_t>(op::kPageTokens);
  host(inputs_.ids)[num_tokens_] = id;
  if (on_gpu()) host(inputs_.id_rows)[num_tokens_] = chunk.id_row;
  host(inputs_.positions)[num_tokens_] = position;
  host(inputs_.slots)[num_tokens_] =
      (*chunk.pages)[static_cast<size_t>(position / kPage)] * kPage + position % kPage;
  if (adapters_) host(inputs_.adapters)[num_tokens_] = chunk.adapter;
  ++num_tokens_;
}

std::span<float> Runner::logits(int64_t i) const {
  const int64_t vocab = config_.vocab_size;
  return {host_logits_ + i * vocab, static_cast<size_t>(vocab)};
}

std::span<const float> Runner::embedding(int64_t i) const {
  const int64_t hidden = config_.hidden_size;
  return {host_embeddings_ + i * hidden, static_cast<size_t>(hidden)};
}

}  // namespace flagscale::engine
