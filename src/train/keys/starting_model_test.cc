// Training that starts from a model: what keys may say beside it, and what need not be said.
#include "train/keys/starting_model.h"

#include <fmt/ranges.h>
#include <gtest/gtest.h>

#include "base/error.h"
#include "base/temporary_folder_test_support.h"
#include "config/compose.h"
#include "io/checkpoint.h"
#include "model/config_at.h"
#include "train/keys/train_keys.h"

namespace flagscale::train {
namespace {

constexpr const char* kShape =
    "num_layers: 2, hidden_size: 64, num_attention_heads: 4, max_position_embeddings: 64, normalization: "
    "RMSNorm, swiglu: true, position_embedding_type: rope, disable_bias_linear: true, ";
constexpr const char* kSchedule =
    "seq_length: 32, train_iters: 100, micro_batch_size: 2, global_batch_size: 8, lr: 1e-3";

// A small training with the keys of `model`; `more` win over them.
config::Composed composed(const std::string& model, const std::string& more) {
  const TemporaryFolder folder;
  folder.put("c.yaml", "experiment: {exp_dir: out}\ntrain:\n  system: {}\n  model: {" + model +
                           "}\n  data: {data_path: [d]" + (more.empty() ? "" : ", " + more) + "}\n");
  return config::compose({folder.path, "c", {}});
}

TrainConfig whole(const std::string& more) {
  return read_train_config(composed(std::string(kShape) + kSchedule, more)).config;
}

// What is said of weights of the very shape that whole("") asks for, changed by `change`.
template <class Change>
std::string contradiction(const std::string& more, Change change) {
  model::DecoderConfig source = train_options(whole(""), {1000, 0}).model;
  change(source);
  TrainConfig config = whole(more);
  config.start = StartingModel{"hf", source};
  try {
    const TrainOptions options = train_options(config, {1000, 0});
    EXPECT_EQ(options.model.hidden_size, source.hidden_size);
    EXPECT_EQ(options.data.vocab_size, source.vocab_size);
  } catch (const Error& error) {
    return error.what();
  }
  return "";
}

TEST(StartingModel, GivenKeysMayNotAskForAnotherModel) {
  using Source = model::DecoderConfig;
  const auto same = [](Source&) {};
  EXPECT_EQ(contradiction("", same), "");
  struct Case {
    const char *more, *says;
  };
  for (const Case& c : std::vector<Case>{
           {"hidden_size: 128", "c.yaml:5: train.data.hidden_size is 128, the weights have 64"},
           {"num_layers: 3", "num_layers is 3, the weights have 2"},
           {"ffn_hidden_size: 96", "ffn_hidden_size is 96, the weights have 128"},
           {"multiple_of: 100", "multiple_of is what makes ffn_hidden_size 200, the weights have 128"},
           {"num_attention_heads: 8", "num_attention_heads is 8, the weights have 4"},
           {"group_query_attention: true, num_query_groups: 2", "num_query_groups is 2, the weights have 4"},
           {"head_dim: 32", "train.data.head_dim is 32, the weights have 16"},
           {"norm_epsilon: 1e-6", "norm_epsilon is 1e-06, the weights have"},
           {"untie_embeddings_and_output_weights: true", "untie_embeddings_and_output_weights is true"},
           {"disable_bias_linear: false", "disable_bias_linear is false, the weights have true"},
           {"add_qkv_bias: true", "add_qkv_bias is true, the weights have false"},
           {"qk_layernorm: true", "qk_layernorm is true, the weights have false"},
           {"window_size: [7, 0]", "window_size is [7, 0], the weights have none"},
           {"rope_theta: 5e5", "rope_theta is 500000.0, the weights have 10000.0"},
           {"use_rope_scaling: true, max_position_embeddings: 16384", "the weights have scaling 'default'"},
           {"hf_model_type: aquila", "hf_model_type is aquila, the weights have llama"}})
    EXPECT_NE(contradiction(c.more, same).find(c.says), std::string::npos) << c.more << "\n"
                                                                           << contradiction(c.more, same);
}

TEST(StartingModel, WhatWasNotGivenOrIsPaddingContradictsNothing) {
  using Source = model::DecoderConfig;
  EXPECT_EQ(contradiction("", [](Source& s) { s.vocab_size = 49152; }), "") << "1000 ids and padding";
  EXPECT_EQ(contradiction("", [](Source& s) { s.rope.theta = 1e6, s.num_kv_heads = 2, s.qkv_bias = true; }),
            "");
  EXPECT_EQ(contradiction("", [](Source& s) { s.max_positions = 8192; }), "");
  EXPECT_EQ(contradiction("max_position_embeddings: 4096", [](Source&) {}), "");
  EXPECT_EQ(contradiction("init_method_std: 0.5", [](Source&) {}), "");
}

// Starting from a mixture's weights, the keys need not name its shape.
TEST(StartingModel, AMixturesLossesActWithoutItsSizes) {
  TrainConfig config = whole("moe_aux_loss_coeff: 0.5, moe_z_loss_coeff: 0.25");
  config.start = StartingModel{"hf", train_options(whole("num_experts: 4"), {1000, 0}).model};
  const TrainOptions options = train_options(config, {1000, 0});
  EXPECT_EQ(options.balance_loss, 0.5);
  EXPECT_EQ(options.z_loss, 0.25);
  EXPECT_EQ(options.model.moe.experts, 4);
  EXPECT_EQ(options.model.moe.balance_loss, 0.5f);
}

// Every family's config.json is a shape that no key repeats.
TEST(StartingModel, BringsItsShape) {
  for (const char* family : {"llama3", "llama3_1", "aquila", "mistral", "qwen2", "qwen2_yarn", "qwen3",
                             "mixtral", "qwen2_moe", "qwen2_moe_dense", "qwen3_moe"}) {
    const std::string source = std::string(FLAGSCALE_SOURCE_DIR "/tests/golden/model/") + family;
    const config::Composed keys = composed(kSchedule, "");
    const TrainReading reading = read_train_config(keys, machine_isa(), source);
    EXPECT_EQ(reading.notes, std::vector<std::string>{}) << "nothing of Megatron's defaults counts";
    const TrainOptions options = train_options(reading.config, {});
    EXPECT_EQ(options.init_from, source);
    model::DecoderConfig found = model::config_at(source);
    found.moe.balance_loss = 0;  // moe_aux_loss_coeff says what is trained with
    EXPECT_EQ(model::write_config(options.model, "float32"), model::write_config(found, "float32")) << family;
    const config::Composed named = composed(kSchedule, "pretrained_checkpoint: " + source);
    check_train_config(read_train_config(named).config);
    EXPECT_NE(fmt::format("{}", fmt::join(read_train_config(named, machine_isa(), source + "/.").notes, " "))
                  .find("/., counts"),
              std::string::npos);
    EXPECT_EQ(train_options(read_train_config(named).config, {}).model.hidden_size,
              options.model.hidden_size);
  }
}

TEST(StartingModel, WithoutOneTheShapeIsRequired) {
  const auto refusal = [](const std::string& model, const std::string& more) {
    try {
      check_train_config(read_train_config(composed(model, more)).config);
    } catch (const Error& error) {
      return std::string(error.what());
    }
    return std::string();
  };
  EXPECT_NE(refusal(kSchedule, "")
                .find("required value num_layers is not set: decoder layers; a model to "
                      "start from would bring it"),
            std::string::npos)
      << refusal(kSchedule, "");
  EXPECT_NE(refusal(kSchedule, "pretrained_checkpoint: nowhere").find("nowhere, which does not exist"),
            std::string::npos);
  EXPECT_EQ(refusal(std::string(kShape) + kSchedule, "vocab_size: 9, pretrained_checkpoint: nowhere"), "")
      << "it may come later";
  const TemporaryFolder none;
  EXPECT_NE(refusal(kSchedule, "pretrained_checkpoint: " + none.path).find("no config.json"),
            std::string::npos);
}

// With finetune `load` is what training starts from; an adapter in it is none.
TEST(StartingModel, IsTheCheckpointThatFinetuneLoads) {
  const TemporaryFolder folder;
  const auto save = [&](const std::string& name, std::map<std::string, std::string> extra) {
    io::TrainingState state;
    state.iteration = 1;
    state.extra = std::move(extra);
    io::CheckpointWriter writer(folder.path + "/" + name, {});
    writer.save(state, {});
    return folder.path + "/" + name;
  };
  const std::string config = model::write_config(train_options(whole(""), {1000, 0}).model, "float32");
  CheckpointKeys keys;
  keys.load = save("whole", {{"config.json", config}});
  EXPECT_FALSE(starting_model(keys)) << "that is a run to go on with";
  keys.finetune = true;
  ASSERT_TRUE(starting_model(keys));
  EXPECT_EQ(starting_model(keys)->path, keys.load);
  EXPECT_EQ(starting_model(keys)->shape.hidden_size, 64);
  keys.load = save("adapter", {{"config.json", config},
                               {"adapter_config.json", R"({"base_model_name_or_path": "the/base"})"}});
  EXPECT_FALSE(starting_model(keys));
  keys.pretrained_checkpoint = keys.load;
  try {
    starting_model(keys);
    ADD_FAILURE() << "an adapter is no model";
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find("holds a LoRA adapter and no model: give its base (the/base)"),
              std::string::npos)
        << error.what();
  }
}

}  // namespace
}  // namespace flagscale::train
