// What a TrainStep holds, to and from outside: files and other ranks.
#include <algorithm>
#include <cmath>
#include <cstring>

#include "base/interrupt.h"
#include "device/cuda/cuda.h"
#include "io/xxh64.h"
#include "model/packed_weights.h"
#include "model/weights.h"
#include "op/elementwise/elementwise.h"
#include "train/step.h"

namespace flagscale::train {

namespace {

// In the bytes of each rank.
std::vector<Range> times(std::vector<Range> ranges, DType dtype) {
  const auto size = static_cast<int64_t>(size_of(dtype));
  for (Range& range : ranges) range = {range.begin * size, range.end * size};
  return ranges;
}

std::span<std::byte> raw_bytes(const Tensor& tensor) {
  return {static_cast<std::byte*>(tensor.raw()), tensor.bytes()};
}

void round_to(const Tensor& bf16, const Tensor& from, const Team& team) {
  constexpr int64_t kBlock = 1 << 16;
  const int64_t size = from.shape().numel();
  team.for_each((size + kBlock - 1) / kBlock, [&](int64_t block) {
    const int64_t end = std::min(size, (block + 1) * kBlock);
    for (int64_t i = block * kBlock; i < end; ++i) bf16.data<BF16>()[i] = to_bf16(from.data<float>()[i]);
  });
}

}  // namespace

float number(const Tensor& tensor, int64_t at) {
  return tensor.dtype() == DType::kBF16 ? to_float(tensor.data<BF16>()[at]) : tensor.data<float>()[at];
}

void TrainStep::initialise(uint64_t seed) {
  const auto memory = make_cpu_allocator();
  for (size_t i = 0; i < trained_.size(); ++i) {
    throw_if_interrupted();
    const Tensor to = loaded_into({offsets_[i], offsets_[i] + trained_[i]->shape.numel()});
    const bool rounded = to.dtype() != DType::kF32;
    const Tensor values = rounded ? make_tensor(*memory, to.shape(), DType::kF32) : to;
    model::initialise(*trained_[i], seed, decoder_->config().norm_init, values, team_);
    if (rounded) round_to(to, values, team_);
    mirrors_.put(raw_bytes(to));
  }
  if (!shares()) weights_changed();
}

// By way of the host's memory where it is held elsewhere or in another type.
void TrainStep::load_frozen(const io::WeightSet& weights) {
  const auto memory = make_cpu_allocator();
  for (const nn::Parameter& parameter : decoder_->parameters().parameters()) {
    if (parameter.packed.defined()) {
      model::load_packed(parameter, weights, team_);
      continue;
    }
    nn::Parameter here = parameter;
    if (!on_host() || parameter.fp8.defined())
      here.value = make_tensor(*memory, parameter.shape, options_.compute);
    model::load_weight(weights, here, team_);
    take_frozen(parameter, here.value);
  }
}

void TrainStep::load(const io::WeightSet& weights) {
  model::warn_of_unused(weights, decoder_->parameters(), decoder_->config().tie_embeddings);
  if (adapter_) return load_frozen(weights);
  // Files are read into the master weights: a parameter's value is a bf16 copy of them in bf16.
  for (size_t i = 0; i < trained_.size(); ++i) {
    nn::Parameter here = *trained_[i];
    here.value = loaded_into({offsets_[i], offsets_[i] + here.shape.numel()}).reshape(here.shape);
    model::load_weight(weights, here, team_);
    mirrors_.put(raw_bytes(here.value));
  }
  if (!shares()) weights_changed();
}

// Calls body(parameter, part, which elements of the buckets it is).
template <class Body>
void TrainStep::for_parts(Body body) const {
  for (size_t i = 0; i < trained_.size(); ++i)
    for (size_t part = 0; part < trained_[i]->parts.size(); ++part) {
      const Range elements = part_range(*trained_[i], part);
      body(i, part, Range{offsets_[i] + elements.begin, offsets_[i] + elements.end});
    }
}

// But for where its numbers are.
TrainStep::State TrainStep::whole_state(size_t i, size_t part, Range elements) const {
  const nn::Parameter& p = *trained_[i];
  const auto& [name, rows] = p.parts[part];
  std::vector<int64_t> shape{rows};
  if (p.shape.rank() == 2) shape.push_back(p.shape.numel() / p.shape[0]);
  return {&p,
          name,
          adapter_ ? adapter_->copies(name) : std::vector<std::string>(),
          std::move(shape),
          {},
          {},
          elements.size(),
          {}};
}

// Of a part whose elements of the buckets are these. `whole`: what the optimizer keeps of all of it.
TrainStep::Kept TrainStep::kept(size_t parameter, size_t part, Range elements, size_t slot,
                                const Slot& whole) const {
  Kept kept{whole.role, whole.dtype, {}, {}};
  for (int i = 0; i < whole.shape.rank(); ++i) kept.shape.push_back(whole.shape[i]);
  if (const auto& own = weights_[parameter].slots[part]; !own.empty())
    kept.bytes = {host(own[slot].bucket).data<std::byte>() + own[slot].offset, own[slot].bytes()};
  if (!shares()) return kept;
  for (const Range& share : shares_)
    kept.of_rank.push_back(whole.numbers_of(common(elements, share), elements));
  kept.of_rank = times(std::move(kept.of_rank), whole.dtype);
  return kept;
}

std::vector<TrainStep::State> TrainStep::states(bool gradients) const {
  to_host({&master_});
  if (gradients) to_host({&grads_});
  for (const Tensor& kept : kept_) to_host({&kept});
  return states_at_host(gradients);
}

std::vector<TrainStep::State> TrainStep::states_at_host(bool gradients) const {
  std::vector<State> result;
  for_parts([&](size_t i, size_t part, Range elements) {
    State state = whole_state(i, part, elements);
    const Range here = common(elements, own());
    state.size = here.size();
    if (here.size() > 0) {
      state.weight = master(here);
      if (gradients) state.grad = stretch(host(grads_), here);
    }
    if (shares_weights()) {
      for (const Range& share : shares_) {
        const Range some = common(elements, share);
        state.of_rank.push_back(
            some.size() == 0 ? Range{} : Range{some.begin - elements.begin, some.end - elements.begin});
      }
      state.of_rank = times(std::move(state.of_rank), DType::kF32);
    }
    const auto slots = optimizer_->slots(*trained_[i], part_shape(*trained_[i], trained_[i]->parts[part]));
    for (size_t slot = 0; slot < slots.size(); ++slot)
      state.kept.push_back(kept(i, part, elements, slot, slots[slot]));
    result.push_back(std::move(state));
  });
  return result;
}

std::vector<TrainStep::State> TrainStep::loading() const {
  if (!shares()) return states_at_host(false);
  std::vector<State> result;
  for_parts([&](size_t i, size_t part, Range elements) {
    result.push_back(whole_state(i, part, elements));
    result.back().weight = loaded_into(elements);
  });
  return result;
}

Tensor TrainStep::master(Range elements) const {
  if (offloaded_master_.defined() && elements.begin < split_)
    return offloaded_master_.rows(elements.begin - own().begin, elements.size());
  return stretch(host(master_), elements);
}

Tensor TrainStep::loaded_into(Range elements) const {
  return shares_weights() ? stretch(host(grads_), elements) : master(elements);
}

void TrainStep::cast_to_working(const Tensor& weights, Range elements) {
  if (elements.size() == 0) return;
  const Isa isa = isa_of(options_.device);
  KernelContext context{{options_.device, 0}, isa, team_, {}};
  const Shape lines{elements.size() / 16, 16};
  const op::CastArgs args{weights.reshape(lines), stretch(working_, elements).reshape(lines)};
  op::kCast.kernel(options_.device, isa)(context, args);
  if (!on_host()) cuda::synchronize();
}

void TrainStep::put(const State& state, bool with_kept) const {
  if (state.weight.defined()) mirrors_.put(raw_bytes(state.weight));
  if (!with_kept) return;
  for (const Kept& kept : state.kept) mirrors_.put(kept.bytes);
}

bool TrainStep::copies_fit() const {
  MemoryUse use = memory();
  use.offloaded = 0;  // which is taken
  return copied_ = copied_ || use.copies_fit(available_memory());
}

void TrainStep::weights_changed() {
  rounded_ = 0;
  if (!working_.defined() || shares_weights()) return;
  cast_to_working(master_, {split_, own().end});
  cast_offloaded();
}

// Master weights were loaded into the gradients, which hold nothing yet: no rank has more memory than that.
void TrainStep::take_share() {
  if (shares_weights()) {
    for (const Range& some : {Range{own().begin, split_}, Range{split_, own().end}})
      if (some.size() > 0) {
        const bool offloaded = offloaded_master_.defined() && some.begin < split_;
        copy_to_host(stretch(grads_, some), (offloaded ? master(some) : stretch(master_, some)).place());
      }
    cast_to_working(grads_, {0, bucket_size_});
  }
  weights_changed();
}

// A bucket, or some of it, in the host's memory, where it passes through in pieces.
template <class Body>
void TrainStep::for_stretches(const Tensor& bucket, Body body) const {
  if (!bucket.defined() || bucket.bytes() == 0) return;
  if (bucket.device().kind == DeviceKind::kCpu) return body(bucket);
  constexpr int64_t kElements = 16 << 20;
  const int64_t all = bucket.dim(0);
  const auto memory = make_cpu_allocator();
  const Tensor room = make_tensor(*memory, {std::min(kElements, all)}, bucket.dtype());
  for (int64_t at = 0; at < all; at += kElements) {
    const int64_t size = std::min(kElements, all - at);
    copy_to_host(bucket.rows(at, size), room.raw());
    body(room.rows(0, size));
  }
}

double TrainStep::add_squares(double sum) const {
  for (const Tensor& weights : {offloaded_master_, master_})
    for_stretches(weights, [&](const Tensor& some) {
      for (int64_t i = 0; i < some.dim(0); ++i) {
        const auto w = static_cast<double>(number(some, i));
        sum += w * w;
      }
    });
  return sum;
}

double TrainStep::zero_gradients() const {
  int64_t zeros = 0;
  for (size_t i = 0; i < trained_.size(); ++i) {
    const Range here = common({offsets_[i], offsets_[i] + trained_[i]->shape.numel()}, own());
    if (here.size() == 0) continue;
    for_stretches(stretch(grads_, here), [&](const Tensor& some) {
      for (int64_t at = 0; at < some.dim(0); ++at) zeros += number(some, at) == 0;
    });
  }
  return static_cast<double>(zeros);
}

double TrainStep::parameters_norm() const { return std::sqrt(add_squares(0)); }

std::string TrainStep::weights_checksum() const {
  io::Xxh64 hash;
  for (const Tensor& weights :
       {shares_weights() ? Tensor() : offloaded_master_, shares_weights() ? working_ : master_})
    for_stretches(weights, [&](const Tensor& some) { hash.update(raw_bytes(some)); });
  return io::checksum_text(hash.digest());
}

}  // namespace flagscale::train
