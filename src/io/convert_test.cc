#include "io/convert.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <nlohmann/json.hpp>

#include "io/atomic_file.h"
#include "io/checkpoint.h"
#include "io/inspect.h"
#include "io/io_test_support.h"
#include "io/weights.h"

namespace flagscale::io {
namespace {

TEST(Convert, ImportsGgufAsItsExactFp32) {
  const TemporaryFolder folder;
  uint64_t written = 0;
  ConvertOptions options;
  options.max_shard_bytes = 20'000;
  options.progress = [&](uint64_t bytes) { written += bytes; };
  import_gguf(golden("llama.gguf"), folder.path + "/hf", options);
  EXPECT_EQ(written, converted_bytes(golden("llama.gguf"), DType::kF32));
  const auto imported = open_weights(folder.path + "/hf"),
             expected = open_weights(golden("llama.safetensors"));
  EXPECT_EQ(imported->tensors().size(), expected->tensors().size());
  for (const TensorInfo& info : expected->tensors())
    EXPECT_EQ(imported->read_f32(info.name), expected->read_f32(info.name)) << info.name;
  for (const char* name : {"config.json", "generation_config.json", "tokenizer_config.json"})
    EXPECT_TRUE(nlohmann::json::accept(read_file(folder.path + "/hf/" + name))) << name;
}

// Scales are in the weights, and nothing says that there were any.
TEST(Convert, ExportsFp8AsWhatItStandsFor) {
  const TemporaryFolder folder;
  const std::string model = FLAGSCALE_SOURCE_DIR "/tests/golden/fp8/blocks", out = folder.path + "/hf";
  ConvertOptions options;
  options.dtype = DType::kBF16;
  export_weights(model, out, options);
  const auto plain = open_weights(out), fp8 = open_weights(model),
             oracle = open_weights(model + "/oracle.safetensors");
  for (const TensorInfo& info : plain->tensors()) {
    EXPECT_EQ(info.encoding, Encoding::kPlain) << info.name;
    EXPECT_FALSE(is_scale(info.name)) << info.name;
  }
  EXPECT_LT(plain->tensors().size(), fp8->tensors().size());
  const std::string name = "model.layers.0.mlp.down_proj.weight";
  EXPECT_EQ(plain->read_f32(name), oracle->read_f32(name));
  EXPECT_EQ(read_file(out + "/config.json").find("quantization_config"), std::string::npos);
}

TEST(Convert, ExportsACheckpointThatCarriesItsConfig) {
  const TemporaryFolder folder;
  const std::vector<float> values{1, 2, 3, 4.0001f};
  TrainingState state;
  state.iteration = 3;
  const std::vector<TensorSlice> snapshot{
      whole_tensor("w", DType::kF32, {2, 2}, std::as_bytes(std::span(values))),
      whole_tensor("exp_avg:w", DType::kF32, {2, 2}, std::as_bytes(std::span(values)))};
  CheckpointWriter writer(folder.path + "/run");
  writer.save(state, snapshot);
  ConvertOptions options;
  options.dtype = DType::kBF16;
  EXPECT_NE(error_of([&] {
              export_weights(folder.path + "/run", folder.path + "/hf", options);
            }).find("no config.json"),
            std::string::npos);
  state.iteration = 4;
  state.extra["config.json"] = R"({"model_type":"llama","dtype":"float32"})";
  std::filesystem::create_directory(folder.path + "/tokenizer");
  put(folder.path + "/tokenizer/tokenizer.json", "{}");
  state.extra["tokenizer"] = folder.path + "/tokenizer";
  writer.save(state, snapshot);
  EXPECT_EQ(export_weights(folder.path + "/run", folder.path + "/hf", options),
            std::vector<std::string>{"tokenizer.json"});
  EXPECT_EQ(read_file(folder.path + "/hf/tokenizer.json"), "{}");
  const auto exported = open_weights(folder.path + "/hf");
  ASSERT_EQ(exported->tensors().size(), 1u);
  EXPECT_EQ(exported->tensors()[0].dtype, DType::kBF16);
  EXPECT_EQ(exported->read_f32("w"), (std::vector<float>{1, 2, 3, 4}));
  const auto config = nlohmann::json::parse(read_file(folder.path + "/hf/config.json"));
  EXPECT_EQ(config["torch_dtype"], "bfloat16");
  EXPECT_FALSE(config.contains("dtype"));
  export_weights(folder.path + "/hf", folder.path + "/again", {});  // a folder is a source too
  EXPECT_EQ(open_weights(folder.path + "/again")->tensors()[0].dtype, DType::kF32);
  put(folder.path + "/again/model.safetensors.index.json", "{}");  // of an earlier export in shards
  put(folder.path + "/again/notes.txt", "mine");
  export_weights(folder.path + "/hf", folder.path + "/again", options);  // over what is there
  EXPECT_EQ(open_weights(folder.path + "/again")->tensors()[0].dtype, DType::kBF16);
  EXPECT_FALSE(std::filesystem::exists(folder.path + "/again/model.safetensors.index.json"));
  EXPECT_TRUE(std::filesystem::exists(folder.path + "/again/notes.txt"));
  EXPECT_NE(error_of([&] {
              export_weights(folder.path + "/run", folder.path + "/run", options);
            }).find("holds checkpoints"),
            std::string::npos);
  EXPECT_FALSE(std::filesystem::exists(folder.path + "/run/config.json"));
  EXPECT_NE(error_of([&] {
              export_weights(folder.path + "/hf", folder.path + "/hf/", options);
            }).find("is the model itself"),
            std::string::npos);
  for (const auto& entry : std::filesystem::recursive_directory_iterator(folder.path))
    EXPECT_NE(entry.path().extension(), ".tmp") << entry.path();
}

TEST(Convert, ARunsLaterCheckpointReplacesItsExportAndAnotherRunsDoesNot) {
  const TemporaryFolder folder;
  const auto save = [&](const std::string& run, int64_t iteration, float value) {
    const std::vector<float> values{value};
    TrainingState state;
    state.iteration = iteration;
    state.extra["config.json"] = R"({"model_type":"llama"})";
    CheckpointWriter(folder.path + run)
        .save(state, {whole_tensor("w", DType::kF32, {1}, std::as_bytes(std::span(values)))});
  };
  save("/one", 1, 1), save("/two", 1, 9);
  const std::string hf = folder.path + "/hf";
  const auto exported = [&](const std::string& path, const ConvertOptions& options) {
    export_weights(folder.path + path, hf, options);
    return open_weights(hf)->read_f32("w")[0];
  };
  EXPECT_EQ(exported("/one", {}), 1);
  save("/one", 2, 2);
  EXPECT_EQ(exported("/one", {}), 2);
  EXPECT_EQ(exported("/one/iter_0000001", {}), 1);
  uint64_t written = 0;
  ConvertOptions options;
  options.progress = [&](uint64_t bytes) { written += bytes; };
  const std::string said = error_of([&] { exported("/two", options); });
  EXPECT_NE(said.find("hf/model.safetensors is made from another run or model"), std::string::npos) << said;
  EXPECT_EQ(open_weights(hf)->read_f32("w")[0], 1);
  std::filesystem::remove_all(hf);
  std::filesystem::create_directory(hf);
  put(hf + "/tokenizer.json", "theirs");
  options.more_files = {{"tokenizer.json", "{}"}};
  EXPECT_NE(error_of([&] { exported("/two", options); }).find("tokenizer.json is without a mark"),
            std::string::npos);
  EXPECT_EQ(written, 0u) << "converted before it was refused";
  options.replace = Replace::kAny;
  EXPECT_EQ(exported("/two", options), 9);
}

TEST(Inspect, EveryFormat) {
  const Inspection gguf = inspect(golden("llama.gguf"));
  EXPECT_EQ(gguf.format, "GGUF version 3");
  EXPECT_EQ(gguf.tensors.size(), 12u);
  EXPECT_NE(to_text(gguf).find("general.architecture: llama"), std::string::npos);
  const Inspection checkpoint = inspect(golden("checkpoints"));
  EXPECT_EQ(checkpoint.format, "checkpoint version 1");
  EXPECT_EQ(checkpoint.parameters(), 24 + 5 + 1);  // the moment does not count
  const auto json = nlohmann::json::parse(to_json(checkpoint));
  EXPECT_EQ(json["facts"]["iteration"], 7);
  const auto facts = nlohmann::json::parse(to_json(gguf))["facts"];
  EXPECT_EQ(facts["general.architecture"], "llama");
  EXPECT_EQ(facts["llama.attention.layer_norm_rms_epsilon"].dump(), "1e-05");
  EXPECT_TRUE(facts["llama.block_count"].is_number_integer());
  EXPECT_EQ(json["tensors"].size(), 4u);
  const Inspection plain = inspect(golden("llama.safetensors"));
  EXPECT_EQ(plain.bytes(), static_cast<uint64_t>(plain.parameters()) * 4);
}

TEST(Inspect, VerifyFindsNaN) {
  const TemporaryFolder folder;
  EXPECT_EQ(verify(golden("llama.gguf")), 11u);
  EXPECT_EQ(verify(golden("checkpoints")), 4u);
  std::string text = read_file(golden("checkpoint.safetensors"));
  text.replace(text.size() - 4, 4, "\xff\xff\xff\xff");
  put(folder.path + "/x.safetensors", text);
  EXPECT_NE(error_of([&] { verify(folder.path + "/x.safetensors"); }).find("holds NaN"), std::string::npos);
}

TEST(Export, RefusesWhatFloat16CannotHold) {
  const TemporaryFolder folder;
  const std::vector<float> values{1, 65519, -70000, 2};
  TrainingState state;
  state.extra["config.json"] = R"({"model_type":"llama"})";
  CheckpointWriter(folder.path + "/run")
      .save(state, {whole_tensor("w", DType::kF32, {4}, std::as_bytes(std::span(values)))});
  ConvertOptions options;
  options.dtype = DType::kF16;
  const std::string said =
      error_of([&] { export_weights(folder.path + "/run", folder.path + "/hf", options); });
  EXPECT_NE(said.find("w: -70000 does not fit into float16: choose bfloat16"), std::string::npos) << said;
  EXPECT_FALSE(std::filesystem::exists(folder.path + "/hf"));
}

}  // namespace
}  // namespace flagscale::io
