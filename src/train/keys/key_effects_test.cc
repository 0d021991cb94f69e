// Every key that acts does: a tiny training with it and one without differ in the plan, the log, the weights
// or the files.
#include <fmt/ranges.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <filesystem>
#include <fstream>
#include <regex>
#include <set>
#include <sstream>

#include "base/error.h"
#include "base/log.h"
#include "base/temporary_folder_test_support.h"
#include "config/compose.h"
#include "config/schema.h"
#include "data/indexed_reader.h"
#include "data/indexed_writer.h"
#include "io/xxh64.h"
#include "train/keys/train_keys.h"
#include "train/run_test_support.h"

namespace flagscale::train {
namespace {

namespace fs = std::filesystem;
using Keys = std::vector<std::string>;  // "key=value"; @ is the run's folder, % the folder with the data
const std::string kData = FLAGSCALE_SOURCE_DIR "/tests/golden/data/";

constexpr const char* kBase = R"(
train:
  system: {log_interval: 1}
  model: {num_layers: 2, hidden_size: 32, num_attention_heads: 4, seq_length: 16, max_position_embeddings: 32,
    normalization: RMSNorm, swiglu: true, position_embedding_type: rope, disable_bias_linear: true, train_iters: 4,
    micro_batch_size: 2, global_batch_size: 4, attention_dropout: 0.0, hidden_dropout: 0.0, lr: 1e-2, eval_iters: 0}
  data: {vocab_size: 1000, make_vocab_size_divisible_by: 1, split: "80,20"}
)";

// One run's folder, removed with it.
class Folder {
 public:
  Folder() {
    folder_.put("c.yaml", kBase);
    fs::create_directory(run());
    add_masked_data();
  }
  std::string run() const { return folder_.path + "/run"; }
  // Pair a once more, with a loss mask beside it: every third token is learnt.
  void add_masked_data() const {
    for (const char* end : {".bin", ".idx"})
      fs::create_symlink(kData + "a" + end, folder_.path + "/m_text_document" + end);
    const data::IndexedReader reader(kData + "a");
    data::IndexedWriter mask(folder_.path + "/m_loss_mask_document", data::TokenType::kU16);
    for (int64_t s = 0; s < reader.index().sequences(); ++s) {
      std::vector<int32_t> learnt(static_cast<size_t>(reader.index().length(s)));
      for (size_t i = 0; i < learnt.size(); i += 3) learnt[i] = 1;
      mask.add_sequence(learnt);
      mask.end_document();
    }
    mask.commit();
    mask.remove_parts();
  }

  TrainOptions options(Keys keys, Isa isa = machine_isa()) const {
    for (std::string& key : keys) {
      for (size_t at; (at = key.find('@')) != std::string::npos;) key.replace(at, 1, run());
      for (size_t at; (at = key.find('%')) != std::string::npos;) key.replace(at, 1, kData);
      key.insert(0, "++train.data.");  // the section that wins
    }
    const config::Composed composed = config::compose({folder_.path, "c", std::move(keys)});
    return train_options(read_train_config(composed).config, {1000, 0}, isa);
  }

