#include "train/keys/key_groups.h"

namespace flagscale::train {

void add_checkpoint_keys(TrainSchema& keys) {
  keys.acts("save", FLAGSCALE_FIELD(checkpoint, save),
            {.doc = "folder of the checkpoints; none: <exp_dir>/checkpoints"});
  keys.acts("load", FLAGSCALE_FIELD(checkpoint, load),
            {.doc = "folder to go on from, when it has a checkpoint; none: <exp_dir>/checkpoints"});
  keys.acts("save_interval", FLAGSCALE_FIELD(checkpoint, save_interval),
            {.doc = "updates between checkpoints; none: only the last", .least = 1});
  keys.acts(
      "pretrained_checkpoint", FLAGSCALE_FIELD(checkpoint, pretrained_checkpoint),
      {.doc =
           "weights to start from when load has none: a Hugging Face folder, a GGUF file or a checkpoint"});
  keys.acts("finetune", FLAGSCALE_FIELD(checkpoint, finetune),
            {.doc = "load the weights only: iteration, moments and position in the data start anew"});
  keys.acts("no_load_optim", FLAGSCALE_FIELD(checkpoint, no_load_optim), {.doc = "moments start anew"});
  keys.acts("no_save_optim", FLAGSCALE_FIELD(checkpoint, no_save_optim),
            {.doc = "checkpoints without moments: smaller, but no exact resume"});
  keys.acts("async_save", FLAGSCALE_FIELD(checkpoint, async_save),
            {.doc = "write a checkpoint while training goes on; none: yes"});
  keys.acts("keep_last", FLAGSCALE_FIELD(checkpoint, keep_last),
            {.doc = "remove all but this many checkpoints; 0: keep all", .least = 0, .most = 1000000});
  keys.ignored("no_load_rng", "random numbers are a function of seed and step: there is no state to load");
  keys.ignored("no_save_rng", "random numbers are a function of seed and step: there is no state to save");
  keys.ignored("ckpt_format", "checkpoints have one format, safetensors with a manifest");
  keys.ignored("use_dist_ckpt", "checkpoints have one format, safetensors with a manifest");
  keys.ignored("rampup_save_interval", "FlagScale reads it and never uses it");
  keys.ignored("no_shared_fs", "it concerns several hosts");
  keys.ignored("ckpt_convert_format", "the format of ckpt_convert_save, without which nothing is converted");
  keys.refused(
      "ckpt_convert_save",
      "converting a checkpoint instead of training: set it to null to train, and export afterwards with "
      "`flagscale checkpoint export`");
  for (const char* folder : {"log_dir", "details_dir", "scripts_dir", "pids_dir"})
    keys.ignored(folder, "a folder of FlagScale's launcher");
}

}  // namespace flagscale::train
