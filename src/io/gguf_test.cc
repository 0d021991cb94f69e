#include "io/gguf.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "io/atomic_file.h"
#include "io/gguf_weights.h"
#include "io/io_test_support.h"

namespace flagscale::io {
namespace {

TEST(Gguf, ReadsEveryMetadataType) {
  const GgufFile file(golden("llama.gguf"));
  EXPECT_EQ(file.version(), 3u);
  EXPECT_EQ(file.architecture(), "llama");
  EXPECT_EQ(file.integer("test.u8"), 200);
  EXPECT_EQ(file.integer("test.i8"), -100);
  EXPECT_EQ(file.integer("test.u16"), 60000);
  EXPECT_EQ(file.integer("test.i16"), -30000);
  EXPECT_EQ(file.integer("test.u64"), int64_t{1} << 40);
  EXPECT_EQ(file.integer("test.i64"), -(int64_t{1} << 40));
  EXPECT_EQ(file.number("test.f64"), 0.1);
  EXPECT_EQ(file.boolean("tokenizer.ggml.add_bos_token"), false);
  EXPECT_EQ(*file.numbers("test.floats"), (GgufFloats{0.5, -1.25}));
  EXPECT_EQ(*file.integers("test.bools"), (GgufInts{1, 0}));
  EXPECT_EQ(file.integer("test.absent"), std::nullopt);
  EXPECT_NE(error_of([&] { file.text("test.u8"); }).find("'test.u8' is not a string"), std::string::npos);
  EXPECT_NE(error_of([&] { file.required("test.absent"); }).find("missing"), std::string::npos);
}

TEST(Gguf, TensorsAreHuggingFacesBitForBit) {
  const auto weights = open_weights(golden("llama.gguf"));
  const auto expected = open_weights(golden("llama.safetensors"));
  EXPECT_EQ(weights->tensors().size(), expected->tensors().size());  // rope_freqs is not among them
  for (const TensorInfo& info : expected->tensors()) {
    ASSERT_NE(weights->find(info.name), nullptr) << info.name;
    EXPECT_EQ(weights->info(info.name).shape, info.shape) << info.name;
    EXPECT_EQ(weights->read_f32(info.name), expected->read_f32(info.name)) << info.name;
  }
}

TEST(Gguf, RowsOfPermutedTensorsComeInOrder) {
  const auto weights = open_weights(golden("llama.gguf"));
  const TensorInfo& q = weights->info("model.layers.0.self_attn.q_proj.weight");
  EXPECT_TRUE(weights->bytes(q).empty());
  const auto whole = weights->read_f32(q.name);
  for (int64_t i = 0; i < q.rows(); ++i) {
    std::vector<float> row(64);
    decode_f32(q.encoding, q.dtype, weights->row(q, i), 0, row);
    EXPECT_TRUE(std::equal(row.begin(), row.end(), whole.begin() + i * 64)) << i;
  }
  EXPECT_EQ(weights->bytes(weights->info("model.norm.weight")).size(), 256u);
}

TEST(Gguf, NamesMapToHuggingFaces) {
  EXPECT_EQ(hf_name("blk.12.attn_k_norm.weight"), "model.layers.12.self_attn.k_norm.weight");
  EXPECT_EQ(hf_name("blk.0.attn_q.bias"), "model.layers.0.self_attn.q_proj.bias");
  EXPECT_EQ(hf_name("output.weight"), "lm_head.weight");
  EXPECT_EQ(hf_name("rope_freqs.weight"), "");
  EXPECT_EQ(hf_name("blk.x.attn_q.weight"), "blk.x.attn_q.weight");
  EXPECT_EQ(hf_name("strange"), "strange");
}

TEST(Gguf, ConfigAndTokenizer) {
  const GgufFile file(golden("llama.gguf"));
  const auto config = nlohmann::json::parse(gguf_config_json(file, DType::kBF16));
  EXPECT_EQ(config["model_type"], "llama");
  EXPECT_EQ(config["vocab_size"], 40);
  EXPECT_EQ(config["num_key_value_heads"], 2);
  EXPECT_EQ(config["rms_norm_eps"], 1e-5);
  EXPECT_EQ(config["tie_word_embeddings"], true);
  EXPECT_EQ(config["torch_dtype"], "bfloat16");
  // The file was made with factor 8, low 1, high 4 and an original length of 64, which has to be found from
  // rope_freqs.
  const auto& scaling = config["rope_scaling"];
  EXPECT_EQ(scaling["rope_type"], "llama3");
  EXPECT_EQ(scaling["factor"], 8.0);
  const double low = scaling["low_freq_factor"], high = scaling["high_freq_factor"];
  const double original = scaling["original_max_position_embeddings"];
  EXPECT_NEAR(original / low, 64, 0.5);
  EXPECT_NEAR(original / high, 16, 0.1);
  const GgufTokenizer tokenizer = gguf_tokenizer(file);
  EXPECT_EQ(tokenizer.tokens.size(), 40u);
  EXPECT_EQ(tokenizer.merges, GgufStrings{"! \""});
  EXPECT_EQ(tokenizer.eos, 2);
  EXPECT_EQ(tokenizer.pre, "smollm");
  EXPECT_EQ(nlohmann::json::parse(gguf_tokenizer_config_json(file))["eos_token"], "<|im_end|>");
  EXPECT_EQ(nlohmann::json::parse(gguf_generation_config_json(file))["eos_token_id"], 2);
}

TEST(Gguf, QwenFilesKeepTheirRowsBiasesAndNorms) {
  const GgufFile stored(golden("qwen2.gguf"));
  const auto weights = open_weights(golden("qwen2.gguf"));
  const TensorInfo& q = weights->info("model.layers.1.self_attn.q_proj.weight");
  const auto raw = stored.bytes(*stored.find("blk.1.attn_q.weight")), mapped = weights->bytes(q);
  EXPECT_TRUE(std::equal(raw.begin(), raw.end(), mapped.begin(), mapped.end()));
  EXPECT_EQ(weights->info("model.layers.0.self_attn.k_proj.bias").shape, (std::vector<int64_t>{16}));
  EXPECT_NE(weights->find("lm_head.weight"), nullptr);
  auto config = nlohmann::json::parse(gguf_config_json(stored, DType::kF32));
  EXPECT_EQ(config["model_type"], "qwen2");
  EXPECT_EQ(config["tie_word_embeddings"], false);
  EXPECT_EQ(config["rope_scaling"]["rope_type"], "yarn");
  EXPECT_EQ(config["rope_scaling"]["factor"], 4.0);
  EXPECT_EQ(config["rope_scaling"]["original_max_position_embeddings"], 64);
  config = nlohmann::json::parse(gguf_config_json(GgufFile(golden("qwen3.gguf")), DType::kF32));
  EXPECT_EQ(config["head_dim"], 128);
  EXPECT_EQ(config["tie_word_embeddings"], true);
  EXPECT_NE(open_weights(golden("qwen3.gguf"))->find("model.layers.0.self_attn.q_norm.weight"), nullptr);
}

// The first layer of the models in tests/golden/model, as llama.cpp stacks experts.
TEST(Gguf, ExpertsAreATensorEach) {
  struct Case {
    const char *file, *model;
    int experts;
  };
  for (const Case& c :
       {Case{"mixtral", "mixtral", 4}, {"qwen2moe", "qwen2_moe", 8}, {"qwen3moe", "qwen3_moe", 8}}) {
    SCOPED_TRACE(c.file);
    const std::string path = golden(std::string(c.file) + ".gguf");
    const auto weights = open_weights(path), expected = open_weights(golden("../model/") + c.model);
    size_t compared = 0;
    for (const TensorInfo& info : expected->tensors()) {
      if (info.name.find("layers.1.") != std::string::npos) continue;
      EXPECT_EQ(weights->info(info.name).shape, info.shape) << info.name;
      EXPECT_EQ(weights->read_f32(info.name), expected->read_f32(info.name)) << info.name;
      ++compared;
    }
    EXPECT_EQ(compared, weights->tensors().size());
    const auto config = nlohmann::json::parse(gguf_config_json(GgufFile(path), DType::kF32));
    const auto wanted = nlohmann::json::parse(read_file(golden("../model/") + c.model + "/config.json"));
    for (const auto& [key, value] : config.items())
      if (wanted.contains(key) && key != "num_hidden_layers" && key != "torch_dtype") {
        EXPECT_EQ(value, wanted[key]) << key;
      }
    EXPECT_EQ(config["model_type"], c.model);
    EXPECT_EQ(config[config.contains("num_experts") ? "num_experts" : "num_local_experts"], c.experts);
  }
}

TEST(Gguf, IsKnownByItsMarkWhateverItsName) {
  const TemporaryFolder folder;
  std::filesystem::copy(golden("qwen2.gguf"), folder.path + "/blob");
  EXPECT_NE(open_weights(folder.path + "/blob")->find("model.norm.weight"), nullptr);
}

TEST(Gguf, RefusesDamage) {
  const TemporaryFolder folder;
  const std::string path = folder.path + "/x.gguf", good = read_file(golden("llama.gguf"));
  const auto refused = [&](std::string text) {
    put(path, text);
    return error_of([&] { open_weights(path); });
  };
  const auto with = [&](size_t at, const std::string& bytes) {
    return std::string(good).replace(at, bytes.size(), bytes);
  };
  EXPECT_EQ(refused(good), "");
  EXPECT_NE(refused(with(0, "GGML")).find("not a GGUF file"), std::string::npos);
  EXPECT_NE(refused(with(4, {"\x01\0\0\0", 4})).find("version 1"), std::string::npos);
  EXPECT_NE(refused(with(4, {"\0\0\0\x03", 4})).find("big-endian"), std::string::npos);
  EXPECT_NE(refused(with(8, std::string(8, '\xff'))).find("tensors"), std::string::npos);
  EXPECT_NE(refused(with(16, std::string(8, '\x7f'))).find("metadata keys"), std::string::npos);
  EXPECT_NE(refused(good.substr(0, good.size() - 300)).find("beyond the end"), std::string::npos);
  for (size_t size = 0; size < 3000; size += 7) EXPECT_NE(refused(good.substr(0, size)), "") << size;
  EXPECT_NE(refused(with(good.find("blk.0.attn_q.weight") + 19 + 4 + 16, {"\x13\0\0\0", 4})).find("IQ1_S"),
            std::string::npos);
}

}  // namespace
}  // namespace flagscale::io
