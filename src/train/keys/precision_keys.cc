#include "train/keys/key_groups.h"

namespace flagscale::train {

namespace {

void add_fp8(TrainSchema& keys) {
  keys.acts(
      "fp8", FLAGSCALE_FIELD(precision, fp8),
      {.doc = "with bf16: the layers' projections multiply fp8 numbers, e4m3 ones, or of gradients e5m2 "
              "(hybrid); needs fp8_recipe",
       .choices = {"e4m3", "hybrid"},
       .aliases = {"fp8_format"}});
  keys.acts(
      "fp8_recipe", FLAGSCALE_FIELD(precision, fp8_recipe),
      {.doc = "with fp8, scales: tensorwise has one for each tensor, by its largest magnitude now; blockwise "
              "powers of two for 128 neighbours, and 128 x 128 of a weight; the others are not supported",
       .choices = {"tensorwise", "blockwise", "delayed", "mxfp8", "custom"}});
  keys.acts("first_last_layers_bf16", FLAGSCALE_FIELD(precision, first_last_layers_bf16),
            {.doc = "with fp8: some layers at each end stay in bf16"});
  keys.acts("num_layers_at_start_in_bf16", FLAGSCALE_FIELD(precision, num_layers_at_start_in_bf16),
            {.doc = "with first_last_layers_bf16: how many at the start", .least = 0});
  keys.acts("num_layers_at_end_in_bf16", FLAGSCALE_FIELD(precision, num_layers_at_end_in_bf16),
            {.doc = "with first_last_layers_bf16: how many at the end", .least = 0});
  for (const char* key : {"fp8_margin", "fp8_interval", "fp8_amax_history_len", "fp8_amax_compute_algo"})
    keys.ignored(key, "it concerns fp8_recipe: delayed, which is refused");
  keys.refused("no_fp8_wgrad", "gradients of weights of products in fp8");
  for (const char* key : {"fp8_param_gather", "fp8_param", "reuse_grad_buf_for_mxfp8_param_ag"})
    keys.refused(key, "weights in fp8 without a copy in bf16");
  keys.refused("fp8_quantizer_factory", "a recipe of one's own");
  for (const char* key : {"fp8_dot_product_attention", "fp8_multi_head_attention"})
    keys.refused(key, "attention in fp8");
}

}  // namespace

void add_precision_keys(TrainSchema& keys) {
  keys.acts("bf16", FLAGSCALE_FIELD(precision, bf16),
            {.doc = "products in bf16; weights and moments in fp32 unless use_precision_aware_optimizer says "
                    "otherwise; without it and fp16: fp32"});
  keys.acts("fp16", FLAGSCALE_FIELD(precision, fp16),
            {.doc = "trains in bf16, or in fp32 where the processor has no bf16 instructions, and says so"});
  keys.acts("recompute_granularity", FLAGSCALE_FIELD(recompute, recompute_granularity),
            {.doc = "what is computed again in the backward pass to save memory",
             .choices = {"full", "selective"}});
  keys.acts("recompute_method", FLAGSCALE_FIELD(recompute, recompute_method),
            {.doc = "with full: uniform recomputes all layers, block the first recompute_num_layers",
             .choices = {"uniform", "block"}});
  keys.acts(
      "recompute_num_layers", FLAGSCALE_FIELD(recompute, recompute_num_layers),
      {.doc = "with block: how many layers; with uniform each layer is a chunk of its own", .least = 1});
  for (const char* key :
       {"initial_loss_scale", "min_loss_scale", "loss_scale", "loss_scale_window", "hysteresis"})
    keys.ignored(key, "bf16 and fp32 need no loss scale");
  keys.ignored("accumulate_allreduce_grads_in_fp32", "always so, but where main_grads_dtype is bf16");
  keys.ignored("attention_softmax_in_fp32", "always so");
  for (const char* key :
       {"recompute_granularity_per_stage_micro_batch", "recompute_method_per_stage_micro_batch",
        "recompute_num_layers_per_stage_micro_batch"})
    keys.ignored(key, "it concerns several pipeline stages, and memory only");
  keys.ignored("recompute_modules", "attention's scores are never kept, so there is nothing to choose");
  for (const char* key :
       {"transformer_impl", "attention_backend", "use_flash_attn", "use_mcore_models", "use_te",
        "no_masked_softmax_fusion", "no_rope_fusion", "no_bias_swiglu_fusion",
        "no_gradient_accumulation_fusion", "cross_entropy_loss_fusion", "manual_gc", "manual_gc_interval"})
    keys.ignored(key, "chooses Megatron's code, not the result");
  keys.ignored("deterministic_mode", "always so at one layout, thread count and instruction set");
  add_fp8(keys);
}

}  // namespace flagscale::train
