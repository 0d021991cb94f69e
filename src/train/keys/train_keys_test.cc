#include "train/keys/train_keys.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <map>
#include <sstream>

#include "base/error.h"
#include "base/temporary_folder_test_support.h"
#include "config/compose.h"
#include "config/explain.h"
#include "config/schema.h"
#include "train/keys/moe_layers.h"

namespace flagscale::train {
namespace {

namespace fs = std::filesystem;
const fs::path kSource = FLAGSCALE_SOURCE_DIR;

// A small valid training; `more` are further keys, which win over these.
std::string yaml(const std::string& more) {
  return "experiment: {exp_dir: out}\n"
         "train:\n"
         "  system: {bf16: true, log_interval: 1}\n"
         "  model: {num_layers: 2, hidden_size: 64, num_attention_heads: 4, seq_length: 32, "
         "max_position_embeddings: 64,\n"
         "    normalization: RMSNorm, swiglu: true, position_embedding_type: rope, disable_bias_linear: "
         "true, train_iters: 100,\n"
         "    micro_batch_size: 2, global_batch_size: 8, attention_dropout: 0.0, hidden_dropout: 0.0, lr: "
         "1e-3}\n"
         "  data: {data_path: [d], vocab_size: 1000" +
         (more.empty() ? "" : ", " + more) + "}\n";
}

class Tree {
 public:
  explicit Tree(const std::string& text) { folder_.put("c.yaml", text); }
  config::Composed compose(std::vector<std::string> overrides = {}) const {
    return config::compose({folder_.path, "c", std::move(overrides)});
  }

