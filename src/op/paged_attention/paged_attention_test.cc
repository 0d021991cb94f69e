#include "op/paged_attention/paged_attention.h"

#include <algorithm>
#include <cstring>
#include <numeric>

#include "base/error.h"
#include "op/op_testing.h"
#include "op/rope/rope.h"
#include "op/rope/rope_spec.h"

namespace flagscale::op {
namespace {

using testing::get;
using testing::int_tensor;
using testing::random_tensor;

// A sequence's unrotated q, k, v for all its positions, and the page ids it was given.
struct Sequence {
  Tensor q, k, v;
  std::vector<int32_t> pages;
};

// Query rows [begin, end) of one sequence, run in one step.
struct Piece {
  int sequence, begin, end;
};
using Step = std::vector<Piece>;

class Cache {
 public:
  Cache(AttentionShape shape, std::vector<int> lengths, DType dtype, DType cache_dtype, Isa isa,
        int threads = 2, bool interleaved = false)
      : shape_(shape), dtype_(dtype), isa_(isa), threads_(threads), interleaved_(interleaved) {
    int64_t pages = 3;  // some that nobody owns
    for (const int length : lengths) pages += (length + 15) / 16;
    std::vector<int32_t> ids(static_cast<size_t>(pages));
    std::iota(ids.begin(), ids.end(), 0);
    std::shuffle(ids.begin(), ids.end(), std::mt19937(5));
    unsigned seed = 10;
    for (const int length : lengths) {
      Sequence s;
      const auto make = [&](int heads) {
        return testing::converted(random_tensor({length, int64_t{heads} * shape.head_dim}, seed++), dtype);
      };
      s.q = make(shape.heads), s.k = make(shape.kv_heads), s.v = make(shape.kv_heads);
      for (int i = 0; i < (length + 15) / 16; ++i) s.pages.push_back(ids.back()), ids.pop_back();
      max_pages_ = std::max(max_pages_, static_cast<int64_t>(s.pages.size()));
      sequences_.push_back(std::move(s));
    }
    k_pages_ = make_tensor(testing::allocator(),
                           k_pages_shape(pages, shape.kv_heads, shape.head_dim, cache_dtype), cache_dtype);
    v_pages_ = make_tensor(testing::allocator(),
                           v_pages_shape(pages, shape.kv_heads, shape.head_dim, cache_dtype), cache_dtype);
    for (const Tensor& t : {k_pages_, v_pages_})  // what was never written must not be seen: NaN
      std::memset(t.raw(), 0xff, t.bytes());
    const RopeSpec spec{.head_dim = shape.head_dim, .max_positions = 4096};
    cos_ = make_tensor(testing::allocator(), {4096, shape.head_dim / 2}, DType::kF32);
    sin_ = make_tensor(testing::allocator(), {4096, shape.head_dim / 2}, DType::kF32);
    fill_rope_cos(spec, 4096, cos_.data<float>());
    fill_rope_sin(spec, 4096, sin_.data<float>());
  }

  // Keys and values of one token, times a factor.
  void scale_token(int sequence, int64_t token, float factor) {
    for (const Tensor& t :
         {sequences_[static_cast<size_t>(sequence)].k, sequences_[static_cast<size_t>(sequence)].v})
      for (int64_t i = token * t.dim(1); i < (token + 1) * t.dim(1); ++i)
        testing::set(t, i, get(t, i) * static_cast<double>(factor));
  }

