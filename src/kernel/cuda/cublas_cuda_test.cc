// Which of cuBLASLt's algorithms wins is a matter of time, and differs from machine to machine: the bits must
// not.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <cstring>
#include <random>

#include "base/parallel.h"
#include "device/cuda/cuda.h"
#include "kernel/cuda/cublas.h"

namespace flagscale::cuda {
namespace {

// The products of a linear layer of `out` by `in` on so many tokens.
struct Layer {
  const char* what;
  int64_t tokens, out, in;
};
constexpr Layer kLayers[] = {{"1b gate_up", 32768, 16384, 2048}, {"1b down", 32768, 2048, 8192},
                             {"1b qkv", 32768, 3072, 2048},      {"1b o", 32768, 2048, 2048},
                             {"1b head", 4096, 128256, 2048},    {"124m up", 65536, 3072, 768},
                             {"124m down", 65536, 768, 3072},    {"124m qkv", 65536, 2304, 768},
                             {"124m o", 65536, 768, 768},        {"124m head", 8192, 50304, 768}};

enum class Kind { kForward, kOfInputs, kOfWeights, kOfWeightsInBF16, kAddedOfWeights };
constexpr Kind kKinds[] = {Kind::kForward, Kind::kOfInputs, Kind::kOfWeights, Kind::kOfWeightsInBF16,
                           Kind::kAddedOfWeights};

Product shape_of(const Layer& l, Kind kind) {
  Product p{};
  p.in = p.out = DType::kBF16;
  switch (kind) {
    case Kind::kForward:
      p.m = l.tokens, p.n = l.out, p.k = l.in, p.trans_b = true;
      break;
    case Kind::kOfInputs:
      p.m = l.tokens, p.n = l.in, p.k = l.out;
      break;
    case Kind::kAddedOfWeights:
      p.add = true;
      [[fallthrough]];
    case Kind::kOfWeights:
      p.out = DType::kF32;
      [[fallthrough]];
    case Kind::kOfWeightsInBF16:
      p.m = l.out, p.n = l.in, p.k = l.tokens, p.trans_a = true;
      break;
  }
  p.a_stride = p.trans_a ? p.m : p.k, p.b_stride = p.trans_b ? p.k : p.n, p.c_stride = p.n;
  return p;
}

// Factors of fp8 numbers lie along k. Gradients are e5m2 with one scale a tensor; with blocks all are e4m3.
Product fp8_shape_of(const Layer& l, Kind kind, bool in_blocks) {
  Product p = shape_of(l, kind);
  p.in = DType::kU8, p.trans_a = false, p.trans_b = true;
  p.a_stride = p.b_stride = p.k;
  const bool forward = kind == Kind::kForward, weights = kind == Kind::kOfWeights;
  p.a_fp8 = {forward || in_blocks ? Fp8::kE4M3 : Fp8::kE5M2,
             in_blocks ? Fp8Scales::kRow128 : Fp8Scales::kTensor, nullptr};
  p.b_fp8 = {Fp8::kE4M3,
             in_blocks ? (weights ? Fp8Scales::kRow128 : Fp8Scales::kSquare128) : Fp8Scales::kTensor,
             nullptr};
  return p;
}

std::string described(const Product& p) {
  return fmt::format("m {} n {} k {} {}{} {} to {}{}", p.m, p.n, p.k, p.trans_a ? 'T' : 'N',
                     p.trans_b ? 'T' : 'N', name(p.in), name(p.out), p.add ? ", added" : "");
}

class Products : public ::testing::Test {
 protected:
  void SetUp() override {
    if (choose_device("auto") != DeviceKind::kCuda)
      GTEST_SKIP() << "not run: this machine has no GPU, or this program no kernels for it";
    gpu_ = make_allocator(), pinned_ = make_shared_allocator();
    workspace_ = gpu_->allocate(kProductWorkspace);
    random_ = pinned_->allocate(kRandom);
    std::mt19937 engine(1);
    std::normal_distribution<float> normal;
    for (size_t i = 0; i < kRandom / sizeof(BF16); ++i)
      static_cast<BF16*>(random_.get())[i] = to_bf16(normal(engine));
  }

  struct Buffer {
    std::shared_ptr<void> data;
    size_t bytes = 0;
    void* at_least(Allocator& allocator, size_t wanted) {
      if (wanted > bytes) data = nullptr, data = allocator.allocate(wanted), bytes = wanted;
      return data.get();
    }
  };

