#include "train/keys/key_groups.h"

namespace flagscale::train {

void add_batch_keys(TrainSchema& keys) {
  keys.acts("micro_batch_size", FLAGSCALE_FIELD(batch, micro_batch_size),
            {.doc = "samples of one forward and backward pass", .least = 1, .required = true});
  keys.acts("global_batch_size", FLAGSCALE_FIELD(batch, global_batch_size),
            {.doc = "samples of one update; none: one micro-batch", .least = 1});
  keys.acts(
      "rampup_batch_size", FLAGSCALE_FIELD(batch, rampup_batch_size),
      {.doc = "three numbers: the first global batch, its increment, and the samples until the full one"});
  keys.acts("train_iters", FLAGSCALE_FIELD(batch, train_iters),
            {.doc = "length of the training in updates; this or train_samples", .least = 1});
  keys.acts("train_samples", FLAGSCALE_FIELD(batch, train_samples),
            {.doc = "length of the training in samples; this or train_iters", .least = 1});
  keys.acts("eval_iters", FLAGSCALE_FIELD(batch, eval_iters),
            {.doc = "global batches of an evaluation; 0: none", .least = 0});
  keys.acts("eval_interval", FLAGSCALE_FIELD(batch, eval_interval),
            {.doc = "updates between evaluations", .least = 1});
  keys.acts("exit_interval", FLAGSCALE_FIELD(batch, exit_interval),
            {.doc = "stop after the update whose number this divides", .least = 1});
  keys.acts("seed", FLAGSCALE_FIELD(batch, seed),
            {.doc = "of initial weights and of the order of samples", .least = 0, .most = 4294967295});
  keys.acts("skip_iters_range", FLAGSCALE_FIELD(batch, skip_iters_range),
            {.doc = "pairs first, end: updates first+1 to end are dropped, with their samples"});
  keys.acts("skip_samples_range", FLAGSCALE_FIELD(batch, skip_samples_range),
            {.doc = "pairs first, end: batches that have a sample from first, counted from 0, up to but not "
                    "with end are dropped"});
  keys.acts("auto_skip_spiky_loss", FLAGSCALE_FIELD(batch, auto_skip_spiky_loss),
            {.doc = "drop an update whose loss rises by spiky_loss_threshold or more, after the warmup"});
  keys.acts("spiky_loss_threshold", FLAGSCALE_FIELD(batch, spiky_loss_threshold),
            {.doc = "relative rise of the loss", .above = 0});
  keys.acts("calculate_per_token_loss", FLAGSCALE_FIELD(batch, calculate_per_token_loss),
            {.doc = "divide the loss by the tokens learnt in the global batch, not in each micro-batch"});
  keys.refused("decrease_batch_size_if_needed", "another batch size than asked for");
}

}  // namespace flagscale::train
