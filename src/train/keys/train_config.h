#pragma once
// What a configuration says about a training run, typed: one field for every Megatron-named key that acts,
// with Megatron's name and default. The keys are declared beside the structs (model_keys.cc and so on) and
// filled by read_train_config() (train_keys.h); train_options() turns this into what the trainer runs on, in
// its units.
//
// std::optional: Megatron has no default, or "not given" means something of its own.

#include <array>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "model/decoder/config.h"
#include "train/optimizer/optimizer.h"
#include "train/training_events.h"

namespace flagscale::train {

struct ModelKeys {
  int64_t num_layers = 0;
  int64_t hidden_size = 0;
  std::optional<int64_t> ffn_hidden_size;  // none: from hidden_size by multiple_of and hidden_dim_multiplier
  std::optional<int64_t> multiple_of;
  std::optional<double> hidden_dim_multiplier;
  int64_t num_attention_heads = 0;
  bool group_query_attention = false;
  int64_t num_query_groups = 1;
  std::optional<int64_t> kv_channels;  // none: hidden_size / num_attention_heads
  int64_t seq_length = 0;
  int64_t max_position_embeddings = 0;
  double norm_epsilon = 1e-5;
  std::string normalization = "LayerNorm";
  std::string position_embedding_type = "learned_absolute";
  bool use_rotary_position_embeddings = false;
  double rotary_base = 10000;
  bool use_rope_scaling = false;  // LLaMA-3.1's
  double rope_scaling_factor = 8;
  bool swiglu = false;
  bool untie_embeddings_and_output_weights = false;
  bool add_qkv_bias = false;
  bool disable_bias_linear = false;
  bool qk_layernorm = false;
  std::vector<int64_t> window_size;  // tokens before and behind one that it sees, -1: all; empty: none
  double init_method_std = 0.02;
  std::string hf_model_type;  // the family of an export; empty: chosen by the switches above
};

struct MoeKeys {
  std::optional<int64_t> num_experts;
  int64_t moe_router_topk = 2;
  std::optional<int64_t> moe_ffn_hidden_size;                  // none: ffn_hidden_size
  std::optional<int64_t> moe_shared_expert_intermediate_size;  // none: no shared experts
  bool moe_shared_expert_gate = false;
  bool moe_router_pre_softmax = false;
  std::string moe_layer_freq =
      "1";  // every nth layer from the first, or a list of 0 and 1 as Python writes it
  std::string moe_router_load_balancing_type = "aux_loss";
  double moe_aux_loss_coeff = 0;
  double moe_z_loss_coeff = 0;
};

struct OptimizerKeys {
  OptimizerSpec spec;
  bool use_distributed_optimizer = false;
  bool optimizer_cpu_offload = false;
  double optimizer_offload_fraction = 1;
  bool use_precision_aware_optimizer = false;
  std::string main_params_dtype = "fp32", main_grads_dtype = "fp32";
  std::string exp_avg_dtype = "fp32", exp_avg_sq_dtype = "fp32";
  bool muon_no_split_qkv = false;
  double lr = 0;
  double clip_grad = 1.0;
  double weight_decay = 0.01;
  std::optional<double> start_weight_decay, end_weight_decay;
  std::string weight_decay_incr_style = "constant";
};

struct ScheduleKeys {
  std::string lr_decay_style = "linear";
  double min_lr = 0;
  double lr_warmup_init = 0;
  std::optional<double> lr_warmup_fraction;
  int64_t lr_warmup_iters = 0, lr_warmup_samples = 0;
  std::optional<int64_t> lr_decay_iters, lr_decay_samples;  // none: as long as the training
  std::string lr_wsd_decay_style = "exponential";
  std::optional<int64_t> lr_wsd_decay_iters, lr_wsd_decay_samples;
  // stablelm2-scheduler; in samples
  int64_t lr_decay_stablelm2_cosine_samples = 0;
  double lr_decay_stablelm2_cosine_max_lr = 0;
  int64_t lr_decay_stablelm2_cosine_period_samples = 0;
  int64_t lr_decay_stablelm2_rsqrt_samples = 0;
  double lr_decay_stablelm2_alpha = 1, lr_decay_stablelm2_beta = 0;
  int64_t lr_decay_stablelm2_decay_samples = 0;
};

struct BatchKeys {
  int64_t micro_batch_size = 1;
  std::optional<int64_t> global_batch_size;  // none: one micro-batch
  std::vector<int64_t> rampup_batch_size;    // start, increment, samples; empty: none
  std::optional<int64_t> train_iters, train_samples;
  int64_t eval_iters = 100, eval_interval = 1000;
  std::optional<int64_t> exit_interval;
  bool calculate_per_token_loss = false;
  int64_t seed = 1234;
  std::vector<int64_t> skip_iters_range, skip_samples_range;  // pairs first, end
  bool auto_skip_spiky_loss = false;
  double spiky_loss_threshold = 0.2;
};

struct DataKeys {
  std::vector<std::string> data_path;
  std::array<std::vector<std::string>, 3> split_data_path;  // train_, valid_, test_data_path
  std::string split = "969, 30, 1";
  std::string data_cache_path;
  bool no_mmap_bin_files = false;
  bool separated_loss_mask = false;  // apply_sft_dataset_separated_loss_mask_if_existed
  bool sft = false;
  std::optional<bool> sft_packing;  // ours; none: yes
  bool reset_position_ids = false;
  bool reset_attention_mask = false;
  bool eod_mask_loss = false;
};

struct TokenizerKeys {
  std::string tokenizer_type;   // chooses the reader of the files below
  std::string tokenizer_path;   // a Hugging Face folder
  std::string tokenizer_model;  // a file
  std::string vocab_file, merge_file, special_tokens_file;
  std::optional<int64_t> vocab_size;
  int64_t make_vocab_size_divisible_by = 128;
};

struct CheckpointKeys {
  std::string save, load;  // empty: FlagScale's <exp_dir>/checkpoints for both
  std::optional<int64_t> save_interval;
  std::string pretrained_checkpoint;  // weights to start from when there is nothing to resume
  bool finetune = false;
  bool no_load_optim = false, no_save_optim = false;
  std::optional<bool> async_save;  // none: yes
  int64_t keep_last = 0;           // ours: older checkpoints are removed; 0 keeps all
};

struct AdapterKeys {
  std::string peft_type;  // empty: the whole model is trained
  std::vector<std::string> lora_target_modules{"linear_qkv", "linear_proj", "linear_fc1", "linear_fc2"};
  int64_t lora_dim = 8;
  double lora_alpha = 16, lora_dropout = 0;
  std::string lora_dropout_position = "pre";
  std::string lora_in_init_method = "xavier", lora_out_init_method = "zero";
  bool load_in_8bit = false, load_in_4bit = false;  // transformers' names: how the frozen model is held
  std::string pretrained_adapter;  // ours: a PEFT folder or a checkpoint of an adapter to start from
};

struct LoggingKeys {
  int64_t log_interval = 100;
  bool log_throughput = false;
  bool log_params_norm = false, log_num_zeros_in_grad = false;
  std::string tensorboard_dir;  // empty: FlagScale's <exp_dir>/tensorboard
  int64_t tensorboard_log_interval = 1;
  EventKeys events;
};

struct PrecisionKeys {
  bool bf16 = false, fp16 = false;  // neither: fp32; compute_type says what fp16 stands for
  std::string fp8{};                // "", e4m3, hybrid
  std::string fp8_recipe = "delayed";
  bool first_last_layers_bf16 = false;
  int64_t num_layers_at_start_in_bf16 = 1, num_layers_at_end_in_bf16 = 1;
};

struct RecomputeKeys {
  std::string recompute_granularity;  // "", full, selective
  std::string recompute_method;       // "", uniform, block
  std::optional<int64_t> recompute_num_layers;
};

struct ExperimentKeys {
  std::string exp_name = "default", exp_dir;
};

// The model whose weights training starts from. It brings its shape: keys that are not given are its own.
struct StartingModel {
  std::string path;  // a Hugging Face folder, a GGUF file or a checkpoint
  model::DecoderConfig shape;
};

struct TrainConfig {
  ExperimentKeys experiment;
  ModelKeys model;
  MoeKeys moe;
  OptimizerKeys optimizer;
  ScheduleKeys schedule;
  BatchKeys batch;
  DataKeys data;
  TokenizerKeys tokenizer;
  CheckpointKeys checkpoint;
  AdapterKeys adapter;
  LoggingKeys logging;
  PrecisionKeys precision;
  RecomputeKeys recompute;
  std::optional<StartingModel> start;  // none: from nothing, and the keys say the shape

  // Where each key that was given stands, for messages: "train.yaml:12: train.model.hidden_size". Names, not
  // aliases.
  std::map<std::string, std::string> places;
};

}  // namespace flagscale::train
