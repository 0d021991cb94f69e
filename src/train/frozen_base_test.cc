// Adapters of a base that stays packed (load_in_8bit, load_in_4bit, GGUF's blocks), against a dense base of
// the same values.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <random>

#include "base/error.h"
#include "kernel/eager.h"
#include "model/block_weights_test_support.h"
#include "model/config_at.h"
#include "op/packed_linear/unpacked_linear.h"
#include "train/step.h"

namespace flagscale::train {
namespace {

const std::string kModels = std::string(FLAGSCALE_SOURCE_DIR) + "/tests/golden/model/";

model::DecoderConfig golden_config(const std::string& name) {
  return model::config_of_folder(kModels + name);
}

// Rows of a whole Q4_K block.
model::DecoderConfig wide() {
  model::DecoderConfig c;
  c.num_layers = 2, c.hidden_size = 256, c.num_heads = 4, c.num_kv_heads = 2, c.head_dim = 64;
  c.intermediate_size = 512, c.vocab_size = 300, c.max_positions = 64, c.rope.head_dim = 64;
  c.tie_embeddings = true, c.qkv_bias = true;
  return c;
}

StepOptions adapted(DType compute) {
  StepOptions o;
  o.compute = compute;
  o.micro_batch_size = 2, o.sequence_length = 24, o.threads = 2;
  o.lora = LoraSpec{{"all-linear"}, 4, 8, 0, false, "gaussian", "gaussian"};
  return o;
}

void fill_random(TrainStep& step) {
  const data::MicroBatch batch = step.inputs();
  std::mt19937 random(3);
  const auto vocab = static_cast<unsigned>(step.decoder().config().vocab_size);
  for (size_t i = 0; i < batch.tokens.size(); ++i) {
    batch.tokens[i] = static_cast<int32_t>(random() % vocab);
    batch.labels[i] = static_cast<int32_t>(random() % vocab);
    batch.loss_mask[i] = i % 3 == 0 ? 0.f : 1.f;
    batch.position_ids[i] = static_cast<int32_t>(i % 24);
  }
  for (int32_t s = 0; s <= 2; ++s) batch.cu_seqlens[static_cast<size_t>(s)] = 24 * s;
}

// A packed weight's values, [rows, in].
std::vector<float> values_of(const nn::Parameter& p) {
  const int64_t in = p.packed.in, out = p.packed.out(), groups = p.groups;
  std::vector<float> values(static_cast<size_t>(p.shape.numel()));
  const auto allocator = make_cpu_allocator();
  const Team team(1);
  EagerRecorder recorder(*allocator, team, Isa::kScalar);
  int64_t at = 0;
  for (const op::PackedSegment& s : p.packed.segments) {
    const Tensor piece = recorder.empty({groups * in, s.rows}, DType::kF32);
    recorder.launch(op::kUnpack, {s.data, piece, s.packing, 0, groups});
    for (int64_t g = 0; g < groups; ++g)
      for (int64_t row = 0; row < s.rows; ++row)
        for (int64_t k = 0; k < in; ++k)
          values[static_cast<size_t>((g * out + at + row) * in + k)] =
              piece.data<float>()[(g * in + k) * s.rows + row];
    at += s.rows;
  }
  return values;
}

struct Pair {
  std::unique_ptr<Allocator> memory = make_cpu_allocator(), dense_memory = make_cpu_allocator();
  std::unique_ptr<TrainStep> packed, dense;
  size_t packed_matrices = 0;

  // dense: with the values that the packed one holds.
  Pair(const model::DecoderConfig& config, const StepOptions& options, const io::WeightSet& weights) {
    packed = std::make_unique<TrainStep>(config, options);
    StepOptions plain = options;
    plain.frozen.reset(), plain.base.reset();
    dense = std::make_unique<TrainStep>(config, plain);
    for (TrainStep* step : {packed.get(), dense.get()}) {
      step->allocate(step == packed.get() ? *memory : *dense_memory);
      step->load(weights);
      step->initialise(7);
      fill_random(*step);
    }
    auto& from = packed->decoder().parameters().parameters();
    auto& to = dense->decoder().parameters().parameters();
    for (size_t i = 0; i < from.size(); ++i) {
      if (!from[i].packed.defined()) continue;
      const std::vector<float> values = values_of(from[i]);
      if (options.compute == DType::kBF16)
        std::transform(values.begin(), values.end(), to[i].value.data<BF16>(), to_bf16);
      else
        std::copy(values.begin(), values.end(), to[i].value.data<float>());
      ++packed_matrices;
    }
  }

