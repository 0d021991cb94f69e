#include "train/keys/key_groups.h"

namespace flagscale::train {

void add_logging_keys(TrainSchema& keys) {
  keys.acts("log_interval", FLAGSCALE_FIELD(logging, log_interval),
            {.doc = "updates between log lines", .least = 1});
  keys.acts("log_throughput", FLAGSCALE_FIELD(logging, log_throughput), {.doc = "TFLOP/s in the log line"});
  keys.acts("log_params_norm", FLAGSCALE_FIELD(logging, log_params_norm),
            {.doc = "norm of all weights in the log line"});
  keys.acts("tensorboard_dir", FLAGSCALE_FIELD(logging, tensorboard_dir),
            {.doc = "folder of event files; none: <exp_dir>/tensorboard"});
  keys.acts("tensorboard_log_interval", FLAGSCALE_FIELD(logging, tensorboard_log_interval),
            {.doc = "updates between points of an event file", .least = 1});
  keys.acts("log_num_zeros_in_grad", FLAGSCALE_FIELD(logging, log_num_zeros_in_grad),
            {.doc = "number of gradients that are zero in the log line"});
  keys.acts("no_log_loss_scale_to_tensorboard", FLAGSCALE_FIELD(logging, events.no_loss_scale),
            {.doc = "no loss-scale, which is 1, in the event file"});
  keys.acts("log_world_size_to_tensorboard", FLAGSCALE_FIELD(logging, events.world_size),
            {.doc = "world-size, the number of ranks, in the event file"});
  keys.acts("log_timers_to_tensorboard", FLAGSCALE_FIELD(logging, events.timers),
            {.doc = "iteration-time and, with log_throughput, throughput in the event file"});
  keys.acts("log_validation_ppl_to_tensorboard", FLAGSCALE_FIELD(logging, events.validation_ppl),
            {.doc = "perplexity of evaluations in the event file"});
  keys.acts("log_memory_to_tensorboard", FLAGSCALE_FIELD(logging, events.memory),
            {.doc = "memory of weights, moments and activations in the event file"});
  for (const char* key : {"no_log_learnig_rate_to_tensorboard", "log_batch_size_to_tensorboard"})
    keys.ignored(key, "learning rate and batch size are always in the event file, as in Megatron");
  keys.ignored("tensorboard_queue_size", "every point is written at once");
  for (const char* key : {"wandb_project", "wandb_exp_name", "wandb_save_dir", "wandb_mode", "wandb_api_key",
                          "wandb_log_model", "wandb_log_model_interval"})
    keys.ignored(key, "there is no logging to Weights & Biases");
  for (const char* key : {"profile", "profile_ranks", "profile_step_start", "profile_step_end",
                          "use_pytorch_profiler", "timing_log_level", "timing_log_option"})
    keys.ignored(key, "profiling of Megatron's own");
}

}  // namespace flagscale::train