  // Of bf16 numbers, or of fp8's, none of which is infinite or none.
  void fill(void* to, size_t bytes, bool fp8 = false) {
    if (fp8 && !masked_) {
      masked_ = pinned_->allocate(kRandom);
      const auto* from = static_cast<const uint8_t*>(random_.get());
      std::transform(from, from + kRandom, static_cast<uint8_t*>(masked_.get()),
                     [](uint8_t byte) { return static_cast<uint8_t>(byte & 0xbf); });
    }
    for (size_t at = 0; at < bytes; at += kRandom)
      copy(static_cast<std::byte*>(to) + at, (fp8 ? masked_ : random_).get(), std::min(kRandom, bytes - at));
  }

  bool same(const void* a, const void* b, size_t bytes) const {
    constexpr size_t kPiece = size_t{1} << 22;
    std::atomic<bool> equal = true;
    team_.for_each(static_cast<int64_t>((bytes + kPiece - 1) / kPiece), [&](int64_t piece) {
      const size_t at = static_cast<size_t>(piece) * kPiece;
      if (std::memcmp(static_cast<const std::byte*>(a) + at, static_cast<const std::byte*>(b) + at,
                      std::min(kPiece, bytes - at)) != 0)
        equal = false;
    });
    return equal;
  }

  void expect_same_bits(const char* what, Product p) {
    SCOPED_TRACE(fmt::format("{}: {}", what, described(p)));
    const bool fp8 = p.in == DType::kU8;
    const auto bytes_of = [](int64_t rows, int64_t cols, DType dtype) {
      return static_cast<size_t>(rows * cols) * size_of(dtype);
    };
    const size_t a = bytes_of(p.m, p.k, p.in), b = bytes_of(p.k, p.n, p.in), c = bytes_of(p.m, p.n, p.out);
    fill(a_.at_least(*gpu_, a), a, fp8), fill(b_.at_least(*gpu_, b), b, fp8);
    p.a = a_.data.get(), p.b = b_.data.get(), p.c = c_.at_least(*gpu_, c);
    if (fp8) {
      const size_t scales = static_cast<size_t>(std::max(p.m, p.n) * p.k / 128) * sizeof(float);
      fill(scales_.at_least(*gpu_, scales), scales);
      p.a_fp8.scales = p.b_fp8.scales = scales_.data.get();
    }
    void *first = first_.at_least(*pinned_, c), *other = other_.at_least(*pinned_, c);
    const auto into = [&](void* to, const auto& product) {
      if (p.add) fill(p.c, c);
      const bool ran = product();
      copy(to, p.c, c);
      return ran;
    };
    const int choices = product_choices(p);
    ASSERT_TRUE(into(first, [&] { return multiply_by(0, p, workspace_.get()); }));
    std::string ran = "0";
    for (int i = 1; i < choices; ++i) {
      if (!into(other, [&] { return multiply_by(i, p, workspace_.get()); })) continue;
      ran += fmt::format(" {}", i);
      EXPECT_TRUE(same(first, other, c)) << "choice " << i << " of " << choices;
      compared_ += 1;
    }
    into(other, [&] { return multiply(p, workspace_.get()), true; });
    EXPECT_TRUE(same(first, other, c)) << "as it is multiplied";
    RecordProperty(fmt::format("{} {}", what, described(p)), ran);
  }

  static constexpr size_t kRandom = (size_t{1} << 23) + 38;  // of no row's length
  const Team team_;
  std::unique_ptr<Allocator> gpu_, pinned_;
  std::shared_ptr<void> workspace_, random_, masked_;
  Buffer a_, b_, c_, scales_, first_, other_;
  int compared_ = 0;
};

TEST_F(Products, HaveTheSameBitsByEveryChoice) {
  for (const Layer& layer : kLayers)
    for (const Kind kind : kKinds) expect_same_bits(layer.what, shape_of(layer, kind));
  EXPECT_GT(compared_, 0) << "cuBLASLt offers one choice each: nothing is compared";
}

TEST_F(Products, OfFp8HaveTheSameBitsByEveryChoice) {
  if (!multiplies_fp8()) GTEST_SKIP() << "not run: this GPU multiplies no fp8 numbers";
  for (const Layer& layer : {kLayers[0], kLayers[1]})
    for (const Kind kind : {Kind::kForward, Kind::kOfInputs, Kind::kOfWeights})
      for (const bool in_blocks : {false, true})
        expect_same_bits(layer.what, fp8_shape_of(layer, kind, in_blocks));
  EXPECT_GT(compared_, 0) << "cuBLASLt offers one choice each: nothing is compared";
}

}  // namespace
}  // namespace flagscale::cuda
