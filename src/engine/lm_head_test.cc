// Heads in eight bits: on a GPU on demand, the embedding beside them as it was; on a CPU in any case.
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>

#include "engine/dense_weights.h"
#include "engine/runner.h"
#include "kernel/eager.h"
#include "model/config_at.h"

namespace flagscale::engine::lm_head_test {
namespace {

const std::string kModels = std::string(FLAGSCALE_SOURCE_DIR) + "/tests/golden/model/";

model::DecoderConfig config_of(const std::string& model) { return model::config_of_folder(kModels + model); }

// A decoder placed as a GPU's is, in the CPU's memory.
struct Placed {
  nn::Partition partition;
  std::unique_ptr<io::WeightSet> weights;
  model::Decoder decoder;
  Arena arena;
  std::unique_ptr<Allocator> allocator = make_cpu_allocator();
  Placed(const std::string& model, const WeightOptions& options)
      : weights(io::open_weights(kModels + model)), decoder(config_of(model), partition) {
    place_dense(arena, decoder, *weights, DType::kBF16, options);
    arena.bind(*allocator);
  }
};

// What its rows stand for, [vocabulary, hidden], once they are filled from the file.
std::vector<BF16> fill(const op::NarrowWeight& head, const io::WeightSet& weights,
                       const std::string& tensor) {
  std::vector<BF16> wide(static_cast<size_t>(head.out * head.in));
  std::memset(head.data.raw(), 0, head.data.bytes());
  const auto panel = static_cast<size_t>(head.data.dim(1));
  for (int64_t row = 0; row < head.out; ++row) {
    std::vector<float> values(static_cast<size_t>(head.in));
    weights.read_f32(tensor, row, 1, values);
    const int64_t at = row / op::kPanelRows, in_panel = row % op::kPanelRows;
    const std::span<uint8_t> own(head.data.data<uint8_t>() + static_cast<size_t>(at) * panel, panel);
    uint16_t* scales = head.scales.data<uint16_t>() + at * op::scales_of_panel(head.format, head.in);
    op::narrow_row(head.format, values, in_panel, own, scales);
    op::widen_row(head.format, own, in_panel, scales,
                  std::span(wide).subspan(static_cast<size_t>(row * head.in), static_cast<size_t>(head.in)));
  }
  return wide;
}

struct Case {
  const char *model, *format;
  op::Narrow head;
};
class LmHead : public ::testing::TestWithParam<Case> {};

TEST_P(LmHead, LogitsAreThoseOfWhatItStandsFor) {
  const auto& [model, format, expected] = GetParam();
  Placed placed(model, parse_weight_format(format, true));
  const nn::Parameter &embedding = placed.decoder.embedding(), &head = placed.decoder.head();
  const bool tied = placed.decoder.config().tie_embeddings;
  ASSERT_NE(&head, &embedding);
  EXPECT_EQ(embedding.value.dtype(), DType::kBF16);
  EXPECT_FALSE(embedding.narrow.defined());
  ASSERT_TRUE(head.narrow.defined());
  EXPECT_EQ(head.narrow.format, expected);
  EXPECT_EQ(head.parts[0].name, tied ? "model.embed_tokens.weight" : "lm_head.weight");
  const std::vector<BF16> wide = fill(head.narrow, *placed.weights, head.parts[0].name);

  const int64_t rows = 3, hidden = head.narrow.in, vocabulary = head.narrow.out;
  const Tensor x = make_tensor(*placed.allocator, {rows, hidden}, DType::kBF16);
  for (int64_t i = 0; i < rows * hidden; ++i)
    x.data<BF16>()[i] = to_bf16(std::sin(static_cast<float>(i * i % 97)));
  const Team team(1);
  EagerRecorder recorder(*placed.allocator, team);
  Context context{recorder, nullptr};
  const Tensor logits = placed.decoder.logits(context, x);
  ASSERT_EQ(logits.shape(), (Shape{rows, vocabulary}));
  ASSERT_EQ(logits.dtype(), DType::kF32);
  std::vector<float> file(static_cast<size_t>(hidden));
  double from_file = 0;
  for (int64_t j = 0; j < vocabulary; ++j) {
    placed.weights->read_f32(head.parts[0].name, j, 1, file);
    for (int64_t i = 0; i < rows; ++i) {
      double want = 0, unrounded = 0, size = 0;
      for (int64_t k = 0; k < hidden; ++k) {
        const double own = to_float(x.data<BF16>()[i * hidden + k]),
                     weight = to_float(wide[static_cast<size_t>(j * hidden + k)]);
        want += own * weight, size += std::fabs(own * weight);
        unrounded += own * static_cast<double>(file[static_cast<size_t>(k)]);
      }
      const double got = logits.data<float>()[i * vocabulary + j];
      ASSERT_NEAR(got, want, 1e-6 * size) << i << " " << j;
      ASSERT_NEAR(got, unrounded, 0.07 * size) << i << " " << j;
      from_file = std::max(from_file, std::fabs(got - unrounded));
    }
  }
  EXPECT_GT(from_file, 0);
}

INSTANTIATE_TEST_SUITE_P(
    Heads, LmHead,
    ::testing::Values(Case{"qwen3", "fp8", op::Narrow::kFp8}, Case{"qwen3_tied", "fp8", op::Narrow::kFp8},
                      Case{"qwen3", "int8", op::Narrow::kInt8}, Case{"llama3_2", "int8", op::Narrow::kInt8},
                      Case{"qwen3", "int4", op::Narrow::kInt8},
                      Case{"qwen3_tied", "int4-32", op::Narrow::kInt8}),
    [](const auto& test) {
      return std::string(test.param.model) + "_" +
             (std::string(test.param.format) == "int4-32" ? "int4_32" : test.param.format);
    });

// A tied head is counted beside the embedding, which a step then only looks rows up in.
TEST(LmHeads, ArePlannedAndTold) {
  for (const std::string model : {"qwen3", "qwen3_tied"}) {
    Placed without(model, parse_weight_format("int4")), with(model, parse_weight_format("int4", true));
    EXPECT_EQ(weight_formats(without.decoder), "int4");
    EXPECT_EQ(weight_formats(with.decoder), "int4 (lm_head in int8)");
    EXPECT_EQ(compute_text(with.decoder, op::Compute::kFast), "bfloat16 on the GPU, weights in int4");
    const size_t narrow = with.decoder.head().narrow.bytes(), wide = with.decoder.embedding().value.bytes();
    EXPECT_LT(narrow, wide * 6 / 10);
    const WeightUse before = weight_use(without.decoder), after = weight_use(with.decoder);
    EXPECT_EQ(before.read_bytes - after.read_bytes, wide - narrow) << model;
    EXPECT_EQ(after.bytes, before.bytes + narrow - (model == "qwen3" ? wide : 0)) << model;
    EXPECT_EQ(&without.decoder.head() == &without.decoder.embedding(), model == "qwen3_tied");
  }
}

TEST(LmHeads, OfACpuHaveEightBitsAsItIs) {
  for (const std::string model : {"qwen3", "qwen3_tied"}) {
    const auto logits = [&](bool head) {
      RunnerOptions options;
      options.weights = parse_weight_format("int4", head);
      options.max_tokens = 64, options.max_sequences = 4, options.max_length = 64, options.threads = 1;
      Runner runner(config_of(model), *io::open_weights(kModels + model), options);
      EXPECT_EQ(runner.decoder().head().packed.segments[0].packing, op::Packing::kInt8);
      const std::vector<int32_t> ids{5, 9, 40, 41}, pages{0};
      StepChunk chunk;
      chunk.ids = ids, chunk.pages = &pages, chunk.rows = 4;
      runner.run({&chunk, 1});
      const auto row = runner.logits(3);
      return std::vector<float>(row.begin(), row.end());
    };
    EXPECT_EQ(logits(true), logits(false)) << model;
  }
}

}  // namespace
}  // namespace flagscale::engine::lm_head_test
