// 64 counters at a time in plain loops over small arrays, which the compiler turns into vectors: ten Philox
// rounds, then Box-Muller with polynomials for ln, sin and cos (absolute error below 2e-7).
#include "kernel/simd.h"
#include "op/random_normal/random_normal.h"

namespace flagscale::op::FLAGSCALE_ISA::FLAGSCALE_FILE {
using namespace flagscale::FLAGSCALE_ISA;
namespace {

constexpr int kCounters = 64, kChunk = 16384;

struct Words {
  uint32_t w[4][kCounters];
};

void philox(uint64_t seed, uint64_t stream, uint64_t counter, Words& x) {
  uint32_t key0 = static_cast<uint32_t>(seed), key1 = static_cast<uint32_t>(seed >> 32);
  for (int i = 0; i < kCounters; ++i) {
    const uint64_t c = counter + static_cast<uint64_t>(i);
    x.w[0][i] = static_cast<uint32_t>(c);
    x.w[1][i] = static_cast<uint32_t>(c >> 32);
    x.w[2][i] = static_cast<uint32_t>(stream);
    x.w[3][i] = static_cast<uint32_t>(stream >> 32);
  }
  for (int round = 0; round < 10; ++round) {
    for (int i = 0; i < kCounters; ++i) {
      const uint64_t a = uint64_t{0xD2511F53u} * x.w[0][i], b = uint64_t{0xCD9E8D57u} * x.w[2][i];
      const uint32_t x1 = x.w[1][i], x3 = x.w[3][i];
      x.w[0][i] = static_cast<uint32_t>(b >> 32) ^ x1 ^ key0;
      x.w[1][i] = static_cast<uint32_t>(b);
      x.w[2][i] = static_cast<uint32_t>(a >> 32) ^ x3 ^ key1;
      x.w[3][i] = static_cast<uint32_t>(a);
    }
    key0 += 0x9E3779B9u;
    key1 += 0xBB67AE85u;
  }
}

// ln(u) of u = (bits + 0.5) / 2^32: exponent and a polynomial in the mantissa (Cephes logf).
inline float log_uniform(uint32_t word) {
  const float u = (static_cast<float>(static_cast<int32_t>(word >> 8)) + 0.5f) * 0x1p-24f;
  uint32_t bits;
  std::memcpy(&bits, &u, 4);
  float exponent = static_cast<float>(static_cast<int32_t>(bits >> 23) - 126);
  const uint32_t mantissa = (bits & 0x7fffffu) | 0x3f000000u;  // in [0.5, 1)
  float m;
  std::memcpy(&m, &mantissa, 4);
  const bool low = m < 0.707106781f;
  exponent -= low ? 1.f : 0.f;
  const float x = (low ? m + m : m) - 1.f, z = x * x;
  float p = 7.0376836292e-2f;
  p = p * x - 1.1514610310e-1f;
  p = p * x + 1.1676998740e-1f;
  p = p * x - 1.2420140846e-1f;
  p = p * x + 1.4249322787e-1f;
  p = p * x - 1.6668057665e-1f;
  p = p * x + 2.0000714765e-1f;
  p = p * x - 2.4999993993e-1f;
  p = p * x + 3.3333331174e-1f;
  return x + (p * x * z - 0.5f * z) + exponent * 0.693147181f;
}

// sin and cos of 2 pi t for t in [0, 1), from the nearest quarter turn.
inline void sin_cos_turns(float t, float& s, float& c) {
  // NOLINTNEXTLINE(bugprone-incorrect-roundings): t >= 0, and lround() is a call in a loop of vectors
  const int quarter = static_cast<int>(t * 4.f + 0.5f);
  const float r = (t - static_cast<float>(quarter) * 0.25f) * 6.283185307f, z = r * r;
  const float sine = r + r * z * (-1.6666654611e-1f + z * (8.3321608736e-3f - z * 1.9515295891e-4f));
  const float cosine =
      1.f - 0.5f * z +
      z * z * (4.166664568298827e-2f + z * (-1.388731625493765e-3f + z * 2.443315711809948e-5f));
  const bool odd = quarter & 1;
  const float a = odd ? cosine : sine, b = odd ? sine : cosine;
  s = (quarter & 2) ? -a : a;
  c = ((quarter + 1) & 2) ? -b : b;
}

void normals(const Words& x, float mean, float std, float* out) {
  for (int i = 0; i < kCounters; ++i) {
    for (int pair = 0; pair < 2; ++pair) {
      const float radius = std::sqrt(-2.f * log_uniform(x.w[2 * pair][i])) * std;
      float s, c;
      sin_cos_turns(static_cast<float>(static_cast<int32_t>(x.w[2 * pair + 1][i] >> 8)) * 0x1p-24f, s, c);
      out[i * 4 + 2 * pair] = mean + radius * c;
      out[i * 4 + 2 * pair + 1] = mean + radius * s;
    }
  }
}

void run(KernelContext& context, const RandomNormalArgs& args) {
  const int64_t size = args.out.size();
  float* out = args.out.ptr<float>();
  context.team.for_each((size + kChunk - 1) / kChunk, [&](int64_t chunk) {
    Words words;
    float block[kCounters * 4];
    for (int64_t i = chunk * kChunk; i < size && i < (chunk + 1) * kChunk; i += kCounters * 4) {
      philox(args.seed, args.stream, static_cast<uint64_t>((args.first + i) / 4), words);
      const int64_t n = size - i < kCounters * 4 ? size - i : kCounters * 4;
      normals(words, args.mean, args.std, n == kCounters * 4 ? out + i : block);
      if (n < kCounters * 4) std::memcpy(out + i, block, static_cast<size_t>(n) * sizeof(float));
    }
  });
}

const CpuKernel<RandomNormalArgs> kKernel{kRandomNormal, kIsa, &run};

}  // namespace
}  // namespace flagscale::op::FLAGSCALE_ISA::FLAGSCALE_FILE