  // Appends and attends; the rows of each piece after one another.
  Tensor run(const Step& step) const {
    std::vector<int32_t> positions, slots, cu_seqlens{0}, context_lens, table;
    for (const Piece& piece : step) {
      const Sequence& s = sequences_[static_cast<size_t>(piece.sequence)];
      for (int32_t p = piece.begin; p < piece.end; ++p) {
        positions.push_back(p);
        slots.push_back(s.pages[static_cast<size_t>(p / 16)] * 16 + p % 16);
      }
      cu_seqlens.push_back(static_cast<int32_t>(positions.size()));
      context_lens.push_back(piece.end);
      table.insert(table.end(), s.pages.begin(), s.pages.begin() + (piece.end + 15) / 16);
      table.resize(context_lens.size() * static_cast<size_t>(max_pages_), -1);
    }
    const auto rows = static_cast<int64_t>(positions.size()), count = static_cast<int64_t>(step.size());
    const Tensor q = gathered(step, rows, &Sequence::q), k = gathered(step, rows, &Sequence::k),
                 v = gathered(step, rows, &Sequence::v);
    const Team team(threads_);
    EagerRecorder recorder(testing::allocator(), team, isa_);
    Context c{recorder};
    const Tensor rotated = rope_append(c, q, k, v, int_tensor(positions), int_tensor(slots), cos_, sin_,
                                       interleaved_, k_pages_, v_pages_);
    return paged_attention(c, rotated, k_pages_, v_pages_, int_tensor(table).reshape({count, max_pages_}),
                           int_tensor(cu_seqlens), int_tensor(context_lens), nullptr, shape_);
  }

  // The same rows by op/rope and op/attention, in double.
  Tensor exact(int sequence) const {
    const Team team(1);
    EagerRecorder recorder(testing::allocator(), team, Isa::kScalar);
    Context c{recorder};
    const Sequence& s = sequences_[static_cast<size_t>(sequence)];
    std::vector<int32_t> positions(static_cast<size_t>(s.q.dim(0)));
    std::iota(positions.begin(), positions.end(), 0);
    const auto wide = [](const Tensor& x) { return testing::converted(x, DType::kF64); };
    const auto rotate = [&](const Tensor& x) {
      return rope(c, wide(x), int_tensor(positions), cos_, sin_, interleaved_);
    };
    const Tensor ends = int_tensor({0, static_cast<int32_t>(positions.size())});
    return attention(c, rotate(s.q), rotate(s.k), wide(s.v), ends, nullptr, shape_);
  }

 private:
  Tensor gathered(const Step& step, int64_t rows, Tensor Sequence::* part) const {
    const int64_t width = (sequences_[0].*part).dim(1);
    // Columns of something wider, as the parts of a fused product are.
    const Tensor all = make_tensor(testing::allocator(), {rows, width + 24}, dtype_).columns(8, width);
    int64_t row = 0;
    for (const Piece& piece : step)
      for (int p = piece.begin; p < piece.end; ++p, ++row)
        for (int64_t i = 0; i < width; ++i)
          testing::set(all, row * (width + 24) + i,
                       get(sequences_[static_cast<size_t>(piece.sequence)].*part, p * width + i));
    return all;
  }

