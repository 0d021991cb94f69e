#pragma once
// LoRA adapters as Hugging Face's PEFT keeps them: a folder with adapter_config.json and
// adapter_model.safetensors. Our checkpoints of an adapter are read alike: they hold the same tensors, and
// the same configuration under kPeftConfigKey.

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "io/checkpoint.h"
#include "io/folder_aside.h"
#include "io/weights.h"

namespace flagscale::model {

constexpr const char* kPeftConfigKey = "adapter_config.json";  // of TrainingState::extra

// What an adapter adds to one projection: scale * B A x.
struct PeftTarget {
  std::string module;  // "model.layers.0.self_attn.q_proj"
  std::string a, b;    // tensors of the file: [rank, in] and [out, rank]
  int64_t rank = 0, in = 0, out = 0;
  float scale = 0;
};

struct PeftAdapter {
  std::unique_ptr<io::WeightSet> weights;
  std::vector<PeftTarget> targets;  // by module
  int64_t max_rank() const;
};

// Throws Error: kNotFound for a missing file, kCorrupt for what is none of PEFT's, kUnsupported naming what
// this program does not apply (DoRA, trained biases, modules saved whole, …).
PeftAdapter open_peft(const std::string& folder);

// Whether a checkpoint is of an adapter alone.
bool holds_adapter(const io::Checkpoint& checkpoint);

// Makes a PEFT folder of a checkpoint of an adapter; warns of what PEFT is known to leave out of it. Throws
// Error{kInvalidArgument} for one of a whole model, and for a folder whose model may not be replaced.
void export_peft(const std::string& checkpoint, const std::string& folder,
                 io::Replace replace = io::Replace::kOwn);

}  // namespace flagscale::model
