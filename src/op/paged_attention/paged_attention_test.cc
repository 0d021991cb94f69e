#include "op/paged_attention/paged_attention.h"

#include "op/op_testing.h"

namespace flagscale::op {
namespace {

using testing::random_tensor;

// One sequence of `length` on shuffled pages, fed in steps that end at `cuts`; the rows of every step, joined.
struct Paged {
  AttentionShape shape;
  Tensor q, k, v;
  std::vector<int32_t> pages{5, 2, 9, 0, 7};

  Paged(AttentionShape s, int64_t length)
      : shape(s), q(random_tensor({length, int64_t{s.heads} * s.head_dim}, 1, DType::kF32)),
        k(random_tensor({length, int64_t{s.kv_heads} * s.head_dim}, 2, DType::kF32)),
        v(random_tensor({length, int64_t{s.kv_heads} * s.head_dim}, 3, DType::kF32)) {}

  std::vector<float> run(const std::vector<int32_t>& cuts, Isa isa, DType cache, int threads = 2) const {
    const Team team(threads);
    EagerRecorder recorder(testing::allocator(), team, isa);
    Context context{recorder, nullptr};
    const Tensor kc = recorder.empty(k_cache_shape(10, shape), cache), vc = recorder.empty(v_cache_shape(10, shape), cache);
    const Tensor table = testing::int_tensor(pages).reshape({1, static_cast<int64_t>(pages.size())});
    std::vector<float> out;
    int32_t first = 0;
    for (const int32_t end : cuts) {
      std::vector<int32_t> positions, slots;
      for (int32_t p = first; p < end; ++p) {
        positions.push_back(p);
        slots.push_back(pages[static_cast<size_t>(p / 16)] * 16 + p % 16);
      }
      const PagedStep step{testing::int_tensor(positions), testing::int_tensor(std::vector<int32_t>(positions.size(), 0)),
                           testing::int_tensor(slots), table};
      const Tensor y = paged_attention(context, q.rows(first, end - first), k.rows(first, end - first),
                                       v.rows(first, end - first), kc, vc, step, shape);
      out.insert(out.end(), y.data<float>(), y.data<float>() + y.shape().numel());
      first = end;
    }
    return out;
  }
};

TEST(PagedAttention, EqualsAttentionOverTheWholeSequence) {
  for (const int64_t window : {0, 21}) {
    const Paged paged({6, 2, 20, 0.3f, window}, 70);
    const Tensor whole = testing::run(
        [&](Context& c, const std::vector<Tensor>& in) {
          return attention(c, in[0], in[1], in[2], testing::int_tensor({0, 70}), nullptr, paged.shape);
        },
        {testing::converted(paged.q, DType::kF64), testing::converted(paged.k, DType::kF64), testing::converted(paged.v, DType::kF64)},
        Isa::kScalar).output;
    for (const Isa isa : runnable_isas()) {
      const auto got = paged.run({70}, isa, DType::kF32), narrow = paged.run({70}, isa, DType::kBF16);
      for (size_t i = 0; i < got.size(); ++i) {
        ASSERT_NEAR(static_cast<double>(got[i]), testing::get(whole, static_cast<int64_t>(i)), 2e-6) << name(isa);
        ASSERT_NEAR(static_cast<double>(narrow[i]), testing::get(whole, static_cast<int64_t>(i)), 3e-2) << name(isa);
      }
    }
  }
}

TEST(PagedAttention, ChunksAndThreadsChangeNoBit) {
  const Paged paged({4, 4, 16, 0.25f, 0}, 70);
  for (const Isa isa : runnable_isas()) {
    const auto whole = paged.run({70}, isa, DType::kF32);
    EXPECT_EQ(whole, paged.run({1, 17, 64, 65, 70}, isa, DType::kF32)) << name(isa);
    EXPECT_EQ(whole, paged.run({70}, isa, DType::kF32, 1)) << name(isa);
  }
}

}  // namespace
}  // namespace flagscale::op