  AttentionShape shape_;
  DType dtype_;
  Isa isa_;
  int threads_;
  bool interleaved_;
  int64_t max_pages_ = 0;
  std::vector<Sequence> sequences_;
  Tensor k_pages_, v_pages_, cos_, sin_;
};

AttentionShape shaped(int heads, int kv_heads, int head_dim, int64_t window = 0) {
  return {heads, kv_heads, head_dim, 1 / std::sqrt(static_cast<float>(head_dim)), window};
}

// max |a - b| over rows of one sequence, whose first row is `from` in a and `position` in b.
double difference(const Tensor& a, int64_t from, const Tensor& b, int64_t position, int64_t rows) {
  double most = 0;
  const int64_t width = b.dim(1);
  for (int64_t i = 0; i < rows * width; ++i) {
    const double d = std::fabs(get(a, from * width + i) - get(b, position * width + i));
    most = std::isnan(d) ? INFINITY : std::max(most, d);
  }
  return most;
}

void expect_exact(const Cache& cache, const Step& step, double tolerance) {
  const Tensor out = cache.run(step);
  int64_t row = 0;
  for (const Piece& piece : step) {
    EXPECT_LT(difference(out, row, cache.exact(piece.sequence), piece.begin, piece.end - piece.begin),
              tolerance);
    row += piece.end - piece.begin;
  }
}

FLAGSCALE_EVERY_SET(PagedAttentionSets);
TEST_P(PagedAttentionSets, MatchAttentionInDouble) {
  const Isa isa = GetParam();
  const std::vector<AttentionShape> shapes{shaped(3, 3, 16),  shaped(4, 2, 24),     shaped(9, 3, 64),
                                           shaped(4, 1, 128), shaped(27, 1, 8),     shaped(4, 2, 40, 21),
                                           shaped(8, 2, 96),  shaped(5, 1, 80, 37), shaped(4, 2, 128, 75),
                                           shaped(3, 1, 200), shaped(2, 1, 256, 50)};
  for (const AttentionShape& shape : shapes) {
    SCOPED_TRACE("heads " + std::to_string(shape.heads) + " dim " + std::to_string(shape.head_dim));
    const Step whole{{0, 0, 1}, {1, 0, 15}, {2, 0, 16}, {3, 0, 290}};
    const std::vector<int> lengths{1, 15, 16, 290};
    expect_exact(Cache(shape, lengths, DType::kF32, DType::kF32, isa, 2, isa == Isa::kAvx2), whole, 1e-5);
    if (shape.head_dim >= 64)
      for (const DType cache : {DType::kBF16, DType::kI8})
        expect_exact(Cache(shape, lengths, DType::kBF16, cache, isa), whole, 4e-2);
    if (shape.heads != 9) continue;
    expect_exact(Cache(shape, lengths, DType::kF32, DType::kBF16, isa), whole, 3e-2);
    expect_exact(Cache(shape, lengths, DType::kF32, DType::kI8, isa), whole, 3e-2);
    if (isa == Isa::kScalar) expect_exact(Cache(shape, lengths, DType::kF64, DType::kF64, isa), whole, 1e-12);
  }
}

// A row gets the same bits however its sequence was cut and whatever ran beside it.
TEST_P(PagedAttentionSets, BatchChunksAndThreadsChangeNoBit) {
  const Isa isa = GetParam();
  for (const AttentionShape& shape :
       {shaped(9, 3, 64), shaped(5, 1, 24), shaped(4, 4, 40, 100), shaped(8, 2, 128, 200), shaped(8, 2, 128),
        shaped(4, 2, 80), shaped(2, 1, 96, 150), shaped(2, 1, 200), shaped(2, 2, 256, 130)})
    for (const auto& [dtype, cache_dtype] :
         std::vector<std::pair<DType, DType>>{{DType::kF32, DType::kF32},
                                              {DType::kF32, DType::kBF16},
                                              {DType::kBF16, DType::kBF16},
                                              {DType::kF32, DType::kI8},
                                              {DType::kBF16, DType::kI8}}) {
      if (isa == Isa::kScalar && cache_dtype == DType::kBF16) continue;
      if (dtype == DType::kBF16 && shape.head_dim < 64) continue;
      SCOPED_TRACE(std::string(name(dtype)) + " " + std::string(name(cache_dtype)));
      const std::vector<int> lengths{540, 37, 1};
      const Tensor whole = Cache(shape, lengths, dtype, cache_dtype, isa, 1).run({{0, 0, 540}});

      const Cache pieces(shape, lengths, dtype, cache_dtype,
                         isa);  // chunks of odd sizes, others beside them
      EXPECT_EQ(difference(pieces.run({{1, 0, 36}, {0, 0, 131}, {2, 0, 1}}), 36, whole, 0, 131), 0);
      EXPECT_EQ(difference(pieces.run({{0, 131, 535}}), 0, whole, 131, 404), 0);
      for (int p = 535; p < 540; ++p)
        EXPECT_EQ(difference(pieces.run({{1, 36, 37}, {0, p, p + 1}}), 1, whole, p, 1), 0)
            << "decode at " << p;
      EXPECT_EQ(difference(pieces.run({{0, 537, 540}}), 0, whole, 537, 3), 0) << "speculation rows";
    }
}

// A token's scale is its own: what is far larger beside it costs it nothing.
TEST_P(PagedAttentionSets, AnInt8TokenIsScaledByItselfAlone) {
  const AttentionShape shape = shaped(2, 1, 32);
  const auto first = [&](float beside) {
    Cache cache(shape, {2}, DType::kF32, DType::kI8, GetParam());
    cache.scale_token(0, 1, beside);
    return cache.run({{0, 0, 2}});
  };
  EXPECT_EQ(difference(first(1), 0, first(1000), 0, 1), 0);
  EXPECT_EQ(difference(first(1), 0, first(0), 0, 1), 0);
}

// More chunks than one wave holds, with a sequence cut by the wave's end.
TEST_P(PagedAttentionSets, ManyLongContextsDecodeInWaves) {
  const AttentionShape shape = shaped(16, 8, 8);
  const Cache cache(shape, std::vector<int>(24, 600), DType::kF32, DType::kF32, GetParam());
  Step fill, decode;
  for (int s = 0; s < 24; ++s) fill.push_back({s, 0, 599}), decode.push_back({s, 599, 600});
  cache.run(fill);
  const Tensor out = cache.run(decode);
  for (int s = 0; s < 24; ++s) EXPECT_LT(difference(out, s, cache.exact(s), 599, 1), 1e-5) << s;
  for (const int s : {0, 20, 21, 22})
    EXPECT_EQ(difference(cache.run({decode[static_cast<size_t>(s)]}), 0, out, s, 1), 0) << s;
}

// Sequences enough for a GPU's blocks to walk whole contexts, and too few: the same bits, beside prompts of
// odd sizes.
TEST_P(PagedAttentionSets, ManySequencesHaveTheBitsOfOne) {
  const int count = GetParam() == Isa::kCuda ? 260 : 12;
  std::vector<std::pair<AttentionShape, DType>> models{{shaped(16, 4, 64, 90), DType::kBF16}};
  for (const AttentionShape& shape : {shaped(16, 4, 64, 90), shaped(12, 4, 128), shaped(36, 4, 64),
                                      shaped(4, 4, 80, 130), shaped(4, 4, 96)})
    models.emplace_back(shape, DType::kI8);
  if (GetParam() != Isa::kCuda) models.resize(2);  // a CPU has one way for all of them
  for (const auto& [shape, cache_dtype] : models) {
    SCOPED_TRACE("heads " + std::to_string(shape.heads) + " dim " + std::to_string(shape.head_dim));
    std::vector<int> lengths;
    Step fill, decode;
    for (int s = 0; s < count; ++s) {
      lengths.push_back(2 + s * 37 % 211);
      fill.push_back({s, 0, lengths.back() - 1});
      decode.push_back({s, lengths.back() - 1, lengths.back()});
    }
    const Cache cache(shape, lengths, DType::kBF16, cache_dtype, GetParam());
    cache.run(fill);
    const Tensor all = cache.run(decode);
    for (int s = 0; s < count; s += count / 6) {
      const Piece& piece = decode[static_cast<size_t>(s)];
      EXPECT_LT(difference(all, s, cache.exact(s), piece.begin, 1), 4e-2) << s;
      EXPECT_EQ(difference(cache.run({piece}), 0, all, s, 1), 0) << s;
    }
    const int first = count - 4;  // of those with more queries than one
    Step mixed(decode.begin(), decode.begin() + first);
    for (int s = first; s < count; ++s) mixed.push_back({s, 0, lengths[static_cast<size_t>(s)]});
    EXPECT_EQ(difference(cache.run(mixed), 0, all.rows(0, first), 0, first), 0);
  }
}

TEST(PagedAttention, ShapesThatDoNotFitAreNamed) {
  const Team team(1);
  EagerRecorder recorder(testing::allocator(), team, Isa::kScalar);
  Context c{recorder};
  const Tensor q = random_tensor({2, 32}, 1, DType::kF32),
               k = random_tensor(k_pages_shape(4, 2, 8), 2, DType::kF32);
  const Tensor v = random_tensor(v_pages_shape(4, 2, 8), 3, DType::kF32),
               table = int_tensor({0, 1}).reshape({1, 2});
  const auto attend = [&](const Tensor& values, int kv_heads) {
    paged_attention(c, q, k, values, table, int_tensor({0, 2}), int_tensor({2}), nullptr,
                    shaped(4, kv_heads, 8));
  };
  EXPECT_NO_THROW(attend(v, 2));
  EXPECT_THROW(attend(k, 2), Error);
  EXPECT_THROW(attend(v, 1), Error);
}

}  // namespace
}  // namespace flagscale::op
