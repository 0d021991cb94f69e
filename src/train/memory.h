#pragma once
// A plan is compared with the memory there is before anything is allocated.

#include "train/step.h"

namespace flagscale::train {

// "weights 1.2 GiB, gradients 1.2 GiB, ..."
std::string describe(const MemoryUse& use);
// "134.5M parameters", and how many of an adapter are trained.
std::string describe_parameters(TrainStep& step);

// Throws Error{kResource} when weights and gradients, or one activation of a micro-batch, alone
// exceed `available` and the plan, which says more, would take long to make: thousands of layers, millions of
// tokens.
void require_weights(const model::DecoderConfig& config, const StepOptions& options, size_t available);

// Throws Error{kResource} when `use` exceeds `available`, of the device, or what is offloaded `host`, of main
// memory, saying what each of the changes that fit would save: those are traced too. `config` and `options`
// are what was planned.
void require_memory(const model::DecoderConfig& config, const StepOptions& options, const MemoryUse& use,
                    size_t available, size_t host);

}  // namespace flagscale::train
