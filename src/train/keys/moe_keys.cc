// Mixtures of experts, by Megatron's names.
#include "train/keys/key_groups.h"

namespace flagscale::train {
namespace {

void add_experts(TrainSchema& keys) {
  keys.acts("num_experts", FLAGSCALE_FIELD(moe, num_experts),
            {.doc = "experts in the place of a layer's feed-forward block; none: no mixture", .least = 1});
  keys.acts("moe_router_topk", FLAGSCALE_FIELD(moe, moe_router_topk),
            {.doc = "experts that a token goes to", .least = 1});
  keys.acts("moe_ffn_hidden_size", FLAGSCALE_FIELD(moe, moe_ffn_hidden_size),
            {.doc = "width of an expert; none: ffn_hidden_size", .least = 1});
  keys.acts("moe_shared_expert_intermediate_size", FLAGSCALE_FIELD(moe, moe_shared_expert_intermediate_size),
            {.doc = "width of all shared experts together, which every token goes to; none: there are none",
             .least = 1});
  keys.acts(
      "moe_shared_expert_gate", FLAGSCALE_FIELD(moe, moe_shared_expert_gate),
      {.doc = "the shared experts' result is multiplied by a sigmoid of its own; only true is supported"});
  keys.acts("moe_layer_freq", FLAGSCALE_FIELD(moe, moe_layer_freq),
            {.doc = "n: layers 0, n, 2n... are mixtures; or a list with a 0 or 1 for each layer, as Python "
                    "writes it: '[0]+[1]*26'"});
}

void add_routing(TrainSchema& keys) {
  keys.acts(
      "moe_router_pre_softmax", FLAGSCALE_FIELD(moe, moe_router_pre_softmax),
      {.doc = "weights are the softmax over all experts; absent or false: over the token's own, so that "
              "they add up to one"});
  keys.acts("moe_router_load_balancing_type", FLAGSCALE_FIELD(moe, moe_router_load_balancing_type),
            {.doc = "how experts are kept evenly used; only aux_loss and none are supported",
             .choices = {"aux_loss", "none", "seq_aux_loss", "global_aux_loss", "sinkhorn"}});
  keys.acts("moe_aux_loss_coeff", FLAGSCALE_FIELD(moe, moe_aux_loss_coeff),
            {.doc = "coefficient of the load-balancing loss", .least = 0});
  keys.acts("moe_z_loss_coeff", FLAGSCALE_FIELD(moe, moe_z_loss_coeff),
            {.doc = "coefficient of the loss on the size of the router's logits", .least = 0});
}

}  // namespace

void add_moe_keys(TrainSchema& keys) {
  add_experts(keys);
  add_routing(keys);
  keys.bring(kStartingModel,
             {"num_experts", "moe_router_topk", "moe_ffn_hidden_size", "moe_shared_expert_intermediate_size",
              "moe_shared_expert_gate", "moe_layer_freq", "moe_router_pre_softmax"});
  keys.refused("moe_router_score_function", "another score than a softmax", {"softmax"});
  keys.refused("moe_router_dtype", "a router in another type than fp32", {"fp32"});
  for (const char* key : {"moe_router_bias_update_rate", "moe_router_enable_expert_bias",
                          "moe_router_group_topk", "moe_router_num_groups", "moe_router_topk_scaling_factor"})
    keys.refused(key, "DeepSeek's router");
  for (const char* key :
       {"moe_expert_capacity_factor", "moe_token_drop_policy", "moe_pad_expert_input_to_capacity"})
    keys.refused(key, "dropping tokens: every token reaches its experts");
  keys.refused("moe_input_jitter_eps", "noise on the router's input");
  for (const char* key : {"moe_grouped_gemm", "moe_token_dispatcher_type", "moe_permute_fusion",
                          "moe_router_fusion", "moe_fb_overlap", "moe_shared_expert_overlap"})
    keys.ignored(key, "speed of a mixture of experts");
}

}  // namespace flagscale::train