 private:
  TemporaryFolder folder_;
};

std::string text_of(const fs::path& file) {
  std::ostringstream text;
  text << std::ifstream(file).rdbuf();
  return text.str();
}

// What the run left, without what changes from run to run.
std::string files_in(const std::string& folder) {
  std::vector<std::string> lines;
  for (const auto& entry : fs::recursive_directory_iterator(folder)) {
    if (!entry.is_regular_file()) continue;
    std::string name = entry.path().filename().string();
    if (name.starts_with("events.out")) name = "events";
    const bool text = name.ends_with(".json") || name.ends_with(".txt");
    lines.push_back(fmt::format("{}/{} {} {}\n", entry.path().parent_path().filename().string(), name,
                                entry.file_size(), text ? text_of(entry.path()) : ""));
  }
  std::sort(lines.begin(), lines.end());
  std::string all;
  for (const std::string& line : lines) all += line;
  return all;
}

// By the path that the kernel knows: the source may be reached through a link.
bool data_is_mapped() {
  return text_of("/proc/self/maps").find(fs::canonical(kData + "a.bin").string()) != std::string::npos;
}

std::string log_of(Trainer& trainer) {
  auto [result, log] = testing::run_printed(trainer);
  log = std::regex_replace(log, std::regex("\\[[0-9 :-]+\\]|\\(ms\\): [0-9.]+|TFLOP/s/GPU\\): [0-9.]+"), "");
  return log + fmt::format("{} {}\n", result.iteration, result.consumed_samples);
}

constexpr const char* kWeights = "weights and moments: ";

// Everything that can be seen of a run, as text; of a refused one, why. isa: what fp16 is decided by.
std::string seen(const Keys& keys, Isa isa = machine_isa()) {
  const Folder folder;
  try {
    Trainer trainer(folder.options(keys, isa));
    const MemoryUse use = trainer.step().memory();
    std::string text = fmt::format("plan: {} {} {} {} {}; data mapped: {}\n", use.weights, use.gradients,
                                   use.optimizer, use.activations, use.inputs, data_is_mapped());
    text += log_of(trainer);
    text += fmt::format("{}{:x}\n", kWeights, testing::digest_of(trainer.step()));
    return text + files_in(folder.run());
  } catch (const Error& error) {
    return std::string("refused: ") + error.what();
  }
}

struct Sample {
  const char *key, *value;
  Keys context;  // other keys that it needs, with and without it
};

const Keys kSamples{"train_iters=null", "train_samples=16"};
const Keys kEvaluating{"eval_iters=1", "eval_interval=2"};
Keys operator+(Keys a, const Keys& b) {
  a.insert(a.end(), b.begin(), b.end());
  return a;
}
const Keys kSgd{"optimizer=sgd"}, kLion{"optimizer=lion"}, kAdafactor{"optimizer=adafactor"},
    kMuon{"optimizer=muon"};
const Keys kMixture{"num_experts=4"};
const Keys kWsd{"lr_decay_style=WSD", "lr_wsd_decay_iters=2"};
const Keys kStable =
    kSamples + Keys{"lr_decay_style=stablelm2-scheduler", "lr_decay_stablelm2_cosine_samples=5",
                    "lr_decay_stablelm2_cosine_max_lr=1e-3", "lr_decay_stablelm2_rsqrt_samples=5",
                    "lr_decay_stablelm2_alpha=1e-2"};
const Keys kDecaying{"weight_decay_incr_style=linear", "start_weight_decay=0.1", "end_weight_decay=0.3"};
const Keys kScaled{"max_position_embeddings=16384", "rotary_base=5e5", "use_rope_scaling=true"};
const Keys kSplit{"data_path=null", "train_data_path=[%a]", "split=null"};
const Keys kEvents{"tensorboard_dir=@/tb"};
const Keys kFull{"recompute_granularity=full", "recompute_method=uniform"};
const Keys kLora{"pretrained_checkpoint=prepared", "peft_type=lora"};
const Keys kStateTypes{"bf16=true", "use_precision_aware_optimizer=true"};
const Keys kFp8{"bf16=true", "fp8=hybrid", "fp8_recipe=tensorwise"};
const Keys kWide{"hidden_size=128", "ffn_hidden_size=128", "seq_length=64", "max_position_embeddings=64"};
const Keys kBlock{"recompute_granularity=full", "recompute_method=block", "recompute_num_layers=1"};

const std::vector<Sample>& table() {
  static const std::vector<Sample> kTable{
      {"num_layers", "3", {}},
      {"hidden_size", "64", {}},
      {"ffn_hidden_size", "96", {}},
      {"multiple_of", "100", {}},
      {"hidden_dim_multiplier", "2", {"multiple_of=64"}},
      {"num_attention_heads", "8", {}},
      {"group_query_attention", "true", {"num_query_groups=2"}},
      {"num_query_groups", "2", {"group_query_attention=true"}},
      {"kv_channels", "16", {}},
      {"seq_length", "8", {}},
      {"max_position_embeddings", "128", {}},
      {"normalization", "LayerNorm", {}},
      {"norm_epsilon", "1e-2", {}},
      {"swiglu", "false", {}},
      {"untie_embeddings_and_output_weights", "true", {}},
      {"add_qkv_bias", "true", {}},
      {"disable_bias_linear", "false", {}},
      {"qk_layernorm", "true", {}},
      {"window_size", "[1, 0]", {}},
      {"init_method_std", "0.01", {}},
      {"num_experts", "4", {}},
      {"moe_router_topk", "3", kMixture},
      {"moe_ffn_hidden_size", "24", kMixture},
      {"moe_shared_expert_intermediate_size", "64", kMixture + Keys{"moe_shared_expert_gate=true"}},
      {"moe_shared_expert_gate", "true", kMixture + Keys{"moe_shared_expert_intermediate_size=64"}},
      {"moe_layer_freq", "'[0]+[1]'", kMixture + Keys{"qk_layernorm=true"}},
      {"moe_router_pre_softmax", "true", kMixture + Keys{"qk_layernorm=true"}},
      {"moe_router_load_balancing_type", "none", kMixture + Keys{"moe_aux_loss_coeff=0.1"}},
      {"moe_aux_loss_coeff", "0.1", kMixture},
      {"moe_z_loss_coeff", "0.1", kMixture},
      {"hf_model_type", "aquila", {"save=@/s"}},
      {"position_embedding_type", "none", {}},
      {"use_rotary_position_embeddings", "true", {"position_embedding_type=null"}},
      {"rotary_base", "5e5", {}},
      {"use_rope_scaling", "true", {"max_position_embeddings=16384", "rotary_base=5e5"}},
      {"rope_scaling_factor", "4", kScaled},
      {"optimizer", "sgd", {}},
      {"sgd_momentum", "0", kSgd},
      {"lion_beta1", "0.5", kLion},
      {"lion_beta2", "0.5", kLion},
      {"adafactor_decay_rate", "-0.5", kAdafactor},
      {"adafactor_clip_threshold", "0.1", kAdafactor},
      {"adafactor_scale_parameter", "true", kAdafactor},
      {"muon_momentum", "0.5", kMuon},
      {"muon_use_nesterov", "true", kMuon},
      {"muon_no_split_qkv", "true", kMuon},
      {"muon_num_ns_steps", "3", kMuon},
      {"muon_scale_mode", "shape_scaling", kMuon},
      {"muon_extra_scale_factor", "0.2", kMuon},
      {"adam_beta1", "0.8", {}},
      {"adam_beta2", "0.9", {}},
      {"adam_eps", "1e-3", {}},
      {"clip_grad", "0.01", {}},
      {"weight_decay", "0.5", {}},
      {"start_weight_decay", "0.2", kDecaying},
      {"end_weight_decay", "0.2", kDecaying},
      {"weight_decay_incr_style", "cosine", kDecaying},
      {"lr", "2e-3", {}},
      {"min_lr", "1e-5", {}},
      {"lr_decay_style", "cosine", {}},
      {"lr_warmup_init", "1e-6", {"lr_warmup_iters=2"}},
      {"lr_warmup_fraction", "0.5", {}},
      {"lr_warmup_iters", "2", {}},
      {"lr_warmup_samples", "6", kSamples},
      {"lr_decay_iters", "3", {}},
      {"lr_decay_samples", "10", kSamples},
      {"lr_wsd_decay_style", "cosine", kWsd},
      {"lr_wsd_decay_iters", "3", kWsd},
      {"lr_wsd_decay_samples", "9", kSamples + Keys{"lr_decay_style=WSD", "lr_wsd_decay_samples=6"}},
      {"lr_decay_stablelm2_cosine_samples", "9", kStable},
      {"lr_decay_stablelm2_cosine_max_lr", "5e-3", kStable},
      {"lr_decay_stablelm2_cosine_period_samples", "11", kStable},
      {"lr_decay_stablelm2_rsqrt_samples", "8", kStable},
      {"lr_decay_stablelm2_alpha", "5e-3", kStable},
      {"lr_decay_stablelm2_beta", "0.5", kStable},
      {"lr_decay_stablelm2_decay_samples", "4", kStable},
      {"micro_batch_size", "4", {}},
      {"global_batch_size", "8", {}},
      {"rampup_batch_size", "[2,2,8]", kSamples},
      {"train_iters", "3", {}},
      {"train_samples", "8", kSamples},
      {"eval_iters", "2", kEvaluating},
      {"eval_interval", "1", kEvaluating},
      {"exit_interval", "3", {}},
      {"calculate_per_token_loss", "true", {"sft=true", "data_path=[@/../m_text_document]"}},
      {"seed", "7", {}},
      {"skip_iters_range", "[1,3]", {}},
      {"skip_samples_range", "[5,9]", {}},
      {"auto_skip_spiky_loss", "true", {"spiky_loss_threshold=1e-9", "lr=0.3"}},
      {"spiky_loss_threshold", "1e-9", {"auto_skip_spiky_loss=true", "lr=0.3"}},
      {"data_path", "[0.3,%a,0.7,%b]", {}},
      {"train_data_path", "[%b]", kSplit},
      {"valid_data_path", "[%b]", kSplit + kEvaluating + Keys{"valid_data_path=[%a]"}},
      {"test_data_path", "[%b]", kSplit + kEvaluating + Keys{"valid_data_path=[%a]", "test_data_path=[%a]"}},
      {"split", "'50,50'", {}},
      {"data_cache_path", "@/cache", {}},
      {"no_mmap_bin_files", "true", {}},
      {"apply_sft_dataset_separated_loss_mask_if_existed", "true", {"data_path=[@/../m_text_document]"}},
      {"sft", "true", {"data_path=[@/../m_text_document]"}},
      {"sft_packing", "false", {"data_path=[@/../m_text_document]", "sft=true"}},
      {"reset_position_ids", "true", {}},
      {"reset_attention_mask", "true", {}},
      {"eod_mask_loss", "true", {}},
      {"vocab_size", "3000", {}},
      {"make_vocab_size_divisible_by", "64", {}},
      {"save", "@/s", {}},
      {"load", "prepared", {}},
      {"pretrained_checkpoint", "prepared", {}},
      {"peft_type", "lora", {"pretrained_checkpoint=prepared"}},
      {"lora_target_modules", "[q_proj,linear_fc2]", kLora},
      {"lora_dim", "4", kLora},
      {"lora_alpha", "4", kLora},
      {"lora_dropout", "0.2", kLora},
      {"lora_dropout_position", "post", kLora + Keys{"lora_dropout=0.2"}},
      {"lora_in_init_method", "kaiming", kLora},
      {"lora_out_init_method", "gaussian", kLora},
      {"load_in_8bit", "true", kLora},
      {"load_in_4bit", "true", kLora},
      {"pretrained_adapter", "adapter", kLora},
      {"finetune", "true", {"load=prepared"}},
      {"no_load_optim", "true", {"load=prepared"}},
      {"save_interval", "2", {"save=@/s"}},
      {"no_save_optim", "true", {"save=@/s"}},
      {"keep_last", "1", {"save=@/s", "save_interval=2"}},
      {"bf16", "true", {}},
      {"fp16", "true", {}},
      {"main_params_dtype", "bf16", kStateTypes},
      {"main_grads_dtype", "bf16", kStateTypes},
      {"exp_avg_dtype", "bf16", kStateTypes},
      {"exp_avg_sq_dtype", "bf16", kStateTypes},
      {"fp8", "e4m3", {"bf16=true", "fp8_recipe=tensorwise"}},
      {"fp8_recipe", "blockwise", kFp8 + kWide},
      {"first_last_layers_bf16", "true", kFp8},
      {"num_layers_at_start_in_bf16", "0", kFp8 + Keys{"first_last_layers_bf16=true"}},
      {"num_layers_at_end_in_bf16", "0", kFp8 + Keys{"first_last_layers_bf16=true"}},
      {"recompute_granularity", "full", {"recompute_method=uniform"}},
      {"recompute_method", "uniform", kBlock},
      {"recompute_num_layers", "2", kBlock},
      {"log_interval", "2", {}},
      {"log_throughput", "true", {}},
      {"log_params_norm", "true", {}},
      {"log_num_zeros_in_grad", "true", {}},
      {"tensorboard_dir", "@/tb", {}},
      {"no_log_loss_scale_to_tensorboard", "true", kEvents},
      {"log_world_size_to_tensorboard", "true", kEvents},
      {"log_timers_to_tensorboard", "true", kEvents},
      {"log_validation_ppl_to_tensorboard", "true", kEvents + kEvaluating},
      {"log_memory_to_tensorboard", "true", kEvents},
      {"tensorboard_log_interval", "2", {"tensorboard_dir=@/tb"}},
  };
  return kTable;
}

// Seen through the program: tests/e2e/tokenizer_keys_test.cc.
const Keys kTokenizers{"tokenizer_type", "tokenizer_path", "tokenizer_model",
                       "vocab_file",     "merge_file",     "special_tokens_file"};
// Changes when a checkpoint is written, and nothing in it: the trainer's tests run both ways. Or only what
// each of several ranks keeps: distributed_optimizer_test.cc. Or where it lies on a GPU: offload_test.cc. Or
// it lets others act, which are refused without it.
const Keys kUnseen{"async_save", "use_distributed_optimizer", "optimizer_cpu_offload",
                   "optimizer_offload_fraction", "use_precision_aware_optimizer"};

// Planned, told or written beside the weights, which stay. Every other key changes them: a plan or a log line
// that does would be seen of a mask or a loss that is not applied too.
const Keys kBesideTheWeights{"max_position_embeddings",
                             "no_mmap_bin_files",
                             "recompute_granularity",
                             "recompute_method",
                             "recompute_num_layers",
                             "load",
                             "eval_iters",
                             "eval_interval",
                             "valid_data_path",
                             "test_data_path",
                             "data_cache_path",
                             "save",
                             "save_interval",
                             "no_save_optim",
                             "keep_last",
                             "hf_model_type",
                             "log_interval",
                             "log_throughput",
                             "log_params_norm",
                             "log_num_zeros_in_grad",
                             "tensorboard_dir",
                             "no_log_loss_scale_to_tensorboard",
                             "log_world_size_to_tensorboard",
                             "log_timers_to_tensorboard",
                             "log_validation_ppl_to_tensorboard",
                             "log_memory_to_tensorboard",
                             "tensorboard_log_interval"};

std::string weights_of(const std::string& seen) {
  const size_t at = std::min(seen.find(kWeights), seen.size());
  return seen.substr(at, seen.find('\n', at) - at);
}

bool has(const Keys& keys, const std::string& key) { return std::count(keys.begin(), keys.end(), key) > 0; }

// A checkpoint of the base after two of its four iterations.
class KeyEffects : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    set_log_level(LogLevel::kQuiet);
    prepared_ = std::make_unique<Folder>();
    Trainer(prepared_->options({"data_path=[%a]", "save=@/s", "exit_interval=2"})).run(stderr);
    Trainer(
        prepared_->options(with_folder(kLora + Keys{"data_path=[%a]", "save=@/adapter", "exit_interval=2"})))
        .run(stderr);
  }
  static void TearDownTestSuite() {
    prepared_.reset();
    set_log_level(LogLevel::kInfo);
  }
  static Keys with_folder(Keys keys) {
    for (std::string& key : keys)
      for (const auto& [word, folder] : {std::pair{"=prepared", "=" + prepared_->run() + "/s"},
                                         {"=adapter", "=" + prepared_->run() + "/adapter"}})
        if (key.ends_with(word)) key.replace(key.rfind('='), std::string::npos, folder);
    return keys;
  }
  static inline std::unique_ptr<Folder> prepared_;
};

