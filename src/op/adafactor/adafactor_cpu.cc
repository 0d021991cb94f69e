// Three passes over the gradient and one over the weights: moments, the update's mean square, the update.
// Rows are cut into at most 64 blocks, whose sums are added in order.
#include "op/adafactor/adafactor.h"
#include "op/adamw/step_simd.h"

namespace flagscale::op::FLAGSCALE_ISA::FLAGSCALE_FILE {
namespace {

constexpr float kEpsilon = 1e-30f, kLeastScale = 1e-3f;

// A vector is cut as a matrix of one column would be, into blocks of elements.
struct Cut {
  int64_t rows, columns, block, blocks;
  explicit Cut(const AdafactorArgs& args) {
    const bool matrix = args.column.defined();
    rows = matrix ? args.row.size() : args.param.size();
    columns = matrix ? args.column.size() : 1;
    block = (rows + 63) / 64;
    const int64_t least = matrix ? 16 : 4096;
    if (block < least) block = least;
    blocks = (rows + block - 1) / block;
  }
};

// In the workspace, doubles first.
struct Room {
  double *update, *param;  // sums of squares, of each block
  float *sums, *factor;    // of columns: each block's, and 1 / sqrt(column)
  Room(std::byte* at, const Cut& cut)
      : update(reinterpret_cast<double*>(at)),
        param(update + cut.blocks),
        sums(reinterpret_cast<float*>(param + cut.blocks)),
        factor(sums + cut.blocks * cut.columns) {}
};

size_t workspace(const AdafactorArgs& args, int) {
  const Cut cut(args);
  const int64_t floats = args.column.defined() ? (cut.blocks + 1) * cut.columns : 0;
  return static_cast<size_t>(2 * cut.blocks) * sizeof(double) + static_cast<size_t>(floats) * sizeof(float);
}

struct Update {
  const AdafactorArgs& args;
  Cut cut;
  Room room;
  float scale, beta;  // of the gradient; of the second moment

  template <class Body>
  void for_blocks(const KernelContext& context, Body&& body) const {
    context.team.for_each(cut.blocks, [&](int64_t b) {
      const int64_t first = b * cut.block, end = first + cut.block;
      body(b, first, end < cut.rows ? end : cut.rows);
    });
  }
  // body(i, n): lanes of a block's elements; of a row's, from its first on.
  template <class Body>
  void for_row(int64_t row, Body&& body) const {
    for_lanes<F32>(cut.columns, [&](int64_t j, int64_t n) { body(row * cut.columns + j, j, n); });
  }

  F32 gradient(int64_t i, int64_t n) const {
    return F32::load_n(args.grad.ptr<const float>() + i, n) * F32::set(scale);
  }
  float blended(float old, double mean) const {
    return beta * old + (1 - beta) * (static_cast<float>(mean) + kEpsilon);
  }

  void moments(const KernelContext& context) const {
    float *row = args.row.ptr<float>(), *column = args.column.ptr<float>();
    for_blocks(context, [&](int64_t b, int64_t first, int64_t end) {
      float* const sums = room.sums + b * cut.columns;
      std::memset(sums, 0, static_cast<size_t>(cut.columns) * sizeof(float));
      for (int64_t r = first; r < end; ++r) {
        F32 total = F32::zero();
        for_row(r, [&](int64_t i, int64_t j, int64_t n) {
          const F32 g = gradient(i, n), square = g * g;
          total = total + square;
          (F32::load_n(sums + j, n) + square).store_n(sums + j, n);
        });
        row[r] = blended(row[r], static_cast<double>(total.sum()) / static_cast<double>(cut.columns));
      }
    });
    for_update(context, cut.columns, [&](int64_t j, int64_t n) {
      for (int64_t k = j; k < j + n; ++k) {
        double total = 0;
        for (int64_t b = 0; b < cut.blocks; ++b) total += static_cast<double>(room.sums[b * cut.columns + k]);
        column[k] = blended(column[k], total / static_cast<double>(cut.rows));
        room.factor[k] = 1 / std::sqrt(column[k]);
      }
    });
  }

  // What a row's u is, but for the columns' factors.
  float row_factor(int64_t r, float mean) const { return std::sqrt(mean / args.row.ptr<const float>()[r]); }
  float mean_of_rows() const {
    double total = 0;
    for (int64_t r = 0; r < cut.rows; ++r) total += static_cast<double>(args.row.ptr<const float>()[r]);
    return static_cast<float>(total / static_cast<double>(cut.rows));
  }