  void expect_same(double loss, double gradient) {
    EXPECT_EQ(memory->peak(), packed->bytes());
    const double want = dense->micro_batch(2, true, 1).loss, got = packed->micro_batch(2, true, 1).loss;
    EXPECT_NEAR(got / want, 1, loss);
    EXPECT_NEAR(packed->evaluate(2).loss / want, 1, loss);
    const auto exact = dense->states(true), states = packed->states(true);
    ASSERT_EQ(states.size(), exact.size());
    size_t seen = 0;
    for (size_t s = 0; s < states.size(); ++s) {
      float difference = 0, largest = 0;
      for (int64_t i = 0; i < states[s].size; ++i) {
        difference = std::max(difference, std::fabs(number(states[s].grad, i) - number(exact[s].grad, i)));
        largest = std::max(largest, std::fabs(number(exact[s].grad, i)));
      }
      EXPECT_LE(difference, gradient * static_cast<double>(largest)) << states[s].name;
      seen += largest > 0;
    }
    EXPECT_GT(seen, states.size() / 2) << "an expert may have no token";
  }
};

TEST(FrozenBase, GgufBlocksAreTrainedOnAsTheyLieInTheFile) {
  nn::Partition partition;
  model::Decoder decoder(wide(), partition);
  for (const io::Encoding encoding :
       {io::Encoding::kQ8_0, io::Encoding::kQ4_0, io::Encoding::kQ4_1, io::Encoding::kQ5_0,
        io::Encoding::kQ5_1, io::Encoding::kQ4_K, io::Encoding::kQ5_K, io::Encoding::kQ6_K}) {
    SCOPED_TRACE(io::name(encoding));
    StepOptions options = adapted(DType::kF32);
    const auto weights = std::make_shared<model::BlockWeights>(decoder, encoding);
    options.base = weights;
    Pair pair(wide(), options, *weights);
    EXPECT_EQ(pair.packed_matrices, 9u) << "four of each layer and the embedding";
    pair.expect_same(1e-5, 1e-4);
    size_t in_file = 0;
    for (const io::TensorInfo& tensor : weights->tensors()) in_file += tensor.bytes;
    EXPECT_LT(static_cast<double>(pair.packed->memory().frozen), 1.1 * static_cast<double>(in_file));
  }
}

TEST(FrozenBase, GgufBlocksMultiplyInBf16Too) {
  nn::Partition partition;
  model::Decoder decoder(wide(), partition);
  StepOptions options = adapted(DType::kBF16);
  options.base = std::make_shared<model::BlockWeights>(decoder, io::Encoding::kQ4_1);
  Pair(wide(), options, *options.base).expect_same(2e-3, 0.05);
}

class QuantisedBase : public ::testing::TestWithParam<std::string> {};

TEST_P(QuantisedBase, GradientsAreThoseOfItsValues) {
  for (const op::Packing packing : {op::Packing::kInt8, op::Packing::kQ4_0}) {
    SCOPED_TRACE(op::info(packing).name);
    StepOptions options = adapted(DType::kF32);
    options.frozen = packing;
    const auto weights = io::open_weights(kModels + GetParam());
    Pair pair(golden_config(GetParam()), options, *weights);
    EXPECT_GE(pair.packed_matrices, 9u);
    pair.expect_same(1e-5, 1e-4);
  }
}

INSTANTIATE_TEST_SUITE_P(Models, QuantisedBase,
                         ::testing::Values("llama3", "qwen3_tied", "mixtral", "qwen2_moe"),
                         [](const auto& test) { return test.param; });

// Of a file in bf16, fp32 products take the numbers as they are.
TEST(FrozenBase, WhatTakesLessMemoryInTheFileStaysSo) {
  nn::Partition partition;
  model::Decoder decoder(wide(), partition);
  StepOptions options = adapted(DType::kF32);
  const size_t dense = TrainStep(wide(), options).memory().frozen;
  options.base = std::make_shared<model::BlockWeights>(decoder, io::Encoding::kQ8_0);
  const size_t stored = TrainStep(wide(), options).memory().frozen;
  EXPECT_LT(stored * 3, dense);
  options.frozen = op::Packing::kInt8;  // 8 bits already
  EXPECT_EQ(TrainStep(wide(), options).memory().frozen, stored);
  options.frozen = op::Packing::kQ4_0;
  EXPECT_LT(TrainStep(wide(), options).memory().frozen * 10, stored * 8);
}

TEST(FrozenBase, FourBitsOfSmolLM2TakeAnEighthOfFp32) {
  model::DecoderConfig c;
  c.num_layers = 30, c.hidden_size = 576, c.num_heads = 9, c.num_kv_heads = 3, c.head_dim = 64;
  c.intermediate_size = 1536, c.vocab_size = 49152, c.max_positions = 512, c.rope.head_dim = 64;
  c.tie_embeddings = true;
  StepOptions options = adapted(DType::kF32);
  options.frozen = op::Packing::kQ4_0;
  const double layers = 106.2e6 * 0.5625, embedding = 49152.0 * 576;
  EXPECT_NEAR(static_cast<double>(TrainStep(c, options).memory().frozen), layers + embedding, 1e6);
}

}  // namespace
}  // namespace flagscale::train
