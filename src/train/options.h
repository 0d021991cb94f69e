#pragma once
// What a training run is, resolved: everything that the configuration's keys decide, in the units that the
// trainer uses (samples). Made from the configuration by train/keys.

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "data/train_data.h"
#include "model/decoder/config.h"
#include "model/decoder/decoder.h"
#include "train/adapter.h"
#include "train/fp8_spec.h"
#include "train/optimizer/optimizer.h"
#include "train/schedule.h"
#include "train/training_events.h"

namespace flagscale::train {

// rampup_batch_size: from `start` to the global batch in steps of `increment`, evenly over `samples`.
struct BatchRampup {
  int64_t start = 0, increment = 0, samples = 0;
};

struct TrainOptions {
  model::DecoderConfig model;
  std::string
      init_from;  // Hugging Face folder, GGUF or checkpoint whose weights to start from; empty: from nothing
  std::optional<LoraSpec> lora;       // train an adapter of the weights in init_from, and nothing else
  std::optional<op::Packing> frozen;  // StepOptions::frozen
  std::string adapter_from;           // its PEFT folder or checkpoint to start from; empty: from nothing
  DType compute = DType::kF32;
  std::optional<Fp8Spec> fp8;
  int64_t seq_length = 0;
  int64_t micro_batch_size = 1, global_batch_size = 1;
  std::optional<BatchRampup> rampup;
  int64_t train_samples = 0, train_iters = 0;  // one of them
  bool per_token_loss = false;  // every token of a global batch weighs the same, whatever its micro-batch
  int64_t seed = 1234;
  model::RecomputeSpec recompute;
  double balance_loss = 0, z_loss = 0;  // coefficients of the losses of a mixture's routers

  LrSchedule lr;
  WeightDecaySchedule weight_decay;
  OptimizerSpec optimizer;
  double clip_grad = 1.0;
  bool distributed_optimizer = false;  // StepOptions'
  double offload = 0;                  // StepOptions'

  data::DatasetOptions data;
  data::MaskOptions mask;

  int64_t eval_interval = 1000, eval_iters = 0;
  int64_t log_interval = 100;
  bool log_throughput = false, log_params_norm = false, log_num_zeros_in_grad = false;
  std::string tensorboard_dir;  // empty: none
  int64_t tensorboard_log_interval = 1;
  EventKeys events;

  std::string save, load;  // checkpoint folders; empty: none
  int64_t save_interval = 0;
  int keep_last = 0;
  bool finetune = false;  // weights only: iteration, optimizer and data position start anew
  bool no_load_optim = false, no_save_optim = false;
  bool async_save = true;
  int64_t exit_interval = 0;

  // Drained without an update: every batch that has a sample of [first, end), counted from 0; every iteration
  // that has [first, end) before it. FlagScale's rules.
  std::vector<std::pair<int64_t, int64_t>> skip_samples, skip_iters;
  bool skip_spiky_loss = false;
  double spiky_loss_threshold = 0.2;

  int threads = 0;
  DeviceKind device = DeviceKind::kCpu;
  std::string config_text;  // the resolved configuration, for the checkpoint
  std::string tokenizer;    // path, recorded so that generate finds it
};

// The global batch after `consumed` samples (Megatron's num_microbatches_calculator).
int64_t global_batch_at(const TrainOptions& options, int64_t consumed);

// Iterations that train_samples make, with ramp-up; or train_iters.
int64_t total_iterations(const TrainOptions& options);

// Throws Error{kConfig} naming the keys that contradict each other.
void validate(const TrainOptions& options, int ranks = 1);

}  // namespace flagscale::train
