#include <algorithm>

#include "config/compose.h"
#include "train/keys/key_groups.h"
#include "train/keys/train_keys.h"

namespace flagscale::train {
namespace {

using Names = std::vector<std::string>;

// How a run is laid out over ranks and chips: none of it changes what is trained.
const Names kSizes{"tensor_model_parallel_size", "pipeline_model_parallel_size", "context_parallel_size",
                   "expert_model_parallel_size", "expert_tensor_parallel_size"};
const Names kStages{"num_layers_per_virtual_pipeline_stage",
                    "num_virtual_stages_per_pipeline_rank",
                    "virtual_pipeline_model_parallel_size",
                    "decoder_first_pipeline_num_layers",
                    "decoder_last_pipeline_num_layers",
                    "pipeline_model_parallel_layout",
                    "use_dualpipev"};
const Names kChips{"enable_hetero",
                   "hetero_current_device_type",
                   "hetero_device_types",
                   "hetero_pipeline_layer_split",
                   "hetero_process_meshes",
                   "hetero_use_cpu_communication",
                   "standalone_embedding_stage",
                   "use_partial_reduce_for_shared_embedding",
                   "expert_tensor_parallel_size_per_process_mesh"};

bool among(const Names& names, const std::string& name) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

void add_layouts(TrainSchema& keys) {
  for (const std::string& key : kSizes) keys.refused(key, "a model on several ranks", {"1"});
  for (const std::string& key : kStages) keys.refused(key, "layers on several ranks");
  for (const std::string& key : kChips) keys.refused(key, "training across unlike chips");
  keys.acts(
      "use_distributed_optimizer", FLAGSCALE_FIELD(optimizer, use_distributed_optimizer),
      {.doc = "each of several ranks keeps moments, and with bf16 master weights, of its share alone; the "
              "result is the same to the bit"});
  keys.ignored("sequence_parallel", "it concerns several tensor-parallel ranks, and memory only");
  for (const char* key :
       {"overlap_grad_reduce", "overlap_param_gather", "tp_comm_overlap", "distributed_backend",
        "distributed_timeout_minutes", "ddp_bucket_size", "align_grad_reduce"})
    keys.ignored(key, "it concerns how ranks exchange data, not the result");
}

}  // namespace

void add_parallel_keys(TrainSchema& keys) { add_layouts(keys); }

std::vector<std::string> one_rank_overrides(const config::Composed& composed) {
  Names overrides;
  for (const config::FlatKey& flat : config::flatten_keys(composed.root(), train_sections())) {
    const config::KeyInfo* key = train_schema().find(flat.name);
    if (key == nullptr) continue;
    const bool size = among(kSizes, key->name);
    if (!size && !among(kStages, key->name) && !among(kChips, key->name)) continue;
    const config::NodePtr value = composed.value(flat.path);
    if (value && !config::KeyTable::is_harmless(*key, *value))
      overrides.push_back(flat.path + (size ? "=1" : "=null"));
  }
  return overrides;
}

void add_other_family_keys(TrainSchema& keys) {
  for (const char* key : {"multi_latent_attention", "kv_lora_rank", "q_lora_rank", "qk_head_dim",
                          "qk_pos_emb_head_dim", "v_head_dim", "rope_type"})
    keys.refused(key, "latent attention");
  for (const char* key : {"mtp_num_layers", "mtp_loss_scaling_factor"})
    keys.refused(key, "predicting several tokens");
  for (const char* key :
       {"allow_missing_vision_projection_checkpoint", "disable_vision_class_token", "freeze_LM", "freeze_ViT",
        "image_aspect_ratio", "image_grid_pinpoints", "img_h", "img_w", "interleaved_dataset",
        "language_model_type", "mm_patch_merge_type", "mrope_section", "patch_dim", "prompt_path",
        "training_dataset_only", "valid_path", "vision_model_type", "vision_root"})
    keys.refused(key, "images beside text");
  for (const char* key : {"enable_variable_seq_lengths", "max_padding_length"})
    keys.refused(key, "samples of several lengths");
}

}  // namespace flagscale::train
