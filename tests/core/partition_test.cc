// Model code names the points where activations change hands: a Partition that writes them down sees each, in
// order.
#include "nn/partition.h"

#include <gtest/gtest.h>

#include <utility>

#include "kernel/eager.h"
#include "model/decoder/decoder.h"
#include "plan/program.h"

namespace flagscale {
namespace {

class Listed final : public nn::Partition {
 public:
  std::vector<std::string> points;
  Tensor enter_column(Context&, const Tensor& x) override { return note("enter_column", x); }
  Tensor exit_column(Context&, const Tensor& y) override { return note("exit_column", y); }
  Tensor enter_row(Context&, const Tensor& x) override { return note("enter_row", x); }
  Tensor exit_row(Context&, const Tensor& y) override { return note("exit_row", y); }
  Tensor scatter_tokens(Context&, const Tensor& x) override { return note("scatter_tokens", x); }
  Tensor gather_tokens(Context&, const Tensor& x) override { return note("gather_tokens", x); }
  Tensor look_up(Context& c, const Tensor& ids, const nn::Parameter& table) override {
    return note("look_up", Partition::look_up(c, ids, table));
  }
  nn::ExpertRows dispatch_experts(Context&, const nn::ExpertRows& sorted) override {
    points.emplace_back("dispatch_experts");
    return sorted;
  }
  Tensor combine_experts(Context&, const Tensor& y) override { return note("combine_experts", y); }
  Tensor vocabulary_loss(Context& c, const Tensor& hidden, const nn::Parameter& head, const Tensor& labels,
                         const Tensor& mask, const float* grad_scale,
                         const op::LearntTokens* learnt) override {
    return note("vocabulary_loss",
                Partition::vocabulary_loss(c, hidden, head, labels, mask, grad_scale, learnt));
  }