 private:
  TemporaryFolder folder_;
};

TrainReading read(const std::string& more) { return read_train_config(Tree(yaml(more)).compose()); }

std::string refusal(const std::string& more) {
  try {
    train_options(read(more).config, {1000, 0});
  } catch (const Error& error) {
    return error.what();
  }
  return "";
}

TEST(TrainKeys, UnsupportedValuesAreNamed) {
  EXPECT_NE(refusal("normalization: LayerNorm").find("set normalization: RMSNorm"), std::string::npos);
  EXPECT_NE(refusal("swiglu: false").find("set swiglu: true"), std::string::npos);
  EXPECT_NE(refusal("position_embedding_type: learned_absolute").find("set position_embedding_type: rope"),
            std::string::npos);
  for (const char* line : {"swiglu: false", "normalization: LayerNorm", "position_embedding_type: none"})
    EXPECT_NE(refusal(line).find("c.yaml:7: train.data."), std::string::npos) << refusal(line);
  const std::string flag = refusal("use_rotary_position_embeddings: false, position_embedding_type: null");
  EXPECT_NE(flag.find("train.data.use_rotary_position_embeddings is false"), std::string::npos) << flag;
  EXPECT_NE(refusal("optimizer: adamw8bits")
                .find("expected one of: adafactor, adam, adamw8bit, lion, muon, sgd; did you "
                      "mean adamw8bit?"),
            std::string::npos)
      << refusal("optimizer: adamw8bits");
}

TEST(TrainKeys, MixturesThatAreNotSupportedAreNamed) {
  const auto says = [](const std::string& more) { return refusal("num_experts: 4, " + more); };
  EXPECT_EQ(says("moe_grouped_gemm: true, moe_router_dtype: fp32, moe_router_score_function: softmax"), "");
  for (const char* balancing : {"sinkhorn", "seq_aux_loss", "global_aux_loss"})
    EXPECT_NE(says(std::string("moe_router_load_balancing_type: ") + balancing)
                  .find(std::string("moe_router_load_balancing_type is ") + balancing),
              std::string::npos);
  EXPECT_NE(says("moe_router_topk: 5").find("moe_router_topk is 5, num_experts 4"), std::string::npos);
  EXPECT_NE(says("moe_router_topk: 1").find("moe_router_pre_softmax"), std::string::npos);
  EXPECT_NE(says("moe_shared_expert_intermediate_size: 8").find("moe_shared_expert_gate: true"),
            std::string::npos);
  EXPECT_NE(says("disable_bias_linear: false").find("disable_bias_linear: true"), std::string::npos);
  EXPECT_NE(says("moe_layer_freq: 2").find("a Mixtral has"), std::string::npos) << says("moe_layer_freq: 2");
  EXPECT_NE(says("hf_model_type: llama").find("a llama has no mixture"), std::string::npos)
      << says("hf_model_type: llama");
  EXPECT_NE(says("moe_expert_capacity_factor: 1.5").find("moe_expert_capacity_factor"), std::string::npos);
}

TEST(TrainKeys, AMixturesFamilyFollowsFromItsSwitches) {
  const auto model = [](const std::string& more) {
    return train_options(read("num_experts: 4, " + more).config, {1000, 0}).model;
  };
  EXPECT_EQ(model("moe_router_topk: 2").model_type, "mixtral");
  EXPECT_EQ(model("qk_layernorm: true").model_type, "qwen3_moe");
  const auto qwen2 = model("moe_shared_expert_intermediate_size: 32, moe_shared_expert_gate: true");
  EXPECT_EQ(qwen2.model_type, "qwen2_moe");
  EXPECT_EQ(qwen2.moe.shared_size, 32);
  EXPECT_EQ(model("moe_ffn_hidden_size: 24").moe.size, 24);
  EXPECT_EQ(model("qk_layernorm: true, moe_layer_freq: '[0]+[1]'").moe.dense, (std::vector<int>{0}));
}

TEST(TrainKeys, AWindowIsOneOfAFamilyThatHasIt) {
  const auto model = [](const std::string& more) {
    return train_options(read("window_size: [7, 0], " + more).config, {1000, 0}).model;
  };
  for (const auto& [more, family] : {std::pair{"lr: 1", "mistral"},
                                     {"add_qkv_bias: true", "qwen2"},
                                     {"qk_layernorm: true", "qwen3"},
                                     {"num_experts: 4", "mixtral"},
                                     {"num_experts: 4, qk_layernorm: true", "qwen3_moe"}}) {
    const model::DecoderConfig got = model(more);
    EXPECT_EQ(got.model_type, family);
    EXPECT_EQ(got.sliding_window, 8) << family;  // itself and seven before it
    EXPECT_EQ(model::parse_config(model::write_config(got, "float32")).sliding_window, 8) << family;
  }
  EXPECT_EQ(train_options(read("window_size: [-1, 0]").config, {1000, 0}).model.sliding_window, 0);
  EXPECT_NE(refusal("window_size: [7]").find("expected two numbers"), std::string::npos);
  EXPECT_NE(refusal("window_size: [7, 7]").find("a token sees none behind it, set [7, 0]"),
            std::string::npos);
  for (const char* other :
       {"hf_model_type: llama", "disable_bias_linear: false", "hf_model_type: mistral, add_qkv_bias: true",
        "num_experts: 4, moe_shared_expert_intermediate_size: 8, moe_shared_expert_gate: true"})
    EXPECT_NE(refusal(std::string("window_size: [7, 0], ") + other).find("window_size is [7, 0], which a "),
              std::string::npos)
        << other << ": " << refusal(std::string("window_size: [7, 0], ") + other);
}

TEST(TrainKeys, LayersOfAMixtureAsMegatronWritesThem) {
  using Layers = std::vector<int>;
  EXPECT_EQ(dense_layers("1", 3), (Layers{}));
  EXPECT_EQ(dense_layers("2", 5), (Layers{1, 3}));
  EXPECT_EQ(dense_layers("[0]+[1]*3", 4), (Layers{0}));
  EXPECT_EQ(dense_layers("([1]*3+[0]*1)*2", 8), (Layers{3, 7}));
  EXPECT_EQ(dense_layers(" [0, 1,1] ", 3), (Layers{0}));
  for (const char* wrong : {"0", "", "[0]+[1]", "[2,1,1]", "[0]+1", "[1]*99999", "((((((((((((((((((([1]",
                            "[1]*-1", "__import__('os')", "[1]*3 + [0]*"})
    EXPECT_THROW(dense_layers(wrong, 3), Error) << wrong;
}

TEST(TrainKeys, NoneOfFlagScalesKeysIsMissing) {
  std::ifstream file(kSource / "tests/golden/compose/megatron_keys.txt");
  int count = 0;
  for (std::string key; std::getline(file, key); ++count) EXPECT_NE(train_schema().find(key), nullptr) << key;
  EXPECT_GT(count, 200);
}

TEST(TrainKeys, TheCensusHasNoOthers) {
  std::ifstream file(kSource / "../shared/reference/flagscale-config-census.tsv");
  if (!file) GTEST_SKIP() << "../shared is not here";
  for (std::string line; std::getline(file, line);) {
    std::istringstream columns(line);
    std::string key, files, engine;
    std::getline(columns, key, '\t');
    std::getline(columns, files, '\t');
    std::getline(columns, engine, '\t');
    if (!key.starts_with("train.") || !engine.starts_with("megatron")) continue;
    EXPECT_NE(train_schema().find(key.substr(key.rfind('.') + 1)), nullptr) << key;
  }
}

TEST(TrainKeys, ThePageIsUpToDate) {
  std::ifstream file(kSource / "docs/keys.md");
  const std::string page{std::istreambuf_iterator<char>(file), {}};
  EXPECT_EQ(page, train_keys_page()) << "write it anew: flagscale config keys --markdown > docs/keys.md";
}

TEST(TrainKeys, UnknownKeysNameFileLineAndTheNearest) {
  const std::string message = refusal("rotary_bse: 1");
  EXPECT_NE(message.find("c.yaml:7: train.data.rotary_bse"), std::string::npos) << message;
  EXPECT_NE(message.find("did you mean 'rotary_base'"), std::string::npos) << message;
  EXPECT_NE(refusal("lora_rank: 4").find("did you mean 'lora_dim'"), std::string::npos)
      << "as others call it";
}

TEST(TrainKeys, RefusedKeysAreNamedTogether) {
  const std::string message = refusal(
      "tensor_model_parallel_size: 4, moe_router_num_groups: 8, pipeline_model_parallel_size: 1, freeze_LM: "
      "false");
  EXPECT_NE(message.find("tensor_model_parallel_size"), std::string::npos) << message;
  EXPECT_NE(message.find("moe_router_num_groups"), std::string::npos) << message;
  EXPECT_EQ(message.find("pipeline_model_parallel_size"), std::string::npos) << message;
  EXPECT_EQ(message.find("freeze_LM"), std::string::npos) << message;
}

TEST(TrainKeys, IgnoredKeysAreListed) {
  const TrainReading reading = read("wandb-log-model: false, use_flash_attn: true");
  EXPECT_EQ(reading.ignored_line(),
            "these keys change nothing here (speed, or logging elsewhere): wandb_log_model, use_flash_attn");
}

TEST(TrainKeys, SaysWhatSurprises) {
  const auto notes = [](const std::string& more) {
    return fmt::format("{}", fmt::join(read(more).notes, "\n"));
  };
  EXPECT_NE(notes("fp16: true").find("fp16: true trains in "), std::string::npos);
  EXPECT_NE(notes("num_query_groups: 2").find("without group_query_attention"), std::string::npos);
  EXPECT_NE(notes("use_rotary_position_embeddings: false").find("beside position_embedding_type: rope"),
            std::string::npos);
  EXPECT_NE(notes("disable_bias_linear: false, add_qkv_bias: false").find("every linear layer has a bias"),
            std::string::npos);
  EXPECT_NE(notes("disable_bias_linear: null").find("every linear layer has a bias"), std::string::npos);
  EXPECT_NE(notes("ckpt_convert_format: torch, ckpt_convert_save: null").find("nothing is converted"),
            std::string::npos);
  EXPECT_NE(refusal("ckpt_convert_format: torch, ckpt_convert_save: out").find("set it to null to train"),
            std::string::npos);
  EXPECT_EQ(notes("optimizer_offload_fraction: 0.5"),
            "optimizer_offload_fraction changes nothing without optimizer_cpu_offload: true");
  EXPECT_EQ(notes("optimizer_cpu_offload: true, optimizer_offload_fraction: 0.5"),
            "optimizer_cpu_offload changes nothing on the CPU: all is in main memory");
  EXPECT_EQ(notes("first_last_layers_bf16: true, num_layers_at_start_in_bf16: 0"),
            "first_last_layers_bf16 changes nothing without fp8\n"
            "num_layers_at_start_in_bf16 changes nothing without fp8");
  const std::string fp8 = "bf16: true, fp8: hybrid, fp8_recipe: tensorwise, ",
                    slow = "fp8 is slow on the CPU, which multiplies no such numbers: there it is for checks";
  EXPECT_EQ(notes(fp8 + "num_layers_at_end_in_bf16: 2"),
            slow + "\nnum_layers_at_end_in_bf16 changes nothing without first_last_layers_bf16: true");
  EXPECT_EQ(notes(fp8 + "first_last_layers_bf16: true, num_layers_at_end_in_bf16: 2"), slow);
  EXPECT_EQ(notes(""), "");
}

// As Megatron's own check has it.
TEST(TrainKeys, NoMoreLayersThanThereAreStayInBf16) {
  const std::string fp8 = "bf16: true, fp8: hybrid, fp8_recipe: tensorwise, first_last_layers_bf16: true, ";
  const auto spec = [&](const std::string& more) {
    return *train_options(read(fp8 + more).config, {1000, 0}).fp8;
  };
  EXPECT_EQ(spec("").first_in_bf16, 1);
  EXPECT_EQ(spec("num_layers_at_start_in_bf16: 0").first_in_bf16, 0);
  EXPECT_EQ(spec("num_layers_at_end_in_bf16: 2").last_in_bf16, 2);
  EXPECT_NE(refusal(fp8 + "num_layers_at_end_in_bf16: 3")
                .find("num_layers_at_end_in_bf16 is 3, the model has 2 "
                      "layers"),
            std::string::npos)
      << refusal(fp8 + "num_layers_at_end_in_bf16: 3");
}

// As Megatron's command lines give them together.
TEST(TrainKeys, OffloadConcernsAGpuAlone) {
  const std::string keys =
      "optimizer_cpu_offload: true, optimizer_offload_fraction: 0.25, use_precision_aware_optimizer: true, "
      "overlap_cpu_optimizer_d2h_h2d: true, exp_avg_dtype: fp32";
  const TrainConfig config = read(keys).config;
  EXPECT_EQ(train_options(config, {1000, 0}, Isa::kCuda).offload, 0.25);
  EXPECT_EQ(train_options(config, {1000, 0}, machine_isa()).offload, 0);
  EXPECT_EQ(train_options(read("optimizer_offload_fraction: 0.25").config, {1000, 0}, Isa::kCuda).offload, 0);
  EXPECT_EQ(train_options(read("optimizer_cpu_offload: true").config, {1000, 0}, Isa::kCuda).offload, 1);
  EXPECT_NE(refusal("optimizer_offload_fraction: 1.5").find("optimizer_offload_fraction"), std::string::npos);
}

TEST(TrainKeys, APrecisionAwareOptimizerIsAdamsInBf16) {
  const std::string types =
      "main_params_dtype: bf16, main_grads_dtype: bf16, exp_avg_dtype: bf16, exp_avg_sq_dtype: bf16";
  const auto kept = [](const std::string& keys) {
    return train_options(read(keys).config, {1000, 0}).optimizer.types;
  };
  const StateTypes narrow{DType::kBF16, DType::kBF16, DType::kBF16, DType::kBF16};
  const std::string on = "bf16: true, use_precision_aware_optimizer: true, ";
  EXPECT_EQ(kept(on + types), narrow);
  EXPECT_EQ(kept("use_precision_aware_optimizer: true"), StateTypes{});
  const StateTypes moment{DType::kF32, DType::kF32, DType::kF32, DType::kBF16};
  EXPECT_EQ(kept(on + "exp_avg_sq_dtype: bf16"), moment);
  const auto refused = [&](const std::string& keys, const std::string& with) {
    EXPECT_NE(refusal(keys).find(with), std::string::npos) << keys << ": " << refusal(keys);
  };
  refused("bf16: true, exp_avg_dtype: bf16", "exp_avg_dtype: bf16 needs use_precision_aware_optimizer: true");
  refused(on + "optimizer: lion, exp_avg_dtype: bf16", "exp_avg_dtype: bf16 is for optimizer: adam");
  refused(on + "exp_avg_dtype: fp8", "exp_avg_dtype");
  refused(on + "main_params_dtype: fp16", "main_params_dtype");
}

TEST(TrainKeys, AKeyGivenTwiceSaysWhichCounts) {
  const auto notes = [](const std::string& train) {
    const std::string text = yaml("");
    const size_t at = text.find("train_iters: 100");
    return fmt::format(
        "{}",
        fmt::join(
            read_train_config(Tree(text.substr(0, at) + train + ", " + text.substr(at)).compose()).notes,
            "\n"));
  };
  const std::string sections = notes("weight_decay: 0.3, optimizer: {weight_decay: 0.1}");
  for (const char* part : {"train.model.optimizer.weight_decay is 0.1 and counts; ",
                           "c.yaml:5: train.model.weight_decay is 0.3 and changes nothing"})
    EXPECT_NE(sections.find(part), std::string::npos) << sections;
  const std::string aliases = notes("rope_theta: 5e5, rotary_base: 1e4");
  for (const char* part : {"train.model.rotary_base is 10000.0 and counts; ",
                           "c.yaml:5: train.model.rope_theta is 500000.0 and changes nothing"})
    EXPECT_NE(aliases.find(part), std::string::npos) << aliases;
  EXPECT_EQ(notes("weight_decay: 0.1, optimizer: {weight_decay: 0.1}"), "");
}

TEST(TrainKeys, Fp16IsBf16WhereTheProcessorMultipliesIt) {
  const PrecisionKeys fp16{.fp16 = true}, bf16{.bf16 = true};
  EXPECT_EQ(compute_type(fp16, Isa::kAvx512Bf16), DType::kBF16);
  EXPECT_EQ(compute_type(fp16, Isa::kAvx512), DType::kF32);
  EXPECT_EQ(compute_type(bf16, Isa::kAvx2), DType::kBF16);
  EXPECT_EQ(compute_type({}, Isa::kAvx512Bf16), DType::kF32);
}

// Presence semantics: a flag that is false is one that is not there.
TEST(TrainKeys, FalseIsAsGoodAsAbsent) {
  const Tree bare(
      "train:\n  system: {}\n  model: {num_layers: 2, hidden_size: 64, num_attention_heads: 4, seq_length: "
      "32, "
      "max_position_embeddings: 64, normalization: RMSNorm, train_iters: 100, micro_batch_size: 2, lr: "
      "1e-3}\n"
      "  data: {data_path: [d], vocab_size: 1000}\n");
  const auto refused = [](const config::Composed& composed) {
    try {
      check_train_config(read_train_config(composed).config);
    } catch (const Error& error) {
      const std::string text = error.what();
      const size_t at = text.find(", which");  // what comes before says where the key is written
      return at == std::string::npos ? text : text.substr(at);
    }
    return std::string();
  };
  for (const config::KeyInfo& key : train_schema().keys()) {
    if (key.type != "flag" && key.key_class != config::KeyClass::kRefused) continue;
    EXPECT_EQ(refused(bare.compose({"++train.data." + key.name + "=false"})), refused(bare.compose()))
        << key.name;
  }
}

TEST(TrainKeys, TheFolderOfTheExperimentIsNamed) {
  for (const char* value : {"null", "", "''"}) {
    const std::string given = std::string("experiment.exp_dir=") + value;
    try {
      read_train_config(Tree(yaml("")).compose({given}));
      ADD_FAILURE() << given;
    } catch (const Error& error) {
      EXPECT_NE(std::string(error.what()).find("override '" + given + "': experiment.exp_dir is "),
                std::string::npos)
          << error.what();
    }
  }
}

TEST(TrainKeys, AMisspeltExperimentIsNamed) {
  for (const auto& [given, told] : std::map<std::string, std::string>{
           {"+experiment.exp_dri=/big",
            "experiment.exp_dri is no key of an experiment; did you mean 'exp_dir'?"},
           {"+experiment.task.bakend=megatron", "experiment.task.bakend is no key of an experiment"},
           {"+experiment.task.backend=quux", "'quux', which is no backend: it is one of native, megatron"},
           {"+acton=run", "acton is nothing that a task reads; did you mean 'action'?"},
           {"+experiment.task.backend=megatorn", "which is no backend; did you mean 'megatron'?"},
           {"+trian.model.lr=1", "trian is nothing that a task reads; did you mean 'train'?"},
           {"++device=cuda", "device is no key of a training run; the flag --device selects it"},
           {"++train.system.device=cuda",
            "device is no key of a training run; the flag --device selects it"}})
    try {
      read_train_config(Tree(yaml("")).compose({given}));
      ADD_FAILURE() << given;
    } catch (const Error& error) {
      EXPECT_NE(std::string(error.what()).find(told), std::string::npos) << error.what();
      EXPECT_NE(std::string(error.what()).find("override '" + given + "'"), std::string::npos)
          << error.what();
    }
  read_train_config(Tree(yaml("")).compose({"+my_variable.of_mine=1"}));
}

// Variables of the user's own: whatever an interpolation reads, and what has not a section's form.
TEST(TrainKeys, VariablesStandBesideTheKeys) {
  for (const std::vector<std::string>& given : std::vector<std::vector<std::string>>{
           {"+experiment.run_id=7", "hydra.run.dir=out/${experiment.run_id}"},
           {"+experiment.base=q", "+experiment.exp_name='x${.base}'"},
           {"+experiment.base=q", "+experiment.exp_name='x${experiment[base]}'"},
           {"+experiment.base=q", "+which=base", "+experiment.exp_name='x${experiment.${which}}'"},
           {"+experiment.base.a=q", "+mine.deep=['${experiment.base.a}']"},
           {"+date=today", "+experiment.exp_name='x${[date]}'"},
           {"+date=today", "+mode=fast", "+models=[a]", "+datas=1"}})
    EXPECT_NO_THROW(read_train_config(Tree(yaml("")).compose(given))) << given[0] << ' ' << given[1];
  for (const std::vector<std::string>& given :
       std::vector<std::vector<std::string>>{{"+experiment.base=q", "+experiment.exp_name='x${oc.env:HOME}'"},
                                             {"+experiment.base=q", "+mine='${experiment.bases}'"},
                                             {"+experiment.base=q", "+base='${.experiment.exp_name}'"}})
    EXPECT_THROW(read_train_config(Tree(yaml("")).compose(given)), Error) << given[1];
}

TEST(TrainKeys, WholeNumbersAreTakenAndNoOthers) {
  const std::string huge = refusal("seed: 99999999999999999999");
  EXPECT_NE(huge.find("expected an integer of at most 64 bits"), std::string::npos) << huge;
  for (const char* other : {"1.5", "1e300", "-.inf", ".nan", "x"}) {
    const std::string text = refusal(std::string("seed: ") + other);
    EXPECT_NE(text.find("expected an integer"), std::string::npos) << other << ": " << text;
  }
  EXPECT_EQ(read("seed: 1000000.0").config.batch.seed, 1000000);
}

TEST(TrainKeys, ASplitThatIsNoneIsRefusedAtOnce) {
  for (const char* split : {"split: abc", "split: '99,x'", "split: '9e-1,0.1'"})
    EXPECT_NE(refusal(split).find("train.data.split"), std::string::npos) << split << ": " << refusal(split);
}

TEST(TrainKeys, WhatDoesNotGoTogetherSaysWhereEachIsSet) {
  const std::string longer = refusal("seq_length: 128");
  EXPECT_NE(longer.find("seq_length 128 is above max_position_embeddings 64"), std::string::npos) << longer;
  EXPECT_NE(longer.find("c.yaml:7: train.data.seq_length"), std::string::npos) << longer;
  EXPECT_NE(longer.find("c.yaml:4: train.model.max_position_embeddings"), std::string::npos) << longer;
  const std::string uneven = refusal("global_batch_size: 7");
  EXPECT_NE(uneven.find("c.yaml:7: train.data.global_batch_size"), std::string::npos) << uneven;
  EXPECT_NE(uneven.find("c.yaml:6: train.model.micro_batch_size"), std::string::npos) << uneven;
  EXPECT_EQ(uneven.find("seq_length"), std::string::npos) << uneven;
}

TEST(TrainKeys, PlaceholdersAreRequiredValues) {
  std::string text = yaml("");
  text.replace(text.find("[d]"), 3, "\"${data_path:??}\"");
  try {
    read_train_config(Tree(text).compose());
    ADD_FAILURE() << "not refused";
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find("required value train.data.data_path is not set"),
              std::string::npos)
        << error.what();
  }
}

TEST(TrainKeys, LaterSectionsWin) {
  const Tree tree("train: {system: {lr: 1e-3}, model: {optimizer: {lr_scheduler: {lr: 2e-3}}}, data: {}}\n");
  const auto keys = config::flatten_keys(tree.compose().root(), train_sections());
  ASSERT_EQ(keys.size(), 1u);
  EXPECT_EQ(keys[0].path, "train.model.optimizer.lr_scheduler.lr");
}

TEST(Explain, FollowsInterpolationsToWhereTheValueIs) {
  const Tree tree("seed: 5\ntrain:\n  model:\n    seed: ${seed}\n");
  const config::Composed composed = tree.compose({"seed=9"});
  const std::string text =
      config::to_text(config::explain(train_schema(), train_sections(), "train.model.seed", &composed));
  EXPECT_NE(text.find("c.yaml:4"), std::string::npos) << text;
  EXPECT_NE(text.find("9  (override 'seed=9')"), std::string::npos) << text;
  const std::string plain =
      config::to_text(config::explain(train_schema(), train_sections(), "train.model.rotary_base", nullptr));
  EXPECT_NE(plain.find("float, above 0, default 10000.0, acts"), std::string::npos) << plain;
  EXPECT_THROW(config::explain(train_schema(), train_sections(), "train.model.rotary_bas", nullptr), Error);
}

TEST(Explain, WhatNoTableKnowsIsWhatTheConfigurationSets) {
  const config::Composed composed = Tree("experiment: {exp_name: a}\ntrain: {model: {seed: 5}}\n").compose();
  const auto refusal = [](const std::string& key, const config::Composed* of) -> std::string {
    try {
      return config::to_text(config::explain(train_schema(), train_sections(), key, of));
    } catch (const Error& error) {
      return error.what();
    }
  };
  EXPECT_NE(refusal("experiment.exp_name", &composed).find("c.yaml:1"), std::string::npos);
  EXPECT_EQ(refusal("experiment.runner.nnodes", &composed),
            "the configuration does not set 'experiment.runner.nnodes'");
  EXPECT_NE(refusal("experiment.exp_name", nullptr).find("--config-path"), std::string::npos);
}

TEST(Explain, SaysTheDefaultAndTheClassOfWhatIsNotSet) {
  const config::Composed composed = Tree("train: {model: {seed: 5}}\n").compose();
  const auto explained = [&](const std::string& key) {
    return config::explain(train_schema(), train_sections(), key, &composed);
  };
  EXPECT_NE(config::to_text(explained("rotary_base"))
                .find("\n  10000.0  (default; not set; a model to start from brings its own)\n"),
            std::string::npos)
      << config::to_text(explained("rotary_base"));
  EXPECT_NE(config::to_text(explained("clip_grad")).find("\n  1.0  (default; not set)\n"), std::string::npos);
  const std::string json = config::to_json(explained("rotary_base"));
  EXPECT_NE(json.find("\"set\": false"), std::string::npos) << json;
  EXPECT_NE(json.find("\"value\": 10000.0"), std::string::npos) << json;
  EXPECT_NE(config::to_text(explained("num_layers")).find("not set, and required"), std::string::npos);
  EXPECT_NE(config::to_json(explained("num_layers")).find("\"default\": null"), std::string::npos);
  EXPECT_NE(config::to_json(explained("seed")).find("\"value\": 5,"), std::string::npos);
  EXPECT_NE(config::to_json(explained("swiglu")).find("\"value\": false"), std::string::npos);
  EXPECT_NE(config::to_json(explained("optimizer")).find("\"value\": \"adam\""), std::string::npos);
  EXPECT_NE(config::to_text(explained("use_flash_attn")).find("ignored: it changes nothing"),
            std::string::npos);
  EXPECT_NE(config::to_text(explained("use_mup")).find("refused: it would change"), std::string::npos);
}

// The order of samples follows from how many are asked for.
TEST(TrainOptions, AsksForAsManySamplesAsMegatron) {
  const auto samples = [](const std::string& more) {
    return train_options(read(more).config, {1000, 0}).data.samples;
  };
  using Numbers = std::array<std::optional<int64_t>, 3>;
  EXPECT_EQ(samples("eval_interval: 30, eval_iters: 2"), (Numbers{800, 4 * 2 * 8, 2 * 8}));
  EXPECT_EQ(samples("train_iters: null, train_samples: 803, eval_iters: 3"), (Numbers{803, 24, 24}));
  EXPECT_EQ(samples("train_iters: null, train_samples: 80, rampup_batch_size: [2, 2, 30], eval_interval: 10, "
                    "eval_iters: 1"),
            (Numbers{80, 2 * 8, 8}))
      << "15 updates, of which the last 5 are full";
}

// FlagScale's rule: int(4h·2/3), times the multiplier, up to a multiple.
TEST(TrainOptions, FeedForwardWidthsAreFlagScales) {
  const auto width = [](const std::string& more) {
    return train_options(read(more).config, {1000, 0}).model.intermediate_size;
  };
  EXPECT_EQ(width("hidden_size: 4096, num_attention_heads: 32, multiple_of: 256"), 11008);
  EXPECT_EQ(
      width("hidden_size: 6144, num_attention_heads: 48, multiple_of: 4096, hidden_dim_multiplier: 1.3"),
      24576);
  EXPECT_EQ(
      width("hidden_size: 8192, num_attention_heads: 64, multiple_of: 4096, hidden_dim_multiplier: 1.3"),
      28672);
  EXPECT_EQ(width("hidden_size: 2048, num_attention_heads: 16, multiple_of: 256, hidden_dim_multiplier: 2"),
            11008);
  EXPECT_EQ(width("hidden_size: 2048, num_attention_heads: 16, multiple_of: 128"), 5504);
}

}  // namespace
}  // namespace flagscale::train
