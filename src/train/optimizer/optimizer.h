#pragma once
// Optimizers: what each keeps of a weight, and its update as launches. One file each in this folder, which
// registers it under its name in `optimizer`; the memory plan, checkpoints and the step have no other list.

#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/registry.h"
#include "nn/parameter.h"
#include "op/adamw/adamw.h"
#include "plan/program.h"
#include "train/optimizer/share.h"

namespace flagscale::train {

// What AdamW reads and keeps of a weight, fp32 or bf16 each: Megatron's precision-aware optimizer. params
// bf16: the products' weights are what is updated, and there is no master copy.
struct StateTypes {
  DType params = DType::kF32, grads = DType::kF32, exp_avg = DType::kF32, exp_avg_sq = DType::kF32;
  bool operator==(const StateTypes&) const = default;
};

// The keys of all of them; each reads its own.
struct OptimizerSpec {
  std::string name = "adam";
  StateTypes types;
  double adam_beta1 = 0.9, adam_beta2 = 0.999, adam_eps = 1e-8;
  double sgd_momentum = 0.9;
  double lion_beta1 = 0.9, lion_beta2 = 0.99;
  double adafactor_decay_rate = -0.8, adafactor_clip_threshold = 1;
  bool adafactor_scale_parameter = false;
  double muon_momentum = 0.95, muon_extra_scale_factor = 1;
  bool muon_use_nesterov = false, muon_split_qkv = true;
  std::string muon_scale_mode = "spectral";
  int64_t muon_num_ns_steps = 5;
};

// A tensor that is kept of a weight as files name it, zeros at the start. In checkpoints it is
// "role:name of the weight".
struct Slot {
  std::string role;
  DType dtype = DType::kF32;
  Shape shape;
  int64_t each = 1;    // elements of the weight that a number of it stands for, where the weight may be cut
  Range held = {};     // what of its numbers is here
  Tensor bucket = {};  // once placed: what it lies in, and how many bytes from its start
  size_t offset = 0;

  // Which of its numbers stand for some elements of the parameter's part.
  Range numbers_of(Range some, Range part) const;
  size_t bytes() const { return static_cast<size_t>(held.size()) * size_of(dtype); }
  Tensor tensor() const {
    return {bucket.storage(), offset, dtype, held.size() == shape.numel() ? shape : Shape{held.size()}};
  }
};

// The shape of a part of a parameter, and which of the parameter's elements it is.
Shape part_shape(const nn::Parameter& parameter, const nn::Part& part);
Range part_range(const nn::Parameter& parameter, size_t part);

// A parameter that is trained, or what of it is this rank's share. Slots lie part after part without gaps:
// those of one role are one tensor too.
struct TrainedWeight {
  const nn::Parameter* parameter;
  Range held;                            // of its elements
  Tensor value, gradient, copy;          // [held]: fp32 or bf16, the same, bf16 or undefined
  std::vector<std::vector<Slot>> slots;  // of each part, in the order of Optimizer::slots(); none: not held

  int64_t columns() const { return parameter->shape.numel() / parameter->shape[0]; }
  // Rows [first, first + count) of a tensor of what is held.
  Tensor rows(const Tensor& of, int64_t first, int64_t count) const;
  // Some of the parameter's elements, flat, of a tensor of what is held.
  Tensor elements(const Tensor& of, Range some) const;
  // Calls body(part, what of the parameter's elements is held of it) for each part that is held.
  template <class Body>
  void for_parts(Body body) const {
    for (size_t i = 0; i < slots.size(); ++i)
      if (const Range here = common(part_range(*parameter, i), held); here.size() > 0) body(i, here);
  }
  // A role's tensors of all parts, of a number an element, as one [held].
  Tensor whole(size_t slot) const;
};

struct UpdateContext {
  Recorder& recorder;
  Tensor norm;     // of all gradients
  Tensor scalars;  // op::StepScalars in the device's memory
};

class Optimizer {
 public:
  virtual ~Optimizer() = default;
  // Where shares of a parameter may end: from its first element to its last. By default every element goes
  // its own way.
  virtual std::vector<Piece> pieces(const nn::Parameter& parameter) const;
  // Of one part: [rows, columns], or a vector's [rows].
  virtual std::vector<Slot> slots(const nn::Parameter& parameter, const Shape& part) const = 0;
  virtual void update(const UpdateContext& context, const TrainedWeight& weight) const = 0;
};

using MakeOptimizer = std::unique_ptr<Optimizer> (*)(const OptimizerSpec&);
template <class T>
std::unique_ptr<Optimizer> make(const OptimizerSpec& spec) {
  return std::make_unique<T>(spec);
}
// Throws Error{kConfig} naming those there are.
std::unique_ptr<Optimizer> make_optimizer(const OptimizerSpec& spec);
std::vector<std::string> optimizer_names();

// Places the slots of all weights: a bucket a role, named "optimizer ROLE", in the order of the weights' own
// buckets; each parameter begins at a whole cache line. Returns the buckets.
std::vector<Tensor> place_slots(std::span<TrainedWeight> weights, Arena& arena);

}  // namespace flagscale::train
