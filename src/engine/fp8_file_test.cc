// Checkpoints whose matrices are e4m3 with scales (tests/oracle/model/make_fp8.py): what they stand for, on a
// CPU and on a GPU.
#include <gtest/gtest.h>

#include <cmath>
#include <fstream>
#include <numeric>
#include <sstream>

#include "engine/answer.h"
#include "engine/engine.h"

namespace flagscale::engine::fp8_file_test {
namespace {

class Fp8File : public ::testing::TestWithParam<const char*> {
 protected:
  std::string folder() const { return std::string(FLAGSCALE_SOURCE_DIR) + "/tests/golden/fp8/" + GetParam(); }
  std::unique_ptr<io::WeightSet> oracle() const { return io::open_weights(folder() + "/oracle.safetensors"); }
  std::unique_ptr<Runner> runner(DeviceKind device, std::optional<op::Packing> packing = {}) const {
    std::ostringstream text;
    text << std::ifstream(folder() + "/config.json").rdbuf();
    RunnerOptions options;
    options.device = device, options.weights.packing = packing;
    options.max_tokens = 64, options.max_sequences = 4, options.max_length = 96, options.threads = 2;
    return std::make_unique<Runner>(model::parse_config(text.str()), *io::open_weights(folder()), options);
  }
  // Of the oracle's first row of ids.
  std::vector<int32_t> ids() const {
    std::vector<int64_t> wide(48);
    oracle()->read("input_ids", 0, 2, DType::kI64, std::as_writable_bytes(std::span(wide)));
    return {wide.begin(), wide.begin() + 24};
  }
  // max |difference| / max |logit| from the oracle's.
  double error_of(Runner& runner) const {
    const std::vector<int32_t> tokens = ids(), pages{0, 1};
    StepChunk chunk;
    chunk.ids = tokens, chunk.pages = &pages, chunk.rows = 24;
    runner.run({&chunk, 1});
    const std::vector<float> all = oracle()->read_f32("logits");
    const auto vocab = static_cast<size_t>(runner.config().vocab_size);
    double most = 0, error = 0;
    for (size_t i = 0; i < 24 * vocab; ++i) {
      const float got = runner.logits(static_cast<int64_t>(i / vocab))[i % vocab];
      error = std::max(error, std::fabs(static_cast<double>(got) - static_cast<double>(all[i])));
      most = std::max(most, std::fabs(static_cast<double>(all[i])));
    }
    return error / most;
  }
};

TEST_P(Fp8File, WeightsAreTheReferencesToTheBit) {
  const auto file = io::open_weights(folder()), wide = oracle();
  for (const std::string name : {"self_attn.k_proj", "mlp.down_proj"}) {
    const std::string tensor = "model.layers.0." + name + ".weight";
    const io::TensorInfo& info = file->info(tensor);
    EXPECT_EQ(info.encoding, io::Encoding::kFp8);
    std::vector<BF16> got(static_cast<size_t>(info.numel())), want(got.size());
    file->read(tensor, 0, info.rows(), DType::kBF16, std::as_writable_bytes(std::span(got)));
    wide->read(tensor, 0, info.rows(), DType::kBF16, std::as_writable_bytes(std::span(want)));
    for (size_t i = 0; i < got.size(); ++i) ASSERT_EQ(got[i].bits, want[i].bits) << tensor << " " << i;
  }
}

TEST_P(Fp8File, ACpusLogitsAreTheReferences) {
  const auto one = runner(DeviceKind::kCpu);
  EXPECT_EQ(weight_formats(one->decoder()), "bfloat16");
  EXPECT_LT(error_of(*one), 1e-5);
}

// Weights stay in eight bits; activations are bf16's.
TEST_P(Fp8File, AGpusProductsAreThoseOfWidenedWeights) {
  if (choose_device("auto") != DeviceKind::kCuda)
    GTEST_SKIP() << "this machine has no GPU, or this program no kernels for it";
  const auto blocks = runner(DeviceKind::kCuda), wide = runner(DeviceKind::kCuda, op::Packing::kBF16);
  EXPECT_EQ(weight_formats(blocks->decoder()), "fp8 blocks");
  EXPECT_LT(weight_use(blocks->decoder()).bytes, weight_use(wide->decoder()).bytes * 7 / 10);
  EXPECT_LT(error_of(*blocks), 0.03);
  error_of(*wide);
  for (int64_t row = 0; row < 24; ++row)
    for (int64_t i = 0; i < wide->config().vocab_size; ++i)
      ASSERT_EQ(blocks->logits(row)[static_cast<size_t>(i)], wide->logits(row)[static_cast<size_t>(i)])
          << row;
}

INSTANTIATE_TEST_SUITE_P(Files, Fp8File, ::testing::Values("blocks", "tensor"),
                         [](const auto& test) { return std::string(test.param); });

}  // namespace
}  // namespace flagscale::engine::fp8_file_test