  // Calls body(element, lanes, u) for each of a block.
  template <class Body>
  void for_u(int64_t first, int64_t end, float mean, Body&& body) const {
    if (!args.column.defined()) {
      for_lanes<F32>(end - first, [&](int64_t j, int64_t n) {
        const int64_t i = first + j;
        const F32 root = F32::sqrt(F32::load_n(args.row.ptr<const float>() + i, n));
        body(i, n, gradient(i, n) / F32::max(root, F32::set(1e-30f)));  // of lanes past the end: 0
      });
      return;
    }
    for (int64_t r = first; r < end; ++r) {
      const F32 factor = F32::set(row_factor(r, mean));
      for_row(r, [&](int64_t i, int64_t j, int64_t n) {
        body(i, n, gradient(i, n) * factor * F32::load_n(room.factor + j, n));
      });
    }
  }

  void vector_moment(const KernelContext& context) const {
    float* const v = args.row.ptr<float>();
    const F32 b = F32::set(beta), c = F32::set(1 - beta), epsilon = F32::set(kEpsilon);
    for_update(context, cut.rows, [&](int64_t i, int64_t n) {
      const F32 g = gradient(i, n);
      F32::fma(b, F32::load_n(v + i, n), c * F32::fma(g, g, epsilon)).store_n(v + i, n);
    });
  }

  void squares(const KernelContext& context, float mean) const {
    const float* const p = args.param.ptr<const float>();
    for_blocks(context, [&](int64_t b, int64_t first, int64_t end) {
      double update = 0, param = 0;
      F32 u_sum = F32::zero(), p_sum = F32::zero();
      int added = 0;
      const auto flush = [&] {
        update += static_cast<double>(u_sum.sum()), param += static_cast<double>(p_sum.sum());
        u_sum = p_sum = F32::zero();
        added = 0;
      };
      for_u(first, end, mean, [&](int64_t i, int64_t n, F32 u) {
        u_sum = F32::fma(u, u, u_sum);
        if (args.scale_parameter) {
          const F32 weight = F32::load_n(p + i, n);
          p_sum = F32::fma(weight, weight, p_sum);
        }
        if (++added == 64) flush();  // fp32 sums stay short
      });
      flush();
      room.update[b] = update, room.param[b] = param;
    });
  }

  double rms(const double* sums) const {
    double total = 0;
    for (int64_t b = 0; b < cut.blocks; ++b) total += sums[b];
    return std::sqrt(total / static_cast<double>(cut.rows * cut.columns));
  }

  void apply(const KernelContext& context, float mean) const {
    const StepScalars& step = step_of(args.step);
    const auto excess = static_cast<float>(rms(room.update)) / args.clip_threshold;
    float lr = step.lr;
    if (args.scale_parameter) {
      const auto size = static_cast<float>(rms(room.param));
      lr *= size > kLeastScale ? size : kLeastScale;
    }
    const F32 keep = F32::set(args.decay ? 1 - lr * step.weight_decay : 1.f);
    const F32 rate = F32::set(-lr / (excess > 1 ? excess : 1.f));
    float* const p = args.param.ptr<float>();
    BF16* const copy = args.copy.defined() ? args.copy.ptr<BF16>() : nullptr;
    for_blocks(context, [&](int64_t, int64_t first, int64_t end) {
      for_u(first, end, mean, [&](int64_t i, int64_t n, F32 u) {
        const F32 updated = F32::fma(rate, u, F32::load_n(p + i, n) * keep);
        updated.store_n(p + i, n);
        if (copy) updated.store_n(copy + i, n);
      });
    });
  }
};

void adafactor(KernelContext& context, const AdafactorArgs& args) {
  float scale = 1;
  if (!gradient_scale(step_of(args.step), args.norm, scale)) return;
  const Cut cut(args);
  const auto beta = static_cast<float>(
      1 - std::pow(static_cast<double>(step_of(args.step).update), static_cast<double>(args.decay_rate)));
  const Update update{args, cut, Room(context.workspace.data(), cut), scale, beta};
  const bool matrix = args.column.defined();
  matrix ? update.moments(context) : update.vector_moment(context);
  const float mean = matrix ? update.mean_of_rows() : 1;
  update.squares(context, mean);
  update.apply(context, mean);
}

const CpuKernel<AdafactorArgs> kKernel{kAdafactor, kIsa, &adafactor, &workspace};

}  // namespace
}  // namespace flagscale::op::FLAGSCALE_ISA::FLAGSCALE_FILE
