// A block is decoded into fp32, moved as vectors and encoded again; decoding and encoding look a table up.
#include "op/adamw/step_simd.h"
#include "op/adamw8bit/adamw8bit.h"
#include "op/adamw8bit/dynamic_map.h"

namespace flagscale::op::FLAGSCALE_ISA::FLAGSCALE_FILE {
namespace {

constexpr DynamicMap kMap;
constexpr DynamicMagnitudes<1> kWithSign;
constexpr DynamicMagnitudes<2> kPositive;

// The magnitude nearest to |x|, the largest beyond 1 and for what is no number. A bucket has at most two
// midpoints inside. No branches: the signs and sizes of a gradient's numbers are beyond prediction.
template <int kSteps>
int nearest_magnitude(const DynamicMagnitudes<kSteps>& map, float x) {
  uint32_t bits;
  std::memcpy(&bits, &x, 4);
  bits &= 0x7fffffff;
  std::memcpy(&x, &bits, 4);
  const uint32_t bucket = bits >> map.kShift, above = bucket > map.kFirst ? bucket - map.kFirst : 0;
  int code = map.at_least[above < map.kBuckets ? above : map.kBuckets - 1];
  code += x > map.middle[code];
  code += x > map.middle[code];
  return code;
}

// Keeps the sign of a number that is not 0, as bitsandbytes does: one nearer to 0 than to the least negative
// number becomes that.
uint8_t encode_with_sign(float x) {
  const int magnitude = nearest_magnitude(kWithSign, x);
  const int low = magnitude < 1 ? 1 : magnitude, below = low > 127 ? 127 : low;
  const int sign = -static_cast<int>(x < 0);
  const int chosen = (magnitude & ~sign) | (below & sign);
  return static_cast<uint8_t>(127 + ((chosen ^ sign) - sign));
}

struct Step {
  F32 scale, b1, c1, b2, c2, inverse1, inverse2, eps, rate, keep;
  Step(const AdamW8bitArgs& args, const StepScalars& now, float clip)
      : scale(F32::set(clip)),
        b1(F32::set(args.beta1)),
        c1(F32::set(1.f - args.beta1)),
        b2(F32::set(args.beta2)),
        c2(F32::set(1.f - args.beta2)),
        inverse1(F32::set(1.f / now.bias1)),
        inverse2(F32::set(1.f / now.bias2)),
        eps(F32::set(args.eps)),
        rate(F32::set(-now.lr)),
        keep(F32::set(args.decay ? 1.f - now.lr * now.weight_decay : 1.f)) {}
};

void update_block(const AdamW8bitArgs& args, const Step& step, int64_t block, int64_t first, int64_t count) {
  float m[kStateBlock], v[kStateBlock];
  uint8_t *const m_code = args.m.ptr<uint8_t>() + first, *const v_code = args.v.ptr<uint8_t>() + first;
  float &m_scale = args.m_scale.ptr<float>()[block], &v_scale = args.v_scale.ptr<float>()[block];
  for (int64_t i = 0; i < count; ++i) {
    m[i] = kMap.with_sign[m_code[i]] * m_scale;
    v[i] = kMap.positive[v_code[i]] * v_scale;
  }
  float* const p = args.param.ptr<float>() + first;
  const float* const g = args.grad.ptr<const float>() + first;
  BF16* const copy = args.copy.defined() ? args.copy.ptr<BF16>() + first : nullptr;
  F32 m_highest = F32::zero(), v_highest = F32::zero();
  for_lanes<F32>(count, [&](int64_t i, int64_t n) {
    const F32 gi = F32::load_n(g + i, n) * step.scale;
    const F32 mi = F32::fma(step.b1, F32::load_n(m + i, n), step.c1 * gi);
    const F32 vi = F32::fma(step.b2, F32::load_n(v + i, n), step.c2 * (gi * gi));
    const F32 way = mi * step.inverse1 / (F32::sqrt(vi * step.inverse2) + step.eps);
    const F32 updated = F32::fma(step.rate, way, F32::load_n(p + i, n) * step.keep);
    mi.store_n(m + i, n);
    vi.store_n(v + i, n);
    updated.store_n(p + i, n);
    if (copy) updated.store_n(copy + i, n);
    m_highest = F32::max(m_highest, F32::max(mi, F32::zero() - mi));
    v_highest = F32::max(v_highest, vi);
  });
  m_scale = m_highest.highest(), v_scale = v_highest.highest();
  constexpr float kLeast = 1e-37f;  // below, its inverse is no number; the block is 0
  const float m_inverse = m_scale > kLeast ? 1 / m_scale : 0, v_inverse = v_scale > kLeast ? 1 / v_scale : 0;
  for (int64_t i = 0; i < count; ++i) {
    m_code[i] = encode_with_sign(m[i] * m_inverse);
    v_code[i] = static_cast<uint8_t>(nearest_magnitude(kPositive, v[i] * v_inverse));
  }
}

void adamw8bit(KernelContext& context, const AdamW8bitArgs& args) {
  const StepScalars& now = step_of(args.step);
  float clip = 1;
  if (!gradient_scale(now, args.norm, clip)) return;
  const Step step(args, now, clip);
  const int64_t size = args.param.size();
  context.team.for_each(
      state_blocks(size),
      [&](int64_t block) {
        const int64_t first = block * kStateBlock;
        update_block(args, step, block, first, size - first < kStateBlock ? size - first : kStateBlock);
      },
      64);
}

const CpuKernel<AdamW8bitArgs> kKernel{kAdamW8bit, kIsa, &adamw8bit};

}  // namespace
}  // namespace flagscale::op::FLAGSCALE_ISA::FLAGSCALE_FILE