// Else every key would seem to change it.
TEST_F(KeyEffects, ARunRepeatsWithWhatAnyKeyNeeds) {
  std::set<Keys> contexts;
  for (const Sample& sample : table()) contexts.insert(sample.context);
  for (const Keys& context : contexts) {
    const Keys keys = with_folder(Keys{"data_path=[%a]"} + context);
    EXPECT_EQ(seen(keys), seen(keys)) << fmt::format("{}", fmt::join(keys, " "));
  }
}

// On every processor: bf16 is computed there too, only not chosen.
TEST_F(KeyEffects, Fp16IsTheBf16RunOrTheFp32One) {
  const std::string fp32 = seen({"data_path=[%a]"}), bf16 = seen({"data_path=[%a]", "bf16=true"});
  EXPECT_NE(fp32, bf16);
  EXPECT_EQ(seen({"data_path=[%a]", "fp16=true"}, Isa::kAvx512Bf16), bf16);
  for (const Isa isa : {Isa::kScalar, Isa::kAvx2, Isa::kAvx512})
    EXPECT_EQ(seen({"data_path=[%a]", "fp16=true"}, isa), fp32) << name(isa);
}

TEST_F(KeyEffects, EveryKeyThatActsChangesWhatIsSeen) {
  for (const Sample& sample : table()) {
    SCOPED_TRACE(sample.key);
    if (sample.key == std::string("fp16")) continue;  // a test of its own, above
    const Keys without = with_folder(Keys{"data_path=[%a]"} + sample.context);
    const Keys with = with_folder(without + Keys{std::string(sample.key) + "=" + sample.value});
    const std::string before = seen(without), after = seen(with);
    const bool needed =
        has({"use_rotary_position_embeddings", "moe_shared_expert_gate"}, sample.key);  // is refused without
    EXPECT_EQ(before.starts_with("refused"), needed) << before;
    EXPECT_NE(before, after);
    EXPECT_EQ(weights_of(before) == weights_of(after), has(kBesideTheWeights, sample.key));
    const bool only_value = has({"normalization", "swiglu", "position_embedding_type"}, sample.key);
    EXPECT_EQ(after.starts_with("refused"), only_value)
        << after;  // there is one supported value, in every sample
  }
}

TEST_F(KeyEffects, EveryKeyThatActsIsInTheTable) {
  for (const config::KeyInfo& key : train_schema().keys()) {
    if (key.key_class != config::KeyClass::kActs) continue;
    const bool sampled =
        std::any_of(table().begin(), table().end(), [&](const Sample& s) { return key.name == s.key; });
    EXPECT_TRUE(sampled || has(kTokenizers, key.name) || has(kUnseen, key.name)) << key.name;
  }
}

TEST_F(KeyEffects, IgnoredKeysChangeNothing) {
  Keys keys{"data_path=[%a]", "save=@/s"};
  const std::string before = seen(keys);
  for (const config::KeyInfo& key : train_schema().keys())
    if (key.key_class == config::KeyClass::kIgnored) keys.push_back(key.name + "=3");
  EXPECT_GT(keys.size(), 50u);
  EXPECT_EQ(seen(keys), before);
}

}  // namespace
}  // namespace flagscale::train
