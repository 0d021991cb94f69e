// Where what the optimizer keeps lies: on the device, or in the host's memory, from where it passes through.
#include <algorithm>

#include "base/error.h"
#include "train/step.h"

namespace flagscale::train {

// What is held of some of a parameter's elements in the buckets; its slots have no place yet.
TrainedWeight TrainStep::unplaced(size_t i, Range here) const {
  const nn::Parameter& parameter = *trained_[i];
  TrainedWeight weight{&parameter, {here.begin - offsets_[i], here.end - offsets_[i]}, {}, {}, {}, {}};
  weight.slots.resize(parameter.parts.size());
  if (here.size() > 0) {
    weight.gradient = stretch(grads_, here);
    if (working_.defined()) weight.copy = stretch(working_, here);
    if (!offloaded_master_.defined() || here.begin >= split_) weight.value = stretch(master_, here);
  }
  weight.for_parts([&](size_t part, Range held) {
    const Shape shape = part_shape(parameter, parameter.parts[part]);
    weight.slots[part] = optimizer_->slots(parameter, shape);
    for (Slot& slot : weight.slots[part]) slot.held = slot.numbers_of(held, part_range(parameter, part));
  });
  return weight;
}

void TrainStep::place_slots() {
  for (size_t i = 0; i < trained_.size(); ++i)
    weights_.push_back(unplaced(i, common({offsets_[i], offsets_[i] + trained_[i]->shape.numel()}, own())));
  size_t resident = weights_.size();  // those after it are offloaded: buckets have the last in front
  while (split_ > own().begin && resident > 0 && offsets_[resident - 1] < split_) --resident;
  kept_ = train::place_slots(std::span(weights_).first(resident), arena_);
  const auto offloaded = train::place_slots(std::span(weights_).subspan(resident), pinned_arena_);
  place_stream(offloaded);
}

// Megatron chooses whole weights too, until they are as much as is asked for.
int64_t TrainStep::offloaded_end() const {
  int64_t end = own().begin;
  const double wanted = options_.offload * static_cast<double>(own().size());
  for (size_t i = trained_.size(); i-- > 0 && static_cast<double>(end - own().begin) < wanted;) {
    const int64_t next = i > 0 ? offsets_[i - 1] : bucket_size_;
    if (next <= own().begin) continue;
    require_passable(i);
    end = std::min(next, own().end);
  }
  return end;
}

// One fp32 number an element, each updated by itself.
void TrainStep::require_passable(size_t i) const {
  const nn::Parameter& parameter = *trained_[i];
  bool passable = true;
  for (const Piece& piece : optimizer_->pieces(parameter))
    passable = passable && piece.grain > 0 && kLineElements % piece.grain == 0;
  for (const nn::Part& part : parameter.parts)
    for (const Slot& slot : optimizer_->slots(parameter, part_shape(parameter, part)))
      passable = passable && slot.dtype == DType::kF32 && slot.shape == part_shape(parameter, part);
  if (passable) return;
  fail(ErrorKind::kUnsupported,
       "optimizer_cpu_offload: what {} keeps of {} does not pass through a GPU's memory in pieces: set "
       "optimizer: adam, lion or sgd, or leave optimizer_cpu_offload out",
       options_.optimizer.name, parameter.name);
}

// offloaded: the buckets of what the optimizer keeps there. Of weights in fp32 it may be nothing (SGD without
// momentum).
void TrainStep::place_stream(const std::vector<Tensor>& offloaded) {
  std::vector<Tensor> buckets = offloaded;
  if (offloaded_master_.defined()) buckets.insert(buckets.begin(), offloaded_master_);
  if (buckets.empty()) return;
  stream_ = std::make_unique<StateStream>(Range{own().begin, split_});
  for (const Tensor& bucket : buckets)
    stream_->add(bucket, arena_.persistent("optimizer staging", {stream_->staging_elements()}, DType::kF32));
}

// A weight, or what of it is in a piece, as the piece's kernels see it.
TrainedWeight TrainStep::staged(size_t i, size_t piece) const {
  const Range passing =
      common({offsets_[i], offsets_[i] + trained_[i]->shape.numel()}, stream_->piece(piece));
  TrainedWeight weight = unplaced(i, passing);
  if (offloaded_master_.defined())
    weight.value = stream_->staged(stream_->bucket_of(*offloaded_master_.storage()), piece, passing);
  weight.for_parts([&](size_t part, Range held) {
    for (size_t s = 0; s < weight.slots[part].size(); ++s) {
      const size_t bucket = stream_->bucket_of(*weights_[i].slots[part][s].bucket.storage());
      const Tensor numbers =
          stream_->staged(bucket, piece, {offsets_[i] + held.begin, offsets_[i] + held.end});
      weight.slots[part][s].bucket = numbers;
      weight.slots[part][s].offset = numbers.offset();
    }
  });
  return weight;
}

void TrainStep::trace_stream(const UpdateContext& context) {
  size_t i = trained_.size();  // one after the last weight that has passed
  for (size_t piece = 0; piece < stream_->pieces(); ++piece) {
    const size_t begin = update_.num_launches();
    const auto end_of = [&](size_t p) { return offsets_[p] + trained_[p]->shape.numel(); };
    while (end_of(i - 1) <= stream_->piece(piece).begin) --i;
    for (size_t p = i; p > 0 && offsets_[p - 1] < stream_->piece(piece).end; --p)
      optimizer_->update(context, staged(p - 1, piece));
    stream_->set_launches(begin, update_.num_launches());
  }
}

void TrainStep::take_host_use(MemoryUse& use) const {
  use.offloaded = pinned_arena_.bytes();
  if (on_host()) return;
  for (const nn::Parameter* p : trained_)
    use.staging = std::max(use.staging, static_cast<size_t>(p->shape.numel()) * sizeof(float));
  if (adapter_)
    for (const nn::Parameter& p : decoder_->parameters().parameters())
      use.staging = std::max(use.staging, static_cast<size_t>(p.shape.numel()) * size_of(options_.compute));
  if (options_.ranks > 2)  // what they exchange there
    use.staging += grads_.bytes() + (shares() ? (shares_weights() ? working_ : master_).bytes() : 0);
  use.copies = master_.bytes();
  for (const Tensor& kept : kept_) use.copies += kept.bytes();
}

// The products' weights of master weights that are offloaded.
void TrainStep::cast_offloaded() {
  if (!offloaded_master_.defined()) return;
  const size_t bucket = stream_->bucket_of(*offloaded_master_.storage());
  for (size_t i = 0; i < stream_->pieces(); ++i) {
    const Range& elements = stream_->piece(i);
    const Tensor weights = stream_->staged(bucket, i, elements);
    copy_from_host(stream_->away(bucket, elements).raw(), weights);
    cast_to_working(weights, elements);
  }
}

}  // namespace flagscale::train