 private:
  Tensor note(const char* point, const Tensor& x) {
    points.emplace_back(point);
    return x;
  }
};

// Forgets what it is given: shapes are all that a trace needs.
class Nowhere final : public Recorder {
 public:
  Tensor empty(const Shape& shape, DType dtype, const int64_t* live) override {
    auto storage = std::make_shared<Storage>();
    storage->device = {DeviceKind::kNull, 0};
    return {storage, 0, dtype, shape, live};
  }
  void launch(std::unique_ptr<Launch>) override {}
};

model::DecoderConfig two_layers() {
  model::DecoderConfig c;
  c.num_layers = 2, c.hidden_size = 32, c.num_heads = 4, c.num_kv_heads = 2, c.head_dim = 8;
  c.intermediate_size = 48, c.vocab_size = 64, c.max_positions = 16, c.rope.head_dim = 8;
  c.qkv_bias = true;
  return c;
}

// A decoder with tensors that have no memory.
struct Traced {
  Traced(const model::DecoderConfig& config, nn::Partition& partition) : decoder(config, partition) {
    for (auto& p : decoder.parameters().parameters()) p.value = recorder.empty(p.shape, DType::kF32, nullptr);
    for (auto& c : decoder.parameters().constants()) c.value = recorder.empty(c.shape, DType::kF32, nullptr);
  }
  Tensor tensor(int64_t n, DType dtype) { return recorder.empty({n}, dtype, nullptr); }
  Tensor hidden() {  // of eight tokens
    nn::PackedAttention attention({tensor(8, DType::kI32), tensor(2, DType::kI32), nullptr});
    return decoder.hidden(context, tensor(8, DType::kI32), attention);
  }
  model::Decoder decoder;
  Nowhere recorder;
  Context context{recorder, nullptr};
};

TEST(Partition, EveryPointIsNamedInOrder) {
  Listed partition;
  Traced traced(two_layers(), partition);
  const Tensor hidden = traced.hidden();
  const std::vector<std::string> states = std::exchange(partition.points, {});
  traced.decoder.loss(traced.context, hidden, traced.tensor(8, DType::kI32), traced.tensor(8, DType::kF32),
                      nullptr);
  const std::vector<std::string> loss = std::exchange(partition.points, {});
  traced.decoder.logits(traced.context, hidden);
  const std::vector<std::string> block{"enter_column", "exit_row", "enter_column", "exit_row"};
  std::vector<std::string> expected{"look_up", "scatter_tokens"};
  for (int layer = 0; layer < 2; ++layer) expected.insert(expected.end(), block.begin(), block.end());
  expected.push_back("gather_tokens");
  EXPECT_EQ(states, expected);
  EXPECT_EQ(loss, (std::vector<std::string>{"enter_column", "vocabulary_loss"}));
  EXPECT_EQ(partition.points, (std::vector<std::string>{"enter_column", "exit_column"}));
}

model::DecoderConfig with_experts() {
  model::DecoderConfig c = two_layers();
  c.model_type = "qwen2_moe";
  c.moe.experts = 4, c.moe.size = 24, c.moe.shared_size = 16, c.moe.dense = {0};
  return c;
}

TEST(Partition, RowsGoToTheirExpertsAndBack) {
  Listed partition;
  Traced(with_experts(), partition).hidden();
  EXPECT_EQ(partition.points,
            (std::vector<std::string>{"look_up", "scatter_tokens", "enter_column", "exit_row", "enter_column",
                                      "exit_row", "enter_column", "exit_row", "dispatch_experts",
                                      "combine_experts", "enter_column", "exit_row", "gather_tokens"}));
}

TEST(Partition, ExpertsShardByExpert) {
  nn::Partition identity;
  model::Decoder decoder(with_experts(), identity);
  int experts = 0;
  for (const auto& p : decoder.parameters().parameters()) {
    if (p.name.find(".experts.") != std::string::npos) {
      ++experts;
      EXPECT_EQ(p.shard, nn::Shard::kExpert) << p.name;
      EXPECT_EQ(p.groups, 4) << p.name;
    } else {
      EXPECT_NE(p.shard, nn::Shard::kExpert) << p.name;
    }
    if (p.name.ends_with("gate.weight")) {
      EXPECT_EQ(p.shard, nn::Shard::kReplicated) << p.name;
    }
  }
  EXPECT_EQ(experts, 2);
}

// On one rank nothing moves: a point gives back the very tensor.
TEST(Partition, IsTheIdentityOnOneRank) {
  nn::Partition one;
  Nowhere recorder;
  Context c{recorder, nullptr};
  const Tensor x = recorder.empty({8, 32}, DType::kF32, nullptr),
               counts = recorder.empty({4}, DType::kI32, nullptr);
  for (const Tensor& y : {one.enter_column(c, x), one.exit_column(c, x), one.enter_row(c, x),
                          one.exit_row(c, x), one.scatter_tokens(c, x), one.gather_tokens(c, x),
                          one.dispatch_experts(c, {x, counts, {}}).rows, one.combine_experts(c, x)})
    EXPECT_EQ(y.storage(), x.storage());
  EXPECT_EQ(one.dispatch_experts(c, {x, counts, {}}).counts.storage(), counts.storage());
}

TEST(Partition, EveryWeightDeclaresHowItShards) {
  nn::Partition identity;
  model::Decoder decoder(two_layers(), identity);
  for (const auto& p : decoder.parameters().parameters()) {
    const bool column =
        p.name.find("qkv_proj") != std::string::npos || p.name.find("gate_up_proj") != std::string::npos;
    const bool row = p.name.ends_with("o_proj.weight") || p.name.ends_with("down_proj.weight");
    const bool vocabulary =
        p.name.find("embed_tokens") != std::string::npos || p.name.find("lm_head") != std::string::npos;
    EXPECT_EQ(p.shard, column       ? nn::Shard::kColumn
                       : row        ? nn::Shard::kRow
                       : vocabulary ? nn::Shard::kVocabulary
                                    : nn::Shard::kReplicated)
        << p.name;
    int64_t rows = 0;
    for (const auto& part : p.parts) rows += part.rows;
    EXPECT_EQ(rows, p.shape[0]) << p.name;
  }
}

}  // namespace
}  // namespace flagscale
