#include "train/step.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <utility>

#include "base/check.h"
#include "base/error.h"
#include "base/interrupt.h"
#include "device/cuda/cuda.h"
#include "model/packed_weights.h"
#include "model/weights.h"
#include "op/elementwise/elementwise.h"

namespace flagscale::train {

TrainStep::TrainStep(model::DecoderConfig config, const StepOptions& options)
    : options_(options),
      team_(options.threads),
      decoder_(std::make_unique<model::Decoder>(std::move(config), partition_)),
      optimizer_(make_optimizer(options.optimizer)) {
  if (!optimizer_->runs_on(options_.device))
    fail(ErrorKind::kUnsupported,
         "optimizer: {} has no kernels for {} yet: set optimizer: adam, or use --device cpu",
         options_.optimizer.name, name(options_.device));
  if (options_.cu_seqlens_capacity == 0) options_.cu_seqlens_capacity = options_.micro_batch_size + 1;
  if (options_.lora)
    adapter_ = std::make_unique<Adapter>(*decoder_, *options_.lora, options_.seed, &dropout_rows_);
  for (nn::Parameter& p : (adapter_ ? adapter_->parameters() : decoder_->parameters()).parameters())
    trained_.push_back(&p);
  place_parameters();
  if (adapter_) place_frozen();
  const int64_t tokens = options_.micro_batch_size * options_.sequence_length;
  tokens_ = arena_.persistent("tokens", {tokens}, DType::kI32);
  labels_ = arena_.persistent("labels", {tokens}, DType::kI32);
  mask_ = arena_.persistent("loss_mask", {tokens}, DType::kF32);
  positions_ = arena_.persistent("position_ids", {tokens}, DType::kI32);
  if (on_host())
    learnt_ = std::make_unique<op::LearntTokens>(arena_.persistent("learnt tokens", {tokens}, DType::kI32),
                                                 decoder_->config().vocab_size);
  cu_seqlens_ = arena_.persistent("cu_seqlens", {options_.cu_seqlens_capacity}, DType::kI32);
  attention_ =
      std::make_unique<nn::PackedAttention>(nn::PackedSequences{positions_, cu_seqlens_, &num_seqs_});
  trace_micro_batch();
  trace_update();
  if (options_.evaluation) trace_evaluation();
}

TrainStep::~TrainStep() = default;

// Parameters are segments of flat buckets in reverse order of use: gradients are ready front to back.
void TrainStep::place_parameters() {
  offsets_.resize(trained_.size());
  for (size_t i = trained_.size(); i-- > 0;) {
    offsets_[i] = bucket_size_;
    bucket_size_ += (trained_[i]->shape.numel() + 15) / 16 * 16;
  }
  std::vector<std::vector<Piece>> pieces;
  for (size_t i = trained_.size(); i-- > 0;) pieces.push_back(optimizer_->pieces(*trained_[i]));
  shares_ = cut_shares(pieces, shares() ? options_.ranks : 1);
  const bool bf16 = options_.compute == DType::kBF16;
  split_ = offloaded_end();
  master_ = arena_.persistent("weights", {bf16 ? own().end - split_ : bucket_size_}, DType::kF32);
  if (bf16 && split_ > own().begin)
    offloaded_master_ = pinned_arena_.persistent("weights", {split_ - own().begin}, DType::kF32);
  if (bf16) working_ = arena_.persistent("bf16 weights", {bucket_size_}, DType::kBF16);
  grads_ = arena_.persistent("gradients", {bucket_size_}, DType::kF32);
  block_squares_ = arena_.persistent("gradient squares", {blocks_of({0, bucket_size_}).end}, DType::kF64);
  norm_value_ = arena_.persistent("gradient norm", {1}, DType::kF32);
  const Tensor& weights = working_.defined() ? working_ : master_;
  for (size_t i = 0; i < trained_.size(); ++i) trained_[i]->value = piece(weights, i, trained_[i]->shape);
  place_slots();
  for (nn::Constant& constant : decoder_->parameters().constants())
    constant.value = arena_.persistent(constant.name, constant.shape, DType::kF32);
}

void TrainStep::place_frozen() {
  if (options_.frozen && !on_host())
    fail(ErrorKind::kUnsupported,
         "a base in {} is not trained on a GPU yet: train without it, or with --device cpu",
         op::info(*options_.frozen).name);
  for (nn::Parameter& parameter : decoder_->parameters().parameters()) {
    const std::string name = "frozen " + parameter.name;
    if (!stays_packed(parameter)) {
      parameter.value = arena_.persistent(name, parameter.shape, options_.compute);
      continue;
    }
    parameter.unpacked = options_.compute;
    for (op::PackedSegment& segment : parameter.packed.segments)
      segment.data = arena_.persistent(name, parameter.packed.shape_of(segment), DType::kU8);
  }
}

// Whether a frozen weight is packed; declares it then.
bool TrainStep::stays_packed(nn::Parameter& p) const {
  if (p.shape.rank() != 2 || p.precise || !on_host()) return false;
  const auto bits_of = [](op::Packing packing) { return op::info(packing).bits; };
  bool as_stored = options_.base != nullptr, smaller = false;
  for (const nn::Part& part : p.parts) {
    if (!options_.base) break;
    const op::Packing stored = model::natural_packing(options_.base->info(part.name));
    const bool half = stored == op::Packing::kBF16 || stored == op::Packing::kF16;
    smaller = smaller || bits_of(stored) > 0 || (half && options_.compute == DType::kF32);
    if (options_.frozen)
      as_stored = as_stored && bits_of(stored) > 0 && bits_of(stored) <= bits_of(*options_.frozen);
  }
  if (!options_.frozen && !smaller) return false;
  model::declare_packed(p, options_.base.get(), as_stored ? std::nullopt : options_.frozen);
  return true;
}

Tensor TrainStep::piece(const Tensor& bucket, size_t index, const Shape& shape) const {
  return {bucket.storage(), static_cast<size_t>(offsets_[index]) * size_of(bucket.dtype()), bucket.dtype(),
          shape};
}

Tensor TrainStep::stretch(const Tensor& bucket, Range elements) const {
  const bool of_some = bucket.shape().numel() != bucket_size_;
  const int64_t first = elements.begin - (of_some ? split_ : 0);
  return {bucket.storage(),
          static_cast<size_t>(first) * size_of(bucket.dtype()),
          bucket.dtype(),
          {elements.size()}};
}

Tensor TrainStep::forward(Context& context, const float* grad_scale, model::RecomputeSpec recompute) {
  const Tensor hidden =
      decoder_->hidden(context, tokens_, *attention_, recompute, context.tape ? &router_ : nullptr);
  return decoder_->loss(context, hidden, labels_, mask_, grad_scale, learnt_.get());
}

void TrainStep::trace_micro_batch() {
  Tape tape = op::make_tape();
  for (size_t i = 0; i < trained_.size(); ++i)
    tape.watch(trained_[i]->value, piece(grads_, i, trained_[i]->shape), &accumulate_);
  if (adapter_) adapter_->connect(true, on_host());
  Tracer tracer(micro_);
  Context context{tracer, &tape};
  if (decoder_->num_mixtures() > 0 && (options_.balance_loss != 0 || options_.z_loss != 0))
    router_ = {options_.balance_loss, options_.z_loss, false, &router_scale_,
               decoder_->router_statistics(tracer)};
  micro_loss_ = forward(context, &grad_scale_, options_.recompute);
  tape.backward(tracer);
  micro_.keep(micro_loss_);
  if (router_.wanted()) micro_.keep(router_.statistics);
  micro_.plan(isa_of(options_.device), team_.size());
  arena_.add(micro_);
  if (!on_host()) find_ready();
}

// In pieces large enough for the speed of the links between GPUs.
void TrainStep::find_ready() {
  constexpr int64_t kPiece = 8 << 20;  // gradients
  std::vector<size_t> written(trained_.size());
  micro_.for_writes(*grads_.storage(), [&](size_t launch, const TensorView& view) {
    const auto at = static_cast<int64_t>(view.offset / sizeof(float));
    for (size_t i = 0; i < trained_.size(); ++i)
      if (offsets_[i] <= at && at < offsets_[i] + trained_[i]->shape.numel()) written[i] = launch + 1;
  });
  size_t launches = 0;
  int64_t begin = 0;
  for (size_t i = trained_.size(); i-- > 0;) {  // as place_parameters() has them
    launches = std::max(launches, written[i]);
    const int64_t end = i > 0 ? offsets_[i - 1] : bucket_size_;
    if (i > 0 && end - begin < kPiece) continue;
    ready_.push_back({launches, begin = end});
  }
}

void TrainStep::trace_evaluation() {
  if (adapter_) adapter_->connect(false, on_host());
  Tracer tracer(evaluation_);
  Context context{tracer, nullptr};
  evaluation_loss_ = forward(context, nullptr, {});
  evaluation_.keep(evaluation_loss_);
  evaluation_.plan(isa_of(options_.device), team_.size());
  arena_.add(evaluation_);
}

void TrainStep::trace_update() {
  if (const Range blocks = blocks_of(own()); blocks.size() > 0) {
    const Range elements{blocks.begin * op::kNormBlock, std::min(blocks.end * op::kNormBlock, bucket_size_)};
    const auto size = static_cast<double>(elements.size());
    Tracer(squares_).launch(op::kGradSquares,
                            {stretch(grads_, elements), block_squares_.rows(blocks.begin, blocks.size())},
                            {2 * size, 4 * size});
  }
  Tracer(norm_).launch(op::kGradNorm, {block_squares_, norm_value_}, {});
  Tracer tracer(update_);
  const UpdateContext context{tracer, norm_value_, &scalars_};
  for (size_t i = weights_.size(); i-- > 0;)
    if (weights_[i].held.size() > 0 && !is_offloaded(i)) optimizer_->update(context, weights_[i]);
  if (stream_) trace_stream(context);
  for (Program* program : {&squares_, &norm_, &update_}) {
    program->plan(isa_of(options_.device), team_.size());
    arena_.add(*program);
  }
}

MemoryUse TrainStep::memory() const {
  MemoryUse use;
  for (const auto& [name, bytes] : arena_.persistent()) {
    const size_t rounded = (bytes + 63) & ~size_t{63};
    if (name.starts_with("frozen "))
      use.frozen += rounded;
    else if (name.starts_with("gradient"))
      use.gradients += rounded;
    else if (name.starts_with("optimizer "))
      use.optimizer += rounded;
    else if (name.ends_with("weights") || name.starts_with("rope"))
      use.weights += rounded;
    else
      use.inputs += rounded;
  }
  use.activations = arena_.transient_bytes();
  use.offloaded = pinned_arena_.bytes();
  return use;
}

void TrainStep::allocate(Allocator& allocator) {
  arena_.bind(allocator, options_.device);
  losses_.resize(static_cast<size_t>(tokens_.dim(0)));
  if (stream_) {
    pinned_ = make_shared_allocator(options_.device);
    pinned_arena_.bind(*pinned_);
    lanes_ = make_lanes(options_.device, stream_->marks());
  }
  if (on_host()) {
    model::fill_constants(decoder_->parameters());
    return;
  }
  host_allocator_ = make_cpu_allocator();
  for (Tensor* tensor : {&master_, &grads_, &tokens_, &labels_, &mask_, &positions_, &cu_seqlens_})
    host_.emplace(tensor->storage().get(), make_tensor(*host_allocator_, tensor->shape(), tensor->dtype()));
  if (shares())
    host_.emplace(block_squares_.storage().get(),
                  make_tensor(*host_allocator_, block_squares_.shape(), block_squares_.dtype()));
  if (shares_weights())
    host_.emplace(working_.storage().get(),
                  make_tensor(*host_allocator_, working_.shape(), working_.dtype()));
  for (const Tensor& kept : kept_)
    host_.emplace(kept.storage().get(), make_tensor(*host_allocator_, kept.shape(), kept.dtype()));
  if (const Tensor& told = router_.statistics; told.defined())
    host_.emplace(told.storage().get(), make_tensor(*host_allocator_, told.shape(), told.dtype()));
  for (nn::Constant& constant : decoder_->parameters().constants()) {
    std::vector<float> values(static_cast<size_t>(constant.shape.numel()));
    constant.fill(values.data());
    copy_from_host(values.data(), constant.value);
  }
}

Tensor TrainStep::host(const Tensor& tensor) const {
  return tensor.device().kind == DeviceKind::kCpu ? tensor : host_.at(tensor.storage().get());
}

void TrainStep::to_device(std::initializer_list<const Tensor*> tensors) const {
  if (on_host()) return;
  for (const Tensor* tensor : tensors)
    if (tensor->bytes() > 0) copy_from_host(host(*tensor).raw(), *tensor);
}

void TrainStep::to_host(std::initializer_list<const Tensor*> tensors) const {
  if (on_host()) return;
  for (const Tensor* tensor : tensors)
    if (tensor->bytes() > 0) copy_to_host(*tensor, host(*tensor).raw());
}

void TrainStep::initialise(uint64_t seed) {
  for (size_t i = 0; i < trained_.size(); ++i) {
    throw_if_interrupted();
    model::initialise(*trained_[i], seed, decoder_->config().norm_init,
                      loaded_into({offsets_[i], offsets_[i] + trained_[i]->shape.numel()}), team_);
  }
  if (!shares()) weights_changed();
}

// On a GPU by way of the host's memory.
void TrainStep::load_frozen(const io::WeightSet& weights) {
  if (on_host()) return model::load_weights(weights, decoder_->parameters(), team_);
  auto& parameters = decoder_->parameters().parameters();
  const auto memory = make_cpu_allocator();
  std::vector<Tensor> values;
  for (nn::Parameter& parameter : parameters) {
    values.push_back(parameter.value);
    parameter.value = make_tensor(*memory, parameter.shape, parameter.value.dtype());
  }
  model::load_weights(weights, decoder_->parameters(), team_);
  for (size_t i = 0; i < parameters.size(); ++i) {
    copy_from_host(parameters[i].value.raw(), values[i]);
    parameters[i].value = values[i];
  }
}

void TrainStep::load(const io::WeightSet& weights) {
  model::warn_of_unused(weights, decoder_->parameters(), decoder_->config().tie_embeddings);
  if (adapter_) return load_frozen(weights);
  // Files are read into the master weights: a parameter's value is a bf16 copy of them in bf16.
  auto& parameters = decoder_->parameters().parameters();
  std::vector<Tensor> values;
  for (size_t i = 0; i < parameters.size(); ++i) {
    values.push_back(parameters[i].value);
    const Shape& shape = parameters[i].shape;
    parameters[i].value = loaded_into({offsets_[i], offsets_[i] + shape.numel()}).reshape(shape);
  }
  model::load_weights(weights, decoder_->parameters(), team_);
  for (size_t i = 0; i < parameters.size(); ++i) parameters[i].value = values[i];
  if (!shares()) weights_changed();
}

data::MicroBatch TrainStep::inputs() {
  const auto n = static_cast<size_t>(tokens_.dim(0));
  return {{host(tokens_).data<int32_t>(), n},
          {host(labels_).data<int32_t>(), n},
          {host(mask_).data<float>(), n},
          {host(positions_).data<int32_t>(), n},
          {host(cu_seqlens_).data<int32_t>(), static_cast<size_t>(cu_seqlens_.dim(0))}};
}

double TrainStep::learnt_tokens() const {
  const Tensor host_mask = host(mask_);
  const float* mask = host_mask.data<float>();
  if (learnt_) learnt_->choose(mask);
  double tokens = 0;
  for (int64_t i = 0; i < mask_.dim(0); ++i) tokens += static_cast<double>(mask[i]);
  return tokens;
}

TrainStep::Sums TrainStep::sums(const Tensor& loss, double tokens) {
  Sums result{0, tokens, {}};
  copy_to_host(loss, losses_.data());
  for (const float value : losses_) result.loss += static_cast<double>(value);
  return result;
}

TrainStep::Sums TrainStep::micro_batch(int64_t num_seqs, bool first, int64_t micro_batches,
                                       int64_t first_sample, double batch_tokens, cuda::RankGpus* ranks) {
  dropout_rows_.first = first_sample * options_.sequence_length;
  const double tokens = learnt_tokens();
  num_seqs_ = num_seqs;
  accumulate_ = first ? 0 : 1;
  const auto positions = static_cast<double>(tokens_.dim(0)), parts = static_cast<double>(micro_batches);
  grad_scale_ = static_cast<float>(1.0 / (batch_tokens > 0 ? batch_tokens : std::max(tokens, 1.0) * parts));
  router_scale_ = static_cast<float>(batch_tokens > 0 ? positions / batch_tokens : 1.0 / parts);
  to_device({&tokens_, &labels_, &mask_, &positions_, &cu_seqlens_});
  if (ranks)
    run_with(*ranks);
  else
    run_micro_batch();
  Sums result = sums(micro_loss_, tokens);
  if (!router_.wanted()) return result;
  op::RouterLosses told = router_;
  told.statistics = host(router_.statistics);
  to_host({&router_.statistics});
  result.router = op::router_loss_values(told, decoder_->config().moe.top_k, tokens_.dim(0));
  return result;
}

// Ranks may be threads that share a GPU, where copies of one wait for streams of all: not while one records.
void TrainStep::run_micro_batch() {
  if (on_host() || !options_.graphs || options_.ranks > 1) return micro_.run(team_);
  const bool drops = options_.lora && options_.lora->dropout > 0;
  graphs_.run({num_seqs_, accumulate_, drops ? dropout_rows_.first : 0, grad_scale_, router_scale_},
              [&] { micro_.start(team_); });
  cuda::synchronize();
}

void TrainStep::run_with(cuda::RankGpus& ranks) {
  if (!std::exchange(warm_, true)) {  // products are timed when first met: nothing should run beside them
    micro_.run(team_);
    sum_on(ranks, {0, bucket_size_});
    return ranks.wait();
  }
  auto next = ready_.begin();
  int64_t begin = 0;
  micro_.start(team_, [&](size_t launches) {
    for (; next != ready_.end() && next->launches <= launches; begin = next++->end)
      sum_on(ranks, {begin, next->end});
  });
  ranks.wait();
}

TrainStep::Sums TrainStep::evaluate(int64_t num_seqs) {
  FLAGSCALE_CHECK(options_.evaluation);
  num_seqs_ = num_seqs;
  const double tokens = learnt_tokens();
  to_device({&tokens_, &labels_, &mask_, &positions_, &cu_seqlens_});
  evaluation_.run(team_);
  return sums(evaluation_loss_, tokens);
}

void TrainStep::update(const op::StepScalars& step) {
  scalars_ = step;
  if (!stream_) return update_.run(team_);
  if (step.skip != 0) return;  // all would come back as it went
  stream_->start(*lanes_);
  update_.start(team_, [&](size_t launches) { stream_->launched(*lanes_, launches); });
  if (!on_host()) cuda::synchronize();
}

double TrainStep::zero_gradients() const {
  int64_t zeros = 0;
  to_host({&grads_});
  const Tensor grads = host(grads_);
  for (size_t i = 0; i < trained_.size(); ++i) {
    const Range here = common({offsets_[i], offsets_[i] + trained_[i]->shape.numel()}, own());
    const float* first = grads.data<float>() + here.begin;
    zeros += std::count(first, first + here.size(), 0.f);
  }
  return static_cast<double>(zeros);
}

int64_t TrainStep::trained_parameters() const {
  int64_t total = 0;
  for (const nn::Parameter* parameter : trained_) total += parameter->shape.numel();
  return total;
}

double TrainStep::flops_per_step() const { return micro_.cost().flops; }

std::unordered_map<std::string, double> TrainStep::profile(int64_t num_seqs) {
  std::unordered_map<std::string, double> seconds;
  num_seqs_ = num_seqs;
  accumulate_ = 0;
  micro_.profile(team_, seconds);
  squares_.profile(team_, seconds);
  norm_.profile(team_, seconds);
  if (!stream_) {
    update_.profile(team_, seconds);
    return seconds;
  }
  const auto start = std::chrono::steady_clock::now();
  update(op::StepScalars(scalars_));
  seconds["update, offloaded"] +=
      std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  return seconds;
}

}  // namespace flagscale::train
