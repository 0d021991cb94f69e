#pragma once
// Training speed of named shapes on random tokens, against what the machine can do.

#include <optional>
#include <string>
#include <vector>

#include "device/device.h"
#include "model/decoder/config.h"
#include "op/packed_linear/packing.h"
#include "tensor/dtype.h"
#include "train/fp8_spec.h"
#include "train/optimizer/optimizer.h"

namespace flagscale::train {

struct BenchOptions {
  std::string shape = "15m";
  int64_t batch = 8, sequence_length = 256;
  DType dtype = DType::kF32;
  int steps = 10;
  int threads = 0;
  DeviceKind device = DeviceKind::kCpu;
  std::string optimizer = "adam";
  StateTypes types;  // OptimizerSpec's
  bool profile = false;
  bool graphs = true;                 // StepOptions::graphs
  int64_t lora_rank = 0;              // of an adapter of every projection; 0: the whole model is trained
  std::optional<op::Packing> frozen;  // StepOptions::frozen, with an adapter
  double learnt = 1;                  // share of the tokens that are trained on, the end of each sequence
  double offload = 0;                 // StepOptions::offload
  std::optional<Fp8Spec> fp8;         // StepOptions::fp8
  bool recompute = false;             // all layers
};

struct BenchResult {
  double tokens_per_s = 0;         // median step
  double gflops = 0, ceiling = 0;  // achieved; of a large product in the same dtype on the same threads
  double first_step_start_s = 0;   // from process start to the start of step 1
  double idle_s = 0;               // of a step, the GPU; 0: not a GPU, or a step is no graph
  double first_step_s = 0, step_s = 0;
  double step_processor_s =
      0;  // processor time of all threads in a step: what others do beside us counts less
  size_t planned_bytes = 0, peak_bytes = 0;  // by plan; as the allocator handed out
  size_t offloaded_bytes = 0;                // beside them, in the host's memory
  size_t resident_bytes = 0;                 // the most that was resident
  double loss = 0;
  std::vector<std::pair<std::string, double>> profile;  // share of a step by op, largest first
};

// "15m", "124m", "135m", "1b", "8b": the shapes of the peer comparison; "8x15m" and "20m": a mixture of
// experts and the dense model with as many active weights; "30b-a3b-8l": 8 layers of Qwen3-30B-A3B. Throws
// Error naming them.
model::DecoderConfig named_shape(const std::string& name);

// GFLOP/s of a large product: the best of five.
double product_ceiling(DType dtype, DeviceKind device, int threads = 0);

BenchResult bench_train(const BenchOptions& options);

}  // namespace flagscale::train
