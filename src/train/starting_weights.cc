#include "train/starting_weights.h"

#include <filesystem>
#include <utility>

#include "base/error.h"
#include "base/log.h"

namespace flagscale::train {

void find_base(TrainOptions& options) {
  if (!options.lora) return;
  const bool whole = options.finetune && !options.load.empty() && io::is_checkpoint(options.load) &&
                     !model::holds_adapter(io::Checkpoint(options.load));
  if (whole) options.init_from = std::exchange(options.load, {});
  if (!options.init_from.empty()) return;
  fail(ErrorKind::kConfig,
       "peft_type: lora trains an adapter of a model's weights, and none are named: set "
       "pretrained_checkpoint to a Hugging Face folder, a GGUF file or a checkpoint, or give it as MODEL");
}

std::unique_ptr<io::Checkpoint> start_weights(const TrainOptions& options, const std::string& order,
                                              TrainStep& step, Progression& at) {
  if (!options.load.empty() && io::is_checkpoint(options.load)) {
    auto checkpoint = std::make_unique<io::Checkpoint>(options.load);
    at = restore(*checkpoint, options, step, order);
    info("loaded {} (iteration {})", checkpoint->folder(), at.iteration);
    return checkpoint;
  }
  const bool own_folder = options.load.empty() || options.load == options.save;
  if (!own_folder && options.finetune)
    fail(ErrorKind::kNotFound,
         "load: there is no checkpoint in {}, and finetune: true starts from one: set load to the folder of "
         "one (a Hugging Face folder or a GGUF file: pretrained_checkpoint), or finetune: false to start "
         "from "
         "{}",
         options.load, options.init_from.empty() ? "random weights" : options.init_from);
  if (std::error_code none; !own_folder && std::filesystem::exists(options.load, none) &&
                            !std::filesystem::is_empty(options.load, none))
    fail(ErrorKind::kInvalidArgument,
         "load: {} is no folder of checkpoints; to start from a Hugging Face folder or a GGUF file set "
         "pretrained_checkpoint",
         options.load);
  const bool from_files = !options.init_from.empty();
  // As Megatron: a first start and the ones after it have the same configuration.
  if (!own_folder)
    warn("load: there is no checkpoint in {}: starting from {}", options.load,
         from_files ? options.init_from : "random weights");
  if (own_folder && options.finetune && !from_files)
    warn(
        "finetune: true, and neither load nor pretrained_checkpoint has weights: starting from random "
        "weights");
  if (!options.adapter_from.empty())
    load_adapter(model::open_peft(options.adapter_from), options.adapter_from, step);
  else if (options.lora || !from_files)
    step.initialise(static_cast<uint64_t>(options.seed));
  else
    step.load(*io::open_weights(options.init_from));
  return nullptr;
}

}  // namespace flagscale::train
