// What a TrainStep holds, to and from outside: files and other ranks.
#include <algorithm>
#include <cmath>
#include <cstring>

#include "base/interrupt.h"
#include "device/cuda/cuda.h"
#include "io/xxh64.h"
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
  }
  if (!shares()) weights_changed();
}

// On a GPU by way of the host's memory.
void TrainStep::load_frozen(const io::WeightSet& weights) {
  rounded_ = 0;
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

void TrainStep::weights_changed() {
  to_device({&master_});
  for (const Tensor& kept : kept_) to_device({&kept});
  trained_changed();
  if (!working_.defined() || shares_weights()) return;
  cast_to_working(master_, {split_, own().end});
  cast_offloaded();
}

// Master weights were loaded into the gradients, which hold nothing yet: no rank has more memory than that.
void TrainStep::take_share() {
  if (shares_weights()) {
    for (const Range& some : {Range{own().begin, split_}, Range{split_, own().end}})
      if (some.size() > 0) {
        const Tensor share = stretch(host(grads_), some);
        std::memcpy(master(some).raw(), share.raw(), share.bytes());
      }
    to_device({&grads_});
    cast_to_working(grads_, {0, bucket_size_});
  }
  weights_changed();
}

double TrainStep::add_squares(double sum) const {
  to_host({&master_});
  for (const Tensor& weights : {offloaded_master_, host(master_)}) {
    if (!weights.defined()) continue;
    for (int64_t i = 0; i < weights.dim(0); ++i) {
      const auto w = static_cast<double>(number(weights, i));
      sum += w * w;
    }
  }
  return sum;
}

double TrainStep::parameters_norm() const { return std::sqrt(add_squares(0)); }

std::string TrainStep::weights_checksum() const {
  const Tensor& whole = shares_weights() ? working_ : master_;
  to_host({&whole});
  io::Xxh64 hash;
  for (const Tensor& weights : {shares_weights() ? Tensor() : offloaded_master_, host(whole)})
    if (weights.defined()) hash.update({static_cast<const std::byte*>(weights.raw()), weights.bytes()});
  return io::checksum_text(hash.digest());
}

}  // namespace flagscale::train
