// Philox as in op/random_normal: 64 counters at a time in plain loops that the compiler turns into vectors,
// four words each. Element e of the run's [rows, cols] is word e % 4 of counter e / 4.
#include "kernel/simd.h"
#include "op/dropout/dropout.h"

namespace flagscale::op::FLAGSCALE_ISA::FLAGSCALE_FILE {
using namespace flagscale::FLAGSCALE_ISA;
namespace {

constexpr int kCounters = 64;
constexpr int64_t kElements = kCounters * 4;

void philox(uint64_t seed, uint64_t stream, uint64_t counter, uint32_t (&w)[4][kCounters]) {
  uint32_t key0 = static_cast<uint32_t>(seed), key1 = static_cast<uint32_t>(seed >> 32);
  for (int i = 0; i < kCounters; ++i) {
    const uint64_t c = counter + static_cast<uint64_t>(i);
    w[0][i] = static_cast<uint32_t>(c);
    w[1][i] = static_cast<uint32_t>(c >> 32);
    w[2][i] = static_cast<uint32_t>(stream);
    w[3][i] = static_cast<uint32_t>(stream >> 32);
  }
  for (int round = 0; round < 10; ++round) {
    for (int i = 0; i < kCounters; ++i) {
      const uint64_t a = uint64_t{0xD2511F53u} * w[0][i], b = uint64_t{0xCD9E8D57u} * w[2][i];
      const uint32_t x1 = w[1][i], x3 = w[3][i];
      w[0][i] = static_cast<uint32_t>(b >> 32) ^ x1 ^ key0;
      w[1][i] = static_cast<uint32_t>(b);
      w[2][i] = static_cast<uint32_t>(a >> 32) ^ x3 ^ key1;
      w[3][i] = static_cast<uint32_t>(a);
    }
    key0 += 0x9E3779B9u;
    key1 += 0xBB67AE85u;
  }
}

// factors[e] = factor or 0, of the elements [first, first + kElements); first a multiple of 4.
template <class S>
void draw(const DropoutArgs& args, uint64_t first, S factor, S* factors) {
  uint32_t words[4][kCounters];
  philox(args.seed, args.stream, first / 4, words);
  const auto limit = static_cast<uint32_t>(static_cast<double>(args.rate) * 0x1p32);
  for (int i = 0; i < kCounters; ++i)
    for (int j = 0; j < 4; ++j) factors[4 * i + j] = words[j][i] < limit ? S{0} : factor;
}

int64_t row_of_run(const DropoutArgs& args, int64_t index) {
  if (!args.places.defined()) return args.rows->first + index;
  return args.rows->first * args.x.dims[1] + args.places.ptr<const int32_t>()[index];
}

template <class V, class T>
void row(const DropoutArgs& args, int64_t index) {
  using S = typename V::Scalar;
  const int64_t cols = args.x.cols();
  const T* x = args.x.ptr<const T>() + index * args.x.row_stride();
  T* out = args.out.ptr<T>() + index * args.out.row_stride();
  const S factor = static_cast<S>(args.scale) / (S{1} - static_cast<S>(args.rate));
  if (args.rate == 0) {
    const V all = V::set(factor);
    for_lanes<V>(cols, [&](int64_t i, int64_t n) { (V::load_n(x + i, n) * all).store_n(out + i, n); });
    return;
  }
  S factors[kElements];
  const uint64_t begin = static_cast<uint64_t>(row_of_run(args, index)) * static_cast<uint64_t>(cols);
  uint64_t block = begin / 4 * 4;
  for (int64_t done = 0; done < cols; block += kElements) {
    draw<S>(args, block, factor, factors);
    const auto skip = static_cast<int64_t>(begin + static_cast<uint64_t>(done) - block);
    const int64_t count = kElements - skip < cols - done ? kElements - skip : cols - done;
    for_lanes<V>(count, [&](int64_t i, int64_t n) {
      (V::load_n(x + done + i, n) * V::load_n(factors + skip + i, n)).store_n(out + done + i, n);
    });
    done += count;
  }
}

void run(KernelContext& context, const DropoutArgs& args) {
  const int64_t cols = args.x.cols();
  const int64_t grain = 4096 / (cols > 0 ? cols : 1) + 1;
  for_float_type(args.x.dtype, [&]<class V, class T>(V, T) {
    context.team.for_each(args.x.rows(), [&](int64_t i) { row<V, T>(args, i); }, grain);
  });
}

const CpuKernel<DropoutArgs> kKernel{kDropout, kIsa, &run};

}  // namespace
}  // namespace flagscale::op::FLAGSCALE_ISA::FLAGSCALE_FILE
