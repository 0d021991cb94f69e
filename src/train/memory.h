#pragma once
// A plan is compared with the memory there is before anything is allocated.

#include "train/step.h"

namespace flagscale::train {

// What makes a plan smaller, in the words of whoever asked for it: keys of a training's file.
struct PlanWords {
  const char* micro_batch = "++train.model.micro_batch_size=1";
  bool accumulates = true;  // with smaller micro-batches there are more of them
  const char* recompute = "++train.system.recompute_granularity=full ++train.system.recompute_method=uniform";
  const char* offloading = "optimizer_cpu_offload";
  const char* offload = "++train.system.optimizer_cpu_offload=true";
  const char* offload_some =
      "++train.system.optimizer_cpu_offload=true ++train.system.optimizer_offload_fraction=";
  const char* offload_share = "++train.system.optimizer_offload_fraction=";  // where some is
  const char* no_offload = "++train.system.optimizer_cpu_offload=false";
  const char* eight_bits = "++train.model.optimizer.optimizer=adamw8bit";
  const char* typed_states = "++train.model.optimizer.use_precision_aware_optimizer=true ";
  const char* params_type = "++train.model.optimizer.main_params_dtype=";
  const char* grads_type = "++train.model.optimizer.main_grads_dtype=";
  const char* exp_avg_type = "++train.model.optimizer.exp_avg_dtype=";
  const char* exp_avg_sq_type = "++train.model.optimizer.exp_avg_sq_dtype=";
  const char* shares = "++train.system.use_distributed_optimizer=true";
  const char* sequence = "++train.model.seq_length=";
  const char* of_tokens = "micro_batch_size or seq_length";
  const char* of_model = "num_layers, hidden_size";
};

// "weights 1.2 GiB, gradients 1.2 GiB, ..."
std::string describe(const MemoryUse& use);
// Of a GPU's training: "main memory, which has 110.2 GiB free: weights on their way 2.0 GiB, copies for a
// save 89.7 GiB", or what follows where it has no room for those. "" on the CPU.
std::string describe_host(const MemoryUse& use, size_t host, bool saves);
// "134.5M parameters", and how many of an adapter are trained.
std::string describe_parameters(TrainStep& step);

// What a plan may take of the free memory: on a GPU its driver needs some too (cuda::kReserve).
size_t usable(const StepOptions& options, size_t free);

// Throws Error{kResource} when weights and gradients, or one activation of a micro-batch, alone
// exceed what is usable of `free` and the plan, which says more, would take long to make: thousands of
// layers, millions of tokens.
void require_weights(const model::DecoderConfig& config, const StepOptions& options, size_t free,
                     const PlanWords& words = {});

// Throws Error{kResource} when `use` exceeds what is usable of `free`, of the device, or what is offloaded
// `host`, of main memory, saying what each of the changes that fit would save: those are traced too. `config`
// and `options` are what was planned.
void require_memory(const model::DecoderConfig& config, const StepOptions& options, const MemoryUse& use,
                    size_t free, size_t host, const PlanWords& words = {});

}  // namespace flagscale::train
