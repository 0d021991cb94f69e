#include "train/same_model.h"

#include <gtest/gtest.h>

#include <string>

#include "base/error.h"
#include "base/log.h"
#include "base/temporary_folder_test_support.h"
#include "train/run_test_support.h"

namespace flagscale::train {
namespace {

TrainResult trained(const TrainOptions& options) {
  set_log_level(LogLevel::kWarning);
  Trainer trainer(options);
  return testing::run_printed(trainer).result;
}

// A checkpoint of two layers after one iteration, and a run that goes on from it.
class SameModel : public ::testing::Test {
 protected:
  SameModel() {
    options_.model.num_layers = 2;
    options_.save = options_.load = folder_.path + "/c";
    trained(options_);
    options_.train_iters = 2;
  }
  std::string refusal(const model::DecoderConfig& model) const {
    TrainOptions other = options_;
    other.model = model;
    try {
      trained(other);
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::kInvalidArgument);
      return error.what();
    }
    return "no refusal";
  }

  TemporaryFolder folder_;
  TrainOptions options_ = testing::tiny_run(1);
};

void expect_has(const std::string& text, const char* part) {
  EXPECT_NE(text.find(part), std::string::npos) << text;
}

// Every tensor that these ask for is in the checkpoint, and of their shape.
TEST_F(SameModel, WhatHasAllTensorsIsStillAnother) {
  model::DecoderConfig fewer = options_.model, tied = options_.model, heads = options_.model;
  fewer.num_layers = 1;
  expect_has(refusal(fewer), "num_layers is 1, the checkpoint has 2");
  tied.tie_embeddings = true;
  expect_has(refusal(tied), "untie_embeddings_and_output_weights is false, the checkpoint has true");
  heads.num_heads = 2, heads.num_kv_heads = 1, heads.head_dim = heads.rope.head_dim = 16;
  const std::string text = refusal(heads);
  expect_has(text, "num_attention_heads is 2, the checkpoint has 4");
  expect_has(text, "kv_channels is 16, the checkpoint has 8");
}

TEST_F(SameModel, WhatMayBeChangedOnPurposeIsSaid) {
  options_.model.rope.theta = 5000;  // a longer context is trained for so
  ::testing::internal::CaptureStderr();
  EXPECT_EQ(trained(options_).iteration, 2);
  expect_has(::testing::internal::GetCapturedStderr(), "rotary_base is 5000, the checkpoint has 10000");
}

TEST_F(SameModel, TheSameModelGoesOnWithoutAWord) {
  ::testing::internal::CaptureStderr();
  EXPECT_EQ(trained(options_).iteration, 2);
  EXPECT_EQ(::testing::internal::GetCapturedStderr().find("not quite"), std::string::npos);
}

}  // namespace
}  // namespace flagscale::train
