#include "train/keys/key_groups.h"

namespace flagscale::train {

void add_adapter_keys(TrainSchema& keys) {
  keys.acts("peft_type", FLAGSCALE_FIELD(adapter, peft_type),
            {.doc = "lora: train an adapter of the model's weights, which are frozen; none: train them all",
             .choices = {"lora"}});
  keys.acts("lora_target_modules", FLAGSCALE_FIELD(adapter, lora_target_modules),
            {.doc = "products that get an adapter: Megatron's names (linear_qkv, linear_proj, linear_fc1, "
                    "linear_fc2), Hugging Face's (q_proj, ...), all-linear, longer names, patterns with *"});
  keys.acts("lora_dim", FLAGSCALE_FIELD(adapter, lora_dim),
            {.doc = "rank of an adapter", .least = 1, .most = 512});
  keys.acts("lora_alpha", FLAGSCALE_FIELD(adapter, lora_alpha),
            {.doc = "what an adapter adds is multiplied by lora_alpha / lora_dim", .above = 0});
  keys.acts("lora_dropout", FLAGSCALE_FIELD(adapter, lora_dropout),
            {.doc = "share of an adapter's inputs that are dropped while training", .least = 0});
  keys.acts(
      "lora_dropout_position", FLAGSCALE_FIELD(adapter, lora_dropout_position),
      {.doc = "drop what goes into an adapter (pre) or what comes out (post)", .choices = {"pre", "post"}});
  keys.acts("lora_in_init_method", FLAGSCALE_FIELD(adapter, lora_in_init_method),
            {.doc = "first values of A: xavier (normal), normal (deviation 0.2), kaiming (uniform; PEFT's "
                    "default), gaussian (deviation 1 / lora_dim; PEFT's), zero",
             .choices = {"xavier", "normal", "kaiming", "gaussian", "zero"}});
  keys.acts("lora_out_init_method", FLAGSCALE_FIELD(adapter, lora_out_init_method),
            {.doc = "first values of B, as of A; zero adds nothing at first",
             .choices = {"xavier", "normal", "kaiming", "gaussian", "zero"}});
  keys.acts("load_in_8bit", FLAGSCALE_FIELD(adapter, load_in_8bit),
            {.doc = "with peft_type: hold the frozen matrices in 8 bits, a scale for each row"});
  keys.acts(
      "load_in_4bit", FLAGSCALE_FIELD(adapter, load_in_4bit),
      {.doc =
           "with peft_type: hold the frozen matrices in 4 bits, a scale for each 32 numbers (embedding and "
           "output head in 8). A GGUF file's stay as they are without this key"});
  keys.acts("pretrained_adapter", FLAGSCALE_FIELD(adapter, pretrained_adapter),
            {.doc = "adapter to start from when load has none: a PEFT folder or a checkpoint of one"});
  keys.elsewhere("lora_dim", {"lora_rank", "lora_r", "rank"});
  keys.elsewhere("lora_target_modules", {"target_modules", "lora_target", "lora_targets"});
}

}  // namespace flagscale::train
