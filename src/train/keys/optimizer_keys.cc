#include "train/keys/key_groups.h"

namespace flagscale::train {
namespace {

void add_schedule(TrainSchema& keys) {
  keys.acts("lr", FLAGSCALE_FIELD(optimizer, lr),
            {.doc = "highest learning rate", .above = 0, .required = true});
  keys.acts("min_lr", FLAGSCALE_FIELD(schedule, min_lr),
            {.doc = "learning rate at the end of the decay and after it", .least = 0});
  keys.acts(
      "lr_decay_style", FLAGSCALE_FIELD(schedule, lr_decay_style),
      {.doc = "how the learning rate falls after the warmup",
       .choices = {"constant", "linear", "cosine", "inverse-square-root", "WSD", "stablelm2-scheduler"}});
  keys.acts("lr_warmup_init", FLAGSCALE_FIELD(schedule, lr_warmup_init),
            {.doc = "learning rate at the start of the warmup", .least = 0});
  keys.acts("lr_warmup_fraction", FLAGSCALE_FIELD(schedule, lr_warmup_fraction),
            {.doc = "length of the warmup as a part of the decay", .least = 0, .most = 1});
  keys.acts("lr_warmup_iters", FLAGSCALE_FIELD(schedule, lr_warmup_iters),
            {.doc = "length of the warmup with train_iters", .least = 0});
  keys.acts("lr_warmup_samples", FLAGSCALE_FIELD(schedule, lr_warmup_samples),
            {.doc = "length of the warmup with train_samples", .least = 0});
  keys.acts("lr_decay_iters", FLAGSCALE_FIELD(schedule, lr_decay_iters),
            {.doc = "where the decay ends, with train_iters; none: with the training", .least = 1});
  keys.acts("lr_decay_samples", FLAGSCALE_FIELD(schedule, lr_decay_samples),
            {.doc = "where the decay ends, with train_samples; none: with the training", .least = 1});
  keys.acts(
      "lr_wsd_decay_style", FLAGSCALE_FIELD(schedule, lr_wsd_decay_style),
      {.doc = "shape of WSD's last part", .choices = {"linear", "cosine", "exponential", "minus_sqrt"}});
  keys.acts("lr_wsd_decay_iters", FLAGSCALE_FIELD(schedule, lr_wsd_decay_iters),
            {.doc = "length of WSD's last part, with train_iters", .least = 1});
  keys.acts("lr_wsd_decay_samples", FLAGSCALE_FIELD(schedule, lr_wsd_decay_samples),
            {.doc = "length of WSD's last part, with train_samples", .least = 1});
}

void add_stablelm2(TrainSchema& keys) {
  const auto samples = [](const char* doc) { return config::Limits{.doc = doc, .least = 0}; };
  keys.acts("lr_decay_stablelm2_cosine_samples", FLAGSCALE_FIELD(schedule, lr_decay_stablelm2_cosine_samples),
            samples("stablelm2-scheduler: samples of the cosine part"));
  keys.acts("lr_decay_stablelm2_cosine_max_lr", FLAGSCALE_FIELD(schedule, lr_decay_stablelm2_cosine_max_lr),
            samples("stablelm2-scheduler: highest rate of the cosine part"));
  keys.acts("lr_decay_stablelm2_cosine_period_samples",
            FLAGSCALE_FIELD(schedule, lr_decay_stablelm2_cosine_period_samples),
            samples("stablelm2-scheduler: period of the cosine; 0: the decay's length"));
  keys.acts("lr_decay_stablelm2_rsqrt_samples", FLAGSCALE_FIELD(schedule, lr_decay_stablelm2_rsqrt_samples),
            samples("stablelm2-scheduler: samples of the inverse-square-root part"));
  keys.acts("lr_decay_stablelm2_alpha", FLAGSCALE_FIELD(schedule, lr_decay_stablelm2_alpha),
            samples("stablelm2-scheduler: numerator of the inverse square root"));
  keys.acts("lr_decay_stablelm2_beta", FLAGSCALE_FIELD(schedule, lr_decay_stablelm2_beta),
            samples("stablelm2-scheduler: shift below the root"));
  keys.acts("lr_decay_stablelm2_decay_samples", FLAGSCALE_FIELD(schedule, lr_decay_stablelm2_decay_samples),
            samples("stablelm2-scheduler: samples of the last, linear part; 0: to the end of the training"));
}

// What each optimizer beside reads; a run with another is not changed by them.
void add_companions(TrainSchema& keys) {
  keys.acts("adam_beta1", FLAGSCALE_FIELD(optimizer, spec.adam_beta1),
            {.doc = "decay of the first moment", .least = 0, .most = 1});
  keys.acts("adam_beta2", FLAGSCALE_FIELD(optimizer, spec.adam_beta2),
            {.doc = "decay of the second moment", .least = 0, .most = 1});
  keys.acts("adam_eps", FLAGSCALE_FIELD(optimizer, spec.adam_eps),
            {.doc = "added to the root of the second moment", .above = 0});
  keys.acts("sgd_momentum", FLAGSCALE_FIELD(optimizer, spec.sgd_momentum),
            {.doc = "sgd: what of the last step is taken again; 0: nothing, and nothing is kept",
             .least = 0,
             .most = 1});
  keys.acts("lion_beta1", FLAGSCALE_FIELD(optimizer, spec.lion_beta1),
            {.doc = "lion: share of the momentum in the direction", .least = 0, .most = 1});
  keys.acts("lion_beta2", FLAGSCALE_FIELD(optimizer, spec.lion_beta2),
            {.doc = "lion: decay of the momentum", .least = 0, .most = 1});
  keys.acts("adafactor_decay_rate", FLAGSCALE_FIELD(optimizer, spec.adafactor_decay_rate),
            {.doc = "adafactor: the second moment decays by 1 - step^this", .most = 0});
  keys.acts("adafactor_clip_threshold", FLAGSCALE_FIELD(optimizer, spec.adafactor_clip_threshold),
            {.doc = "adafactor: highest root mean square of an update", .above = 0});
  keys.acts("adafactor_scale_parameter", FLAGSCALE_FIELD(optimizer, spec.adafactor_scale_parameter),
            {.doc = "adafactor: the learning rate is relative to a weight's root mean square"});
  keys.acts("muon_momentum", FLAGSCALE_FIELD(optimizer, spec.muon_momentum),
            {.doc = "muon: decay of the momentum", .least = 0, .most = 1});
  keys.acts("muon_use_nesterov", FLAGSCALE_FIELD(optimizer, spec.muon_use_nesterov),
            {.doc = "muon: the gradient counts once more after the momentum", .aliases = {"muon_nesterov"}});
  keys.acts("muon_no_split_qkv", FLAGSCALE_FIELD(optimizer, muon_no_split_qkv),
            {.doc = "muon: q, k and v are one matrix"});
  keys.acts("muon_num_ns_steps", FLAGSCALE_FIELD(optimizer, spec.muon_num_ns_steps),
            {.doc = "muon: Newton-Schulz steps", .least = 1, .most = 99});
  keys.acts(
      "muon_scale_mode", FLAGSCALE_FIELD(optimizer, spec.muon_scale_mode),
      {.doc = "muon: what an update is multiplied by: the root of the larger side, of rows / columns, or of "
              "that and at least 1",
       .choices = {"spectral", "unit_rms_norm", "shape_scaling"}});
  keys.acts("muon_extra_scale_factor", FLAGSCALE_FIELD(optimizer, spec.muon_extra_scale_factor),
            {.doc = "muon: further factor of an update (0.2: as large as AdamW's)", .above = 0});
  keys.ignored("muon_fp32_matmul_prec",
               "products of Newton-Schulz are in the type of all others, fp32 or with bf16: true bf16");
  keys.ignored("muon_tp_mode", "it concerns several tensor-parallel ranks");
  keys.refused("muon_coefficient_type", "another Newton-Schulz polynomial", {"quintic"});
  keys.refused("muon_scalar_optimizer", "another optimizer beside Muon", {"adam"});
}

// Where what an optimizer keeps lies; the update is the same.
void add_offload(TrainSchema& keys) {
  keys.acts(
      "optimizer_cpu_offload", FLAGSCALE_FIELD(optimizer, optimizer_cpu_offload),
      {.doc = "on a GPU: what the optimizer keeps, and with bf16 the master weights, lie in main memory "
              "and pass through the GPU's in each update; the result is the same to the bit"});
  keys.acts("optimizer_offload_fraction", FLAGSCALE_FIELD(optimizer, optimizer_offload_fraction),
            {.doc = "with optimizer_cpu_offload: share of the weights, whole ones, of which that is so",
             .least = 0,
             .most = 1});
  for (const char* key : {"overlap_cpu_optimizer_d2h_h2d", "no_pin_cpu_grads", "no_pin_cpu_params",
                          "pin_cpu_grads", "pin_cpu_params", "use_torch_optimizer_for_cpu_offload"})
    keys.ignored(key, "the update is made on the GPU, and copies always run beside it");
}

// In fewer bits what adam reads and keeps.
void add_state_types(TrainSchema& keys) {
  keys.acts("use_precision_aware_optimizer", FLAGSCALE_FIELD(optimizer, use_precision_aware_optimizer),
            {.doc = "the four keys below count; with bf16: true and optimizer: adam"});
  const auto type = [](const char* doc) { return config::Limits{.doc = doc, .choices = {"fp32", "bf16"}}; };
  keys.acts("main_params_dtype", FLAGSCALE_FIELD(optimizer, main_params_dtype),
            type("of the weights that are updated; bf16: there is no master copy, each update is rounded"));
  keys.acts("main_grads_dtype", FLAGSCALE_FIELD(optimizer, main_grads_dtype),
            type("of gradients; bf16: what each product and micro-batch adds is rounded"));
  keys.acts("exp_avg_dtype", FLAGSCALE_FIELD(optimizer, exp_avg_dtype), type("of the first moments"));
  keys.acts("exp_avg_sq_dtype", FLAGSCALE_FIELD(optimizer, exp_avg_sq_dtype), type("of the second moments"));
}

}  // namespace

void add_optimizer_keys(TrainSchema& keys) {
  keys.acts("optimizer", FLAGSCALE_FIELD(optimizer, spec.name),
            {.doc = "how gradients move weights: adam is AdamW; adamw8bit holds its moments in 8 bits",
             .choices = optimizer_names()});
  add_companions(keys);
  keys.acts("clip_grad", FLAGSCALE_FIELD(optimizer, clip_grad),
            {.doc = "highest norm of all gradients together; 0: no clipping", .least = 0});
  keys.acts("weight_decay", FLAGSCALE_FIELD(optimizer, weight_decay),
            {.doc = "of matrices; biases and norms have none", .least = 0});
  keys.acts("start_weight_decay", FLAGSCALE_FIELD(optimizer, start_weight_decay),
            {.doc = "weight decay at the start, when weight_decay_incr_style is not constant", .least = 0});
  keys.acts("end_weight_decay", FLAGSCALE_FIELD(optimizer, end_weight_decay),
            {.doc = "weight decay at the end, when weight_decay_incr_style is not constant", .least = 0});
  keys.acts("weight_decay_incr_style", FLAGSCALE_FIELD(optimizer, weight_decay_incr_style),
            {.doc = "how weight decay goes from start to end", .choices = {"constant", "linear", "cosine"}});
  add_offload(keys);
  add_state_types(keys);
  add_schedule(keys);
  add_stablelm2(keys);
  keys.ignored("override_opt_param_scheduler",
               "the configuration's schedule always holds: it is a function of the samples consumed");
  keys.refused("use_checkpoint_opt_param_scheduler",
               "taking the schedule from the checkpoint instead of the configuration");
  keys.refused("decoupled_lr", "another learning rate for embeddings");
  keys.refused("decoupled_min_lr", "another learning rate for embeddings");
}

}  // namespace flagscale::train
