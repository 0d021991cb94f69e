// Model code names the points where activations change hands: a Partition that writes them down sees each, in order.
#include "nn/partition.h"

#include <gtest/gtest.h>

#include "kernel/eager.h"
#include "model/decoder/decoder.h"
#include "plan/program.h"

namespace flagscale {
namespace {

class Listed final : public nn::Partition {
 public:
  std::vector<std::string> points;
  Tensor enter_column(Context&, const Tensor& x) override { return note("enter_column", x); }
  Tensor exit_row(Context&, const Tensor& y) override { return note("exit_row", y); }
  Tensor exit_vocabulary(Context&, const Tensor& y) override { return note("exit_vocabulary", y); }
  Tensor enter_vocabulary(Context&, const Tensor& x) override { return note("enter_vocabulary", x); }

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

TEST(Partition, EveryPointIsNamedInOrder) {
  Listed partition;
  model::Decoder decoder(two_layers(), partition);
  Nowhere recorder;
  for (auto& p : decoder.parameters().parameters()) p.value = recorder.empty(p.shape, DType::kF32, nullptr);
  for (auto& c : decoder.parameters().constants()) c.value = recorder.empty(c.shape, DType::kF32, nullptr);
  const auto ints = [&](int64_t n) { return recorder.empty({n}, DType::kI32, nullptr); };
  nn::PackedAttention attention({ints(8), ints(2), nullptr});
  Context context{recorder, nullptr};
  const Tensor hidden = decoder.hidden(context, ints(8), attention);
  decoder.loss(context, hidden, ints(8), recorder.empty({8}, DType::kF32, nullptr), nullptr);
  const std::vector<std::string> block{"enter_column", "exit_row", "enter_column", "exit_row"};
  std::vector<std::string> expected{"exit_vocabulary"};
  for (int layer = 0; layer < 2; ++layer) expected.insert(expected.end(), block.begin(), block.end());
  expected.push_back("enter_vocabulary");
  EXPECT_EQ(partition.points, expected);
}

TEST(Partition, EveryWeightDeclaresHowItShards) {
  nn::Partition identity;
  model::Decoder decoder(two_layers(), identity);
  for (const auto& p : decoder.parameters().parameters()) {
    const bool column = p.name.find("qkv_proj") != std::string::npos || p.name.find("gate_up_proj") != std::string::npos;
    const bool row = p.name.ends_with("o_proj.weight") || p.name.ends_with("down_proj.weight");
    const bool vocabulary = p.name.find("embed_tokens") != std::string::npos || p.name.find("lm_head") != std::string::npos;
    EXPECT_EQ(p.shard, column ? nn::Shard::kColumn : row ? nn::Shard::kRow : vocabulary ? nn::Shard::kVocabulary : nn::Shard::kReplicated) << p.name;
    int64_t rows = 0;
    for (const auto& part : p.parts) rows += part.rows;
    EXPECT_EQ(rows, p.shape[0]) << p.name;
  }
}

}  // namespace
}  // namespace flagscale
