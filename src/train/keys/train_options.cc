// From the keys' units to the trainer's: everything in samples, sizes worked out, Megatron's derivations.

#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <tuple>

#include "base/error.h"
#include "data/blend.h"
#include "train/keys/key_places.h"
#include "train/keys/moe_layers.h"
#include "train/keys/starting_model.h"
#include "train/keys/train_keys.h"
#include "train/optimizer/state_types.h"

namespace flagscale::train {
namespace {

// "train.yaml:9: train.model.swiglu is false", or "swiglu is not set (Megatron's default is false)".
std::string found(const TrainConfig& c, const char* key, const std::string& value) {
  const auto place = c.places.find(key);
  return place == c.places.end() ? fmt::format("{} is not set (Megatron's default is {})", key, value)
                                 : fmt::format("{} is {}", place->second, value);
}

void check_family(const TrainConfig& c) {
  const ModelKeys& m = c.model;
  const auto refuse = [&](const char* key, const std::string& value, const char* fix) {
    fail(ErrorKind::kUnsupported, "{}, which is not supported yet: set {}", found(c, key, value), fix);
  };
  if (m.normalization != "RMSNorm") refuse("normalization", m.normalization, "normalization: RMSNorm");
  if (!m.swiglu) refuse("swiglu", "false", "swiglu: true");
  if (m.use_rotary_position_embeddings || m.position_embedding_type == "rope") return;
  const bool flag =
      c.places.contains("use_rotary_position_embeddings") && !c.places.contains("position_embedding_type");
  if (flag) refuse("use_rotary_position_embeddings", "false", "use_rotary_position_embeddings: true");
  refuse("position_embedding_type", m.position_embedding_type, "position_embedding_type: rope");
}

int as_int(const char* key, int64_t value) {
  if (value > 1 << 20) fail(ErrorKind::kConfig, "{} is {}, expected at most {}", key, value, 1 << 20);
  return static_cast<int>(value);
}

// Some families have none, others not with every switch: refused now, not when the model is saved.
void set_window(const TrainConfig& c, model::DecoderConfig& out) {
  out.sliding_window = window_of(c.model);
  if (out.sliding_window == 0) return;
  model::validate(out);
  const model::DecoderConfig written = model::parse_config(model::write_config(out, "float32"));
  if (written.sliding_window == out.sliding_window && written.first_window_layer == out.first_window_layer &&
      written.qkv_bias == out.qkv_bias && written.o_bias == out.o_bias && written.mlp_bias == out.mlp_bias &&
      written.qk_norm == out.qk_norm)
    return;
  fail(ErrorKind::kUnsupported,
       "{}, which {} as this one cannot be saved with: leave window_size out, or set hf_model_type and the "
       "switches of mistral or mixtral (no biases), qwen2 (add_qkv_bias), qwen3 or qwen3_moe (qk_layernorm)",
       found(c, "window_size", fmt::format("[{}]", fmt::join(c.model.window_size, ", "))),
       "a " + out.model_type);
}

std::string family(const ModelKeys& m, const MoeKeys& moe) {
  if (!m.hf_model_type.empty()) return m.hf_model_type;
  if (moe.num_experts)
    return moe.moe_shared_expert_intermediate_size ? "qwen2_moe" : m.qk_layernorm ? "qwen3_moe" : "mixtral";
  if (m.qk_layernorm) return "qwen3";
  if (m.add_qkv_bias && m.disable_bias_linear) return "qwen2";
  return window_of(m) > 0 && m.disable_bias_linear ? "mistral" : "llama";
}

// Also of a model to start from, whose mixture the keys do not name.
double balance_coefficient(const TrainConfig& c) {
  const std::string& type = c.moe.moe_router_load_balancing_type;
  if (type != "aux_loss" && type != "none")
    fail(ErrorKind::kUnsupported, "{}, which is not supported yet: set aux_loss or none",
         found(c, "moe_router_load_balancing_type", type));
  return type == "aux_loss" ? c.moe.moe_aux_loss_coeff : 0;
}

void check_mixture(const TrainConfig& c) {
  const MoeKeys& m = c.moe;
  if (!c.model.disable_bias_linear)
    fail(ErrorKind::kUnsupported, "experts with biases are not supported yet: set disable_bias_linear: true");
  if (m.moe_shared_expert_intermediate_size && !m.moe_shared_expert_gate)
    fail(ErrorKind::kUnsupported,
         "{}, which without a gate is not supported yet: set moe_shared_expert_gate: true (Qwen2-MoE's)",
         found(c, "moe_shared_expert_intermediate_size",
               std::to_string(*m.moe_shared_expert_intermediate_size)));
  if (m.moe_router_topk > *m.num_experts)
    fail(ErrorKind::kConfig, "moe_router_topk is {}, num_experts {}", m.moe_router_topk, *m.num_experts);
  if (m.moe_router_topk == 1 && !m.moe_router_pre_softmax)
    fail(ErrorKind::kConfig,
         "moe_router_topk: 1 needs moe_router_pre_softmax: true, as in Megatron: else the one weight is "
         "always 1 "
         "and the router learns nothing");
}

void set_mixture(const TrainConfig& c, model::DecoderConfig& out) {
  const MoeKeys& m = c.moe;
  if (!m.num_experts) return;
  check_mixture(c);
  model::MoeConfig& to = out.moe;
  to.experts = as_int("num_experts", *m.num_experts);
  to.top_k = as_int("moe_router_topk", m.moe_router_topk);
  to.size = m.moe_ffn_hidden_size.value_or(out.intermediate_size);
  to.normalise = !m.moe_router_pre_softmax;
  to.shared_size = m.moe_shared_expert_intermediate_size.value_or(0);
  to.dense = dense_layers(m.moe_layer_freq, out.num_layers);
  to.balance_loss = static_cast<float>(balance_coefficient(c));
  if (out.model_type == "mixtral") out.intermediate_size = to.size;  // it has no other
  model::validate(out);
  model::write_config(
      out, "float32");  // a model that no family's file can say is refused now, not when it is saved
}

void set_rope(const ModelKeys& m, model::DecoderConfig& out) {
  out.rope.head_dim = out.head_dim;
  out.rope.theta = m.rotary_base;
  out.rope.max_positions = out.max_positions;
  if (!m.use_rope_scaling) return;
  op::RopeScalingValues values;  // LLaMA 3.1's, which Megatron has built in
  values.factor = m.rope_scaling_factor;
  values.original_max_positions = 8192;
  op::set_rope_scaling(out.rope, "llama3", values);
}

// NullTokenizer is made of vocab_size, and has one token more to end documents, as Megatron's.
std::optional<int64_t> given_vocabulary(const TokenizerKeys& t) {
  return t.tokenizer_type == "NullTokenizer" ? std::nullopt : t.vocab_size;
}

void check_vocabulary(const TokenizerKeys& t, int64_t tokenizer_size) {
  if (tokenizer_size > given_vocabulary(t).value_or(tokenizer_size))
    fail(ErrorKind::kConfig,
         "vocab_size is {}, but the tokenizer has {} tokens: set vocab_size to at least that", *t.vocab_size,
         tokenizer_size);
}

int64_t padded_vocabulary(const TokenizerKeys& t, int64_t tokenizer_size) {
  check_vocabulary(t, tokenizer_size);
  const int64_t size = given_vocabulary(t).value_or(tokenizer_size);
  if (size < 1)
    fail(ErrorKind::kConfig, "the size of the vocabulary is not known: set vocab_size or a tokenizer");
  if (size > int64_t{1} << 24)
    fail(ErrorKind::kConfig, "vocab_size is {}, expected at most {}", size, 1 << 24);
  const int64_t multiple = t.make_vocab_size_divisible_by;
  return (size + multiple - 1) / multiple * multiple;
}

// From nothing.
model::DecoderConfig decoder(const TrainConfig& c, const TokenizerFacts& tokenizer) {
  const ModelKeys& m = c.model;
  check_family(c);
  model::DecoderConfig out;
  out.model_type = family(m, c.moe);
  out.vocab_size = padded_vocabulary(c.tokenizer, tokenizer.vocab_size);
  out.hidden_size = m.hidden_size;
  out.intermediate_size = ffn_width(m);
  out.num_layers = as_int("num_layers", m.num_layers);
  out.num_heads = as_int("num_attention_heads", m.num_attention_heads);
  out.num_kv_heads = m.group_query_attention ? as_int("num_query_groups", m.num_query_groups) : out.num_heads;
  if (!m.kv_channels && m.hidden_size % m.num_attention_heads != 0)
    fail(ErrorKind::kConfig, "hidden_size {} is no multiple of num_attention_heads {}: set kv_channels",
         m.hidden_size, m.num_attention_heads);
  out.head_dim = as_int("kv_channels", m.kv_channels.value_or(m.hidden_size / m.num_attention_heads));
  out.max_positions = m.max_position_embeddings;
  out.rms_norm_eps = static_cast<float>(m.norm_epsilon);
  out.tie_embeddings = !m.untie_embeddings_and_output_weights;
  out.qkv_bias = m.add_qkv_bias || !m.disable_bias_linear;
  out.o_bias = out.mlp_bias = !m.disable_bias_linear;
  out.qk_norm = m.qk_layernorm;
  out.init_std = static_cast<float>(m.init_method_std);
  if (tokenizer.end_of_document >= 0) out.eos_ids = {tokenizer.end_of_document};
  set_rope(m, out);
  set_mixture(c, out);
  set_window(c, out);
  return out;
}

std::vector<std::pair<int64_t, int64_t>> ranges(const char* key, const std::vector<int64_t>& values) {
  if (values.size() % 2 != 0)
    fail(ErrorKind::kConfig, "{} has {} numbers, expected pairs of first and end", key, values.size());
  std::vector<std::pair<int64_t, int64_t>> result;
  for (size_t i = 0; i < values.size(); i += 2) {
    if (values[i] >= values[i + 1])
      fail(ErrorKind::kConfig, "{}: from {} to {} is nothing", key, values[i], values[i + 1]);
    result.emplace_back(values[i], values[i + 1]);
  }
  return result;
}

void set_batch(const TrainConfig& c, TrainOptions& out) {
  const BatchKeys& b = c.batch;
  out.seq_length = c.model.seq_length;
  out.micro_batch_size = b.micro_batch_size;
  out.global_batch_size = b.global_batch_size.value_or(b.micro_batch_size);
  if (!b.rampup_batch_size.empty()) {
    if (b.rampup_batch_size.size() != 3)
      fail(ErrorKind::kConfig,
           "rampup_batch_size has {} numbers, expected first batch, increment and samples",
           b.rampup_batch_size.size());
    out.rampup = BatchRampup{b.rampup_batch_size[0], b.rampup_batch_size[1], b.rampup_batch_size[2]};
  }
  out.train_iters = b.train_iters.value_or(0);
  out.train_samples = b.train_samples.value_or(0);
  if (out.rampup && out.train_samples == 0)
    fail(ErrorKind::kConfig, "rampup_batch_size needs train_samples instead of train_iters");
  out.per_token_loss = b.calculate_per_token_loss;
  out.seed = b.seed;
  out.eval_interval = b.eval_interval;
  out.eval_iters = b.eval_iters;
  out.exit_interval = b.exit_interval.value_or(0);
  out.skip_iters = ranges("skip_iters_range", b.skip_iters_range);
  out.skip_samples = ranges("skip_samples_range", b.skip_samples_range);
  out.skip_spiky_loss = b.auto_skip_spiky_loss;
  out.spiky_loss_threshold = b.spiky_loss_threshold;
}

// Megatron's get_optimizer_param_scheduler: lengths in samples, from iterations or samples as the training's
// own is.
void set_schedule(const TrainConfig& c, TrainOptions& out) {
  const ScheduleKeys& s = c.schedule;
  const bool by_iters = out.train_iters > 0;
  const int64_t batch = out.global_batch_size;
  constexpr int64_t kMostSamples = int64_t{1} << 50;
  for (const int64_t iters :
       {out.train_iters, s.lr_decay_iters.value_or(0), s.lr_wsd_decay_iters.value_or(0), s.lr_warmup_iters})
    if (iters > kMostSamples / batch)
      fail(ErrorKind::kConfig,
           "{} iterations of {} samples are more than the 2^50 samples that can be counted", iters, batch);
  const auto samples = [&](const std::optional<int64_t>& iters, const std::optional<int64_t>& samples_key,
                           int64_t fallback) {
    return by_iters ? (iters ? *iters * batch : fallback) : samples_key.value_or(fallback);
  };
  const int64_t length = by_iters ? out.train_iters * batch : out.train_samples;
  LrSchedule& lr = out.lr;
  lr.style = s.lr_decay_style;
  lr.lr = c.optimizer.lr;
  lr.min_lr = s.min_lr;
  lr.warmup_init = s.lr_warmup_init;
  lr.global_batch_size = batch;
  lr.decay_samples = samples(s.lr_decay_iters, s.lr_decay_samples, length);
  lr.wsd_style = s.lr_wsd_decay_style;
  lr.wsd_decay_samples = samples(s.lr_wsd_decay_iters, s.lr_wsd_decay_samples, 0);
  if (s.lr_warmup_fraction && (s.lr_warmup_iters > 0 || s.lr_warmup_samples > 0))
    fail(ErrorKind::kConfig, "set one of lr_warmup_fraction, lr_warmup_iters and lr_warmup_samples");
  if (by_iters && s.lr_warmup_samples > 0)
    fail(ErrorKind::kConfig,
         "lr_warmup_samples goes with train_samples; with train_iters set lr_warmup_iters");
  if (!by_iters && s.lr_warmup_iters > 0)
    fail(ErrorKind::kConfig,
         "lr_warmup_iters goes with train_iters; with train_samples set lr_warmup_samples");
  lr.warmup_samples = by_iters ? s.lr_warmup_iters * batch : s.lr_warmup_samples;
  if (s.lr_warmup_fraction)
    lr.warmup_samples = static_cast<int64_t>(*s.lr_warmup_fraction * static_cast<double>(lr.decay_samples));
  lr.stablelm2.cosine_samples = s.lr_decay_stablelm2_cosine_samples;
  lr.stablelm2.cosine_max_lr = s.lr_decay_stablelm2_cosine_max_lr;
  lr.stablelm2.cosine_period_samples = s.lr_decay_stablelm2_cosine_period_samples;
  lr.stablelm2.rsqrt_samples = s.lr_decay_stablelm2_rsqrt_samples;
  lr.stablelm2.alpha = s.lr_decay_stablelm2_alpha;
  lr.stablelm2.beta = s.lr_decay_stablelm2_beta;
  lr.stablelm2.decay_samples = s.lr_decay_stablelm2_decay_samples;

  const OptimizerKeys& o = c.optimizer;
  WeightDecaySchedule& decay = out.weight_decay;
  decay.style = o.weight_decay_incr_style;
  const bool constant = decay.style == "constant";
  if (!constant && (!o.start_weight_decay || !o.end_weight_decay))
    fail(ErrorKind::kConfig, "weight_decay_incr_style: {} needs start_weight_decay and end_weight_decay",
         decay.style);
  decay.start = constant ? o.weight_decay : *o.start_weight_decay;
  decay.end = constant ? o.weight_decay : *o.end_weight_decay;
  decay.increase_samples = length;
  out.optimizer = o.spec;
  out.optimizer.muon_split_qkv = !o.muon_no_split_qkv;
  out.clip_grad = o.clip_grad;
  out.distributed_optimizer = o.use_distributed_optimizer;
  if (o.optimizer_cpu_offload) out.offload = o.optimizer_offload_fraction;
}

// Megatron's rule: without the key that turns them on the types are fp32.
void set_state_types(const OptimizerKeys& keys, TrainOptions& out) {
  StateTypes& types = out.optimizer.types;
  for (const auto& [key, name, type] :
       {std::tuple{"main_params_dtype", keys.main_params_dtype, &types.params},
        {"main_grads_dtype", keys.main_grads_dtype, &types.grads},
        {"exp_avg_dtype", keys.exp_avg_dtype, &types.exp_avg},
        {"exp_avg_sq_dtype", keys.exp_avg_sq_dtype, &types.exp_avg_sq}}) {
    *type = *state_type(name);
    if (*type != DType::kF32 && !keys.use_precision_aware_optimizer)
      fail(ErrorKind::kConfig, "{}: {} needs use_precision_aware_optimizer: true", key, name);
  }
}

void set_data(const TrainConfig& c, const TokenizerFacts& tokenizer, TrainOptions& out) {
  const DataKeys& d = c.data;
  out.data.data_path = d.data_path;
  out.data.split_data_path = d.split_data_path;
  out.data.split = d.split;
  const auto split = c.places.find("split");
  data::parse_split(d.split, split == c.places.end() ? "split" : split->second);
  out.data.sequence_length = out.seq_length;
  out.data.seed = static_cast<uint32_t>(out.seed);
  out.data.mmap_bin_files = !d.no_mmap_bin_files;
  out.data.separated_loss_mask = d.separated_loss_mask;
  out.data.sft = out.mask.packed = d.sft;
  out.data.sft_packing = d.sft_packing.value_or(true);
  out.data.cache_path = d.data_cache_path;
  out.data.vocab_size = out.model.vocab_size;
  if (d.sft && (d.reset_position_ids || d.reset_attention_mask || d.eod_mask_loss))
    fail(ErrorKind::kConfig,
         "sft has positions, attention and masks of its own for each conversation: leave out "
         "reset_position_ids, reset_attention_mask and eod_mask_loss");
  const bool needs_end = d.reset_position_ids || d.reset_attention_mask || d.eod_mask_loss;
  if (needs_end && tokenizer.end_of_document < 0)
    fail(ErrorKind::kConfig,
         "reset_position_ids, reset_attention_mask and eod_mask_loss need a tokenizer that has an "
         "end-of-document token: set tokenizer_path");
  out.mask.eod_token = tokenizer.end_of_document;
  out.mask.reset_position_ids = d.reset_position_ids;
  out.mask.reset_attention_mask = d.reset_attention_mask;
  out.mask.eod_mask_loss = d.eod_mask_loss;
  const TokenizerKeys& t = c.tokenizer;
  out.tokenizer = !t.tokenizer_path.empty()    ? t.tokenizer_path
                  : !t.tokenizer_model.empty() ? t.tokenizer_model
                                               : t.vocab_file;
}

void set_files(const TrainConfig& c, TrainOptions& out) {
  out.log_interval = c.logging.log_interval;
  out.log_throughput = c.logging.log_throughput;
  out.log_params_norm = c.logging.log_params_norm;
  out.log_num_zeros_in_grad = c.logging.log_num_zeros_in_grad;
  out.events = c.logging.events;
  out.tensorboard_dir = c.logging.tensorboard_dir;
  out.tensorboard_log_interval = c.logging.tensorboard_log_interval;
  out.save = c.checkpoint.save;
  out.load = c.checkpoint.load;
  out.save_interval = c.checkpoint.save_interval.value_or(0);
  out.keep_last = static_cast<int>(c.checkpoint.keep_last);
  out.init_from = c.checkpoint.pretrained_checkpoint;
  out.finetune = c.checkpoint.finetune;
  out.no_load_optim = c.checkpoint.no_load_optim;
  out.no_save_optim = c.checkpoint.no_save_optim;
  out.async_save = c.checkpoint.async_save.value_or(true);
}

void set_adapter(const AdapterKeys& a, TrainOptions& out) {
  if (a.load_in_8bit && a.load_in_4bit)
    fail(ErrorKind::kConfig, "load_in_8bit and load_in_4bit are both set: set one");
  if ((a.load_in_8bit || a.load_in_4bit) && a.peft_type.empty())
    fail(ErrorKind::kConfig,
         "{} is set, and peft_type is not: weights that are trained are not held in fewer bits; set "
         "peft_type: lora",
         a.load_in_8bit ? "load_in_8bit" : "load_in_4bit");
  if (a.peft_type.empty()) {
    if (!a.pretrained_adapter.empty())
      fail(ErrorKind::kConfig, "pretrained_adapter is {}, and peft_type is not set: set peft_type: lora",
           a.pretrained_adapter);
    return;
  }
  out.lora = LoraSpec{a.lora_target_modules,
                      a.lora_dim,
                      a.lora_alpha,
                      a.lora_dropout,
                      a.lora_dropout_position == "post",
                      a.lora_in_init_method,
                      a.lora_out_init_method};
  if (a.load_in_8bit) out.frozen = op::Packing::kInt8;
  if (a.load_in_4bit) out.frozen = op::Packing::kQ4_0;
  out.adapter_from = a.pretrained_adapter;
}

void set_recompute(const RecomputeKeys& r, TrainOptions& out) {
  if (r.recompute_granularity == "full") {
    out.recompute.granularity = model::Recompute::kFull;
    if (r.recompute_method.empty())
      fail(ErrorKind::kConfig, "recompute_granularity: full needs recompute_method: uniform or block");
    if (r.recompute_method == "block") {
      if (!r.recompute_num_layers)
        fail(ErrorKind::kConfig, "recompute_method: block needs recompute_num_layers");
      out.recompute.first_layers = as_int("recompute_num_layers", *r.recompute_num_layers);
    }
  }  // selective recomputes the scores of attention, which our kernel never keeps: nothing to do
}

// "train.yaml:9: train.system.fp8 is hybrid" without what it needs.
void set_fp8(const TrainConfig& c, TrainOptions& out) {
  const PrecisionKeys& p = c.precision;
  if (p.fp8.empty()) return;
  if (!p.bf16)
    fail(ErrorKind::kConfig, "{}: it rounds the products of training in bf16: set bf16: true",
         found(c, "fp8", p.fp8));
  if (p.fp8_recipe != "tensorwise" && p.fp8_recipe != "blockwise")
    fail(
        ErrorKind::kUnsupported,
        "{}, which is not supported yet: set fp8_recipe: tensorwise (a scale for each tensor, by its largest "
        "magnitude now) or blockwise (for 128 numbers)",
        found(c, "fp8_recipe", p.fp8_recipe));
  if (c.moe.num_experts || out.model.moe.experts > 0)
    fail(ErrorKind::kUnsupported, "{}, but experts are not trained in fp8 yet: leave fp8 out",
         found(c, "fp8", p.fp8));
  for (const auto& [key, layers] : {std::pair{"num_layers_at_start_in_bf16", p.num_layers_at_start_in_bf16},
                                    {"num_layers_at_end_in_bf16", p.num_layers_at_end_in_bf16}})
    if (p.first_last_layers_bf16 && layers > out.model.num_layers)
      fail(ErrorKind::kConfig, "{}, the model has {} layers: set at most as many",
           found(c, key, std::to_string(layers)), out.model.num_layers);
  out.fp8 = Fp8Spec{{p.fp8_recipe == "tensorwise" ? op::Fp8Recipe::kTensorwise : op::Fp8Recipe::kBlockwise,
                     p.fp8 == "hybrid" ? Fp8::kE5M2 : Fp8::kE4M3},
                    p.first_last_layers_bf16 ? p.num_layers_at_start_in_bf16 : 0,
                    p.first_last_layers_bf16 ? p.num_layers_at_end_in_bf16 : 0};
}

TrainOptions options_of(const TrainConfig& config, const TokenizerFacts& tokenizer, Isa isa) {
  TrainOptions out;
  if (config.start) {
    check_vocabulary(config.tokenizer, tokenizer.vocab_size);
    out.model = starting_shape(config);
    out.model.moe.balance_loss = static_cast<float>(balance_coefficient(config));
  } else {
    out.model = decoder(config, tokenizer);
  }
  if (config.precision.fp16 && config.precision.bf16)
    fail(ErrorKind::kConfig, "fp16 and bf16 are both true: set one of them");
  out.compute = compute_type(config.precision, isa);
  set_fp8(config, out);
  out.balance_loss = balance_coefficient(config);
  out.z_loss = config.moe.moe_z_loss_coeff;
  set_batch(config, out);
  set_schedule(config, out);
  set_state_types(config.optimizer, out);
  set_data(config, tokenizer, out);
  set_files(config, out);
  set_recompute(config.recompute, out);
  set_adapter(config.adapter, out);
  if (device_of(isa) == DeviceKind::kCpu) out.offload = 0;  // all is in main memory
  validate(out);
  // How much is asked for decides how many epochs are laid out and so the order of samples: Megatron's
  // numbers.
  out.data.samples = data::requested_samples(total_iterations(out), 0, out.global_batch_size,
                                             out.eval_interval, out.eval_iters);
  if (out.train_samples > 0) out.data.samples[data::kTrain] = out.train_samples;
  return out;
}

}  // namespace

// FlagScale's rule for the LLaMA-like width; without multiple_of Megatron's.
int64_t window_of(const ModelKeys& m) {
  const std::vector<int64_t>& w = m.window_size;
  if (w.empty()) return 0;
  if (w.size() != 2)
    fail(ErrorKind::kConfig, "window_size is [{}], expected two numbers, such as [4095, 0]",
         fmt::join(w, ", "));
  if (w[0] < 0) return 0;
  if (w[1] != 0)
    fail(ErrorKind::kUnsupported, "window_size is [{}]: a token sees none behind it, set [{}, 0]",
         fmt::join(w, ", "), w[0]);
  return w[0] + 1;
}

int64_t ffn_width(const ModelKeys& m) {
  if (m.ffn_hidden_size) return *m.ffn_hidden_size;
  auto width = static_cast<int64_t>(static_cast<double>(4 * m.hidden_size) * 2 / 3);
  if (!m.multiple_of) {
    if (m.hidden_dim_multiplier) fail(ErrorKind::kConfig, "hidden_dim_multiplier needs multiple_of");
    return std::max<int64_t>(64, width / 64 * 64);
  }
  if (m.hidden_dim_multiplier)
    width = static_cast<int64_t>(static_cast<double>(width) * *m.hidden_dim_multiplier);
  return (width + *m.multiple_of - 1) / *m.multiple_of * *m.multiple_of;
}

DType compute_type(const PrecisionKeys& keys, Isa isa) {
  return keys.bf16 || (keys.fp16 && isa >= Isa::kAvx512Bf16) ? DType::kBF16 : DType::kF32;
}

void check_train_config(const TrainConfig& config) {
  TokenizerFacts assumed;
  assumed.vocab_size = config.tokenizer.vocab_size.value_or(1);
  assumed.end_of_document = 0;
  train_options(config, assumed);
}

TrainOptions train_options(const TrainConfig& config, const TokenizerFacts& tokenizer, Isa isa) {
  try {
    return options_of(config, tokenizer, isa);
  } catch (const Error& error) {
    throw with_places(config.places, error);
  }
}

}  // namespace flagscale::train
