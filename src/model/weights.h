#pragma once
// A model's weights in and out of files, by Hugging Face names, and made anew.

#include <string>

#include "base/parallel.h"
#include "io/weights.h"
#include "nn/parameter.h"

namespace flagscale::model {

// Fills parameter.value, or its packed segments (memory must exist), from the file, converting, part by part.
// Throws Error naming the tensor that is missing or has another shape; tensors that the model has no use for
// are named by unused_tensors().
void load_weights(const io::WeightSet& weights, nn::ParameterList& list, const Team& team);

// The same of one dense parameter.
void load_weight(const io::WeightSet& weights, const nn::Parameter& parameter, const Team& team);

// Throws Error{kCorrupt} naming the tensor when the file's shape is not the part's.
void check_shape(const io::TensorInfo& info, const nn::Parameter& parameter, const nn::Part& part);

// Names in the file that no parameter reads, but for rotary tables and a tied head's copy.
std::vector<std::string> unused_tensors(const io::WeightSet& weights, const nn::ParameterList& list,
                                        bool tied);

// Warns of them, where there are any: config.json then tells of another model than the file holds.
void warn_of_unused(const io::WeightSet& weights, const nn::ParameterList& list, bool tied);

// Initial values by Megatron's rules into fp32 memory: normal matrices, norms at norm_init, biases at zero;
// uniform within a bound where the parameter says so.
// Keyed by (seed, parameter name, element): the same whatever the layout.
void initialise(const nn::Parameter& parameter, uint64_t seed, float norm_init, const Tensor& out,
                const Team& team);

// Fills the constants (rotary tables); memory must exist.
void fill_constants(nn::ParameterList& list);

}  // namespace flagscale::model
