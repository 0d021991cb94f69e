#pragma once
// Optimizers: what each keeps of a weight, and its update as launches. One file each in this folder, which
// registers it under its name in `optimizer`; the memory plan, checkpoints and the step have no other list.

#include <memory>
#include <string>
#include <vector>

#include "base/registry.h"
#include "nn/parameter.h"
#include "op/adamw/adamw.h"
#include "plan/program.h"

namespace flagscale::train {

// The keys of all of them; each reads its own.
struct OptimizerSpec {
  std::string name = "adam";
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
  Tensor bucket = {};  // once placed: what it lies in, and how many bytes from its start
  size_t offset = 0;

  size_t bytes() const { return static_cast<size_t>(shape.numel()) * size_of(dtype); }
  Tensor tensor() const { return {bucket.storage(), offset, dtype, shape}; }
};

// A parameter that is trained. Slots lie part after part without gaps: those of one role are one tensor too.
struct TrainedWeight {
  const nn::Parameter* parameter;
  Tensor value, gradient, copy;          // [elements]: fp32, fp32, bf16 or undefined
  std::vector<std::vector<Slot>> slots;  // of each part, in the order of Optimizer::slots()

  // Rows [first, first + count) of a tensor of the parameter's elements.
  Tensor rows(const Tensor& of, int64_t first, int64_t count) const;
  // Calls body(part, its first row, its rows) for each part.
  template <class Body>
  void for_parts(Body body) const {
    int64_t row = 0;
    for (size_t i = 0; i < slots.size(); row += parameter->parts[i++].rows)
      body(i, row, parameter->parts[i].rows);
  }
  // A role's fp32 tensors of all parts as one [elements].
  Tensor whole(size_t slot) const;
};

struct UpdateContext {
  Recorder& recorder;
  Tensor norm;  // of all gradients
  const op::StepScalars* step;
};

class Optimizer {
 public:
  virtual ~Optimizer() = default;
  // Whether it has kernels there.
  virtual bool runs_on(DeviceKind device) const { return device == DeviceKind::kCpu; }
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
std::vector<Tensor> place_slots(std::vector<TrainedWeight>& weights, Arena& arena);

// The shape of a part of a parameter.
Shape part_shape(const nn::Parameter& parameter, const nn::Part& part);

}  // namespace flagscale::train
