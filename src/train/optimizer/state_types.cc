#include "train/optimizer/state_types.h"

#include "base/error.h"

namespace flagscale::train {

namespace {

// The first of Megatron's keys that asks for bf16.
const char* narrow_key(const StateTypes& types) {
  for (const auto& [key, type] : {std::pair{"main_params_dtype", types.params},
                                  {"main_grads_dtype", types.grads},
                                  {"exp_avg_dtype", types.exp_avg},
                                  {"exp_avg_sq_dtype", types.exp_avg_sq}})
    if (type != DType::kF32) return key;
  return nullptr;
}

}  // namespace

std::optional<DType> state_type(const std::string& name) {
  if (name == "fp32") return DType::kF32;
  if (name == "bf16") return DType::kBF16;
  return {};
}

void require_state_types(const OptimizerSpec& optimizer, const StateTypesUse& use) {
  const char* const key = narrow_key(optimizer.types);
  if (!key) return;
  const auto refuse = [&](const std::string& why) { fail(ErrorKind::kUnsupported, "{}: bf16 {}", key, why); };
  if (optimizer.name != "adam") refuse("is for optimizer: adam, and this run's is " + optimizer.name);
  if (use.compute != DType::kBF16) refuse("goes with products in bf16: set bf16: true");
  if (use.adapter) refuse("is not for adapters: what is trained of them is small, leave the key out");
  if (use.offload > 0)
    refuse("does not go with optimizer_cpu_offload, which moves fp32 numbers: leave one of them out");
  if (optimizer.types.grads != DType::kF32 && use.ranks > 1)
    fail(
        ErrorKind::kUnsupported,
        "main_grads_dtype: bf16 is for one rank, and this run has {}: ranks add gradients in fp32, leave the "
        "key out",
        use.ranks);
}

}  // namespace flagscale::train
