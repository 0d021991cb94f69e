#include "train/step.h"

#include <algorithm>
#include <utility>

#include "base/error.h"
#include "device/cuda/peers.h"
#include "model/packed_weights.h"
#include "model/weights.h"
#include "op/attention/attention.h"
#include "op/elementwise/elementwise.h"
#include "op/matmul/matmul.h"
#include "train/optimizer/state_types.h"

namespace flagscale::train {

TrainStep::TrainStep(model::DecoderConfig config, const StepOptions& options)
    : options_(options),
      team_(options.threads),
      decoder_(std::make_unique<model::Decoder>(std::move(config), partition_)),
      optimizer_(make_optimizer(options.optimizer)) {
  if (const int head_dim = decoder_->config().head_dim; !on_host() && head_dim > op::kMostHeadDimOnCuda)
    fail(ErrorKind::kUnsupported,
         "kv_channels (head_dim) is {}: at most {} are trained on a GPU; set a smaller one, or use --device "
         "cpu",
         head_dim, op::kMostHeadDimOnCuda);
  require_state_types(options_.optimizer,
                      {options_.compute, options_.lora.has_value(), options_.offload, options_.ranks});
  if (options_.cu_seqlens_capacity == 0) options_.cu_seqlens_capacity = options_.micro_batch_size + 1;
  if (options_.lora)
    adapter_ = std::make_unique<Adapter>(*decoder_, *options_.lora, options_.seed, &dropout_rows_);
  for (nn::Parameter& p : (adapter_ ? adapter_->parameters() : decoder_->parameters()).parameters())
    trained_.push_back(&p);
  place_parameters();
  if (options_.fp8) place_fp8();
  if (adapter_) place_frozen();
  const int64_t tokens = options_.micro_batch_size * options_.sequence_length;
  tokens_ = arena_.persistent("tokens", {tokens}, DType::kI32);
  labels_ = arena_.persistent("labels", {tokens}, DType::kI32);
  mask_ = arena_.persistent("loss_mask", {tokens}, DType::kF32);
  positions_ = arena_.persistent("position_ids", {tokens}, DType::kI32);
  if (on_host() || options_.masked) {
    order_ = arena_.persistent("learnt tokens", {tokens}, DType::kI32);
    learnt_ = std::make_unique<op::LearntTokens>(order_, decoder_->config().vocab_size, !on_host());
  }
  cu_seqlens_ = arena_.persistent("cu_seqlens", {options_.cu_seqlens_capacity}, DType::kI32);
  attention_ =
      std::make_unique<nn::PackedAttention>(nn::PackedSequences{positions_, cu_seqlens_, &num_seqs_});
  if (!on_host() && options_.ranks == 2)
    exchange_room_ = arena_.persistent("exchange", {cuda::PeerGpus::kRoom}, DType::kU8);
  if (replays()) loss_sum_ = arena_.persistent("loss sum", {1}, DType::kF32);
  trace_micro_batch();
  trace_update();
  if (options_.evaluation) trace_evaluation();
  if (adapter_) trace_base();
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
  const StateTypes& types = options_.optimizer.types;
  const bool copied = options_.compute != types.params;
  split_ = offloaded_end();
  master_ = arena_.persistent("weights", {copied ? own().end - split_ : bucket_size_}, types.params);
  if (copied && split_ > own().begin)
    offloaded_master_ = pinned_arena_.persistent("weights", {split_ - own().begin}, types.params);
  if (copied) working_ = arena_.persistent("bf16 weights", {bucket_size_}, options_.compute);
  grads_ = arena_.persistent("gradients", {bucket_size_}, types.grads);
  block_squares_ = arena_.persistent("gradient squares", {blocks_of({0, bucket_size_}).end}, DType::kF64);
  norm_value_ = arena_.persistent("gradient norm", {1}, DType::kF32);
  step_ = arena_.persistent("step scalars", {sizeof(op::StepScalars)}, DType::kU8);
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
    if (parameter.fp8.defined()) continue;
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
  round_weights(tracer, &accumulate_);
  Context context{tracer, &tape};
  if (decoder_->num_mixtures() > 0 && (options_.balance_loss != 0 || options_.z_loss != 0))
    router_ = {options_.balance_loss, options_.z_loss, false, &router_scale_,
               decoder_->router_statistics(tracer)};
  micro_loss_ = forward(context, &grad_scale_, options_.recompute);
  tape.backward(tracer);
  micro_.keep(micro_loss_);
  if (loss_sum_.defined())
    tracer.launch(op::kBiasGrad, {micro_loss_.reshape({tokens_.dim(0), 1}), loss_sum_, &accumulate_}, {});
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
    const auto at = static_cast<int64_t>(view.offset / size_of(grads_.dtype()));
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
  round_weights(tracer, &rounded_);
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
                            {2 * size, static_cast<double>(size_of(grads_.dtype())) * size});
  }
  op::GradNormArgs norm{block_squares_, norm_value_, {}};
  if (loss_sum_.defined()) norm.loss = loss_sum_;
  Tracer(norm_).launch(op::kGradNorm, norm, {});
  Tracer tracer(update_);
  const UpdateContext context{tracer, norm_value_, step_};
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
  use.graphs = graph_bytes();
  take_host_use(use);
  return use;
}

// Measured: 4 to 6 KB a launch, of 420 and of 1,900 in a graph, taken by 2 MiB.
size_t TrainStep::graph_bytes() const {
  if (!replays()) return 0;
  constexpr size_t kOfLaunch = 8 << 10, kPiece = 2 << 20;
  const int64_t most = options_.micro_batches;
  const auto micro_batches = static_cast<size_t>(steps_whole(most) ? most : std::min<int64_t>(most, 2));
  const size_t launches = micro_batches * micro_.num_launches() + squares_.num_launches() +
                          norm_.num_launches() + update_.num_launches();
  return (launches * kOfLaunch + kPiece - 1) / kPiece * kPiece;
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
  shared_allocator_ = make_shared_allocator(options_.device);
  pinned_step_ = make_tensor(*shared_allocator_, step_.shape(), step_.dtype());
  pinned_norm_ = make_tensor(*shared_allocator_, norm_value_.shape(), norm_value_.dtype());
  for (Tensor* tensor : {&master_, &grads_, &tokens_, &labels_, &mask_, &positions_, &cu_seqlens_})
    mirrors_.add(*tensor);
  if (shares()) mirrors_.add(block_squares_);
  if (shares_weights()) mirrors_.add(working_);
  for (const Tensor& kept : kept_) mirrors_.add(kept);
  if (order_.defined()) mirrors_.add(order_);
  if (router_.statistics.defined()) mirrors_.add(router_.statistics);
  for (nn::Constant& constant : decoder_->parameters().constants()) {
    std::vector<float> values(static_cast<size_t>(constant.shape.numel()));
    constant.fill(values.data());
    copy_from_host(values.data(), constant.value);
  }
}

int64_t TrainStep::trained_parameters() const {
  int64_t total = 0;
  for (const nn::Parameter* parameter : trained_) total += parameter->shape.numel();
  return total;
}

double TrainStep::flops_per_step() const { return micro_.cost().flops; }

}  // namespace flagscale::train
