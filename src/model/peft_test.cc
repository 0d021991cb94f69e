#include "model/peft.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <map>
#include <vector>

#include "base/error.h"
#include "base/temporary_folder_test_support.h"
#include "io/checkpoint.h"

namespace flagscale::model {
namespace {

constexpr const char* kExpert = "model.layers.0.mlp.experts.0.up_proj";

// A checkpoint of an adapter of rank 1 of these modules, 2 x 2 each.
std::string adapter(const std::string& path, const std::vector<std::string>& modules,
                    const std::string& model_type) {
  const std::vector<float> values{1, 2};
  const auto bytes = std::as_bytes(std::span(values));
  std::vector<io::TensorSlice> tensors;
  for (const std::string& module : modules) {
    tensors.push_back(io::whole_tensor(module + ".lora_A.weight", DType::kF32, {1, 2}, bytes));
    tensors.push_back(io::whole_tensor(module + ".lora_B.weight", DType::kF32, {2, 1}, bytes));
  }
  io::TrainingState state;
  state.extra = {{"config.json", fmt::format(R"({{"model_type": "{}"}})", model_type)},
                 {kPeftConfigKey, R"({"peft_type": "LORA", "r": 1, "lora_alpha": 2})"}};
  io::CheckpointWriter(path).save(state, tensors);
  return path;
}

TEST(ExportPeft, NamesWhatPeftLeavesOut) {
  const TemporaryFolder folder;
  int made = 0;
  const auto said = [&](const std::vector<std::string>& modules, const std::string& model_type) {
    const std::string checkpoint = adapter(fmt::format("{}/{}", folder.path, ++made), modules, model_type);
    testing::internal::CaptureStderr();
    export_peft(checkpoint, folder.path + "/out", io::Replace::kAny);
    return testing::internal::GetCapturedStderr();
  };
  const std::string qwen2 = said({kExpert, "model.layers.0.self_attn.q_proj"}, "qwen2_moe");
  EXPECT_NE(
      qwen2.find(fmt::format("the 1 projections of a qwen2_moe's experts ({} and so on) of the 2", kExpert)),
      std::string::npos)
      << qwen2;
  EXPECT_EQ(open_peft(folder.path + "/out").targets.size(), 2u) << "they are there all the same";
  EXPECT_EQ(said({kExpert}, "qwen3_moe"), "");
  EXPECT_EQ(said({"model.layers.0.mlp.shared_expert.up_proj"}, "qwen2_moe"), "");
}

TEST(OpenPeft, NamesTargetsThatAreNotSupported) {
  const TemporaryFolder folder;
  for (const char* name : {"lm_head", "embed_tokens"}) {
    try {
      open_peft(adapter(folder.path + "/" + name, {std::string("model.") + name}, "llama"));
      ADD_FAILURE() << name;
    } catch (const Error& error) {
      EXPECT_NE(std::string(error.what()).find(fmt::format("adapters of {} are not supported", name)),
                std::string::npos)
          << error.what();
    }
  }
}

}  // namespace
}  // namespace flagscale::model
