// Few rows an expert, weights of bf16 (grouped_few_cuda.cuh).
#include "op/grouped_matmul/grouped_cuda.cuh"
#include "op/grouped_matmul/grouped_few_cuda.cuh"

namespace flagscale::op {
namespace {
using namespace flagscale::cuda;

struct Dense {
  Rows<const bf16> rows;

  static constexpr int kPieces = few::kOfWarp * few::kRun;
  template <int kX>
  static constexpr int kDepth = kX == 1 ? 5 : 4;
  using Read = Fragment[few::kSpan / 16];

  struct OfWarp {
    static constexpr int kCopies = few::kOfWarp / few::kAtOnce;
    const bf16* row[kCopies];
    __device__ OfWarp(const Dense& w, int expert, int first, int n, int lane) {
#pragma unroll
      for (int i = 0; i < kCopies; ++i) {
        const int at = first + i * few::kAtOnce + lane / few::kRun;
        row[i] = w.rows[int64_t{expert} * n + (at < n ? at : n - 1)] + lane % few::kRun * 8;
      }
    }
    __device__ void fetch(const Dense& w, uint4* to, int k, int end, int lane) const {
      const int piece = lane % few::kRun;
      const bool there = k + piece * 8 < end;
#pragma unroll
      for (int i = 0; i < kCopies; ++i)
        copy_16_bytes(to + few::place_of(i * few::kAtOnce + lane / few::kRun, piece),
                      there ? row[i] + k : w.rows.data, there);
    }
    __device__ void fragments(const Read& a, int i, Fragment& first, Fragment& second) const {
#pragma unroll
      for (int r = 0; r < 4; ++r) first[r] = a[2 * i][r], second[r] = a[2 * i + 1][r];
    }
  };
  static __device__ void read(const uint4* from, Read& a, int lane) {
#pragma unroll
    for (int i = 0; i < few::kSpan / 16; ++i)
      load_matrices(a[i], from + few::place_of(lane % 16, i * 2 + lane / 16));
  }
};

}  // namespace

bool multiply_few_rows_of_groups(const GroupedMatmulArgs& args, const GroupSizes& sizes, int64_t most) {
  const int64_t rows = args.a.rows();
  if (rows > most || !args.out.defined() || !args.trans_b || args.a.dtype != DType::kBF16 ||
      args.out.dtype != DType::kBF16 || !few::by_pieces(args.a) || !few::by_pieces(args.b))
    return false;
  few::multiply(few::Product<Dense>{{rows_of<const bf16>(args.b)},
                                    rows_of<const bf16>(args.a),
                                    rows_of<bf16>(args.out),
                                    args.counts.ptr<const int32_t>(),
                                    sizes.experts,
                                    sizes.n,
                                    sizes.k},
                rows);
  check_launch("grouped_matmul");
  return true;
}

}  // namespace flagscale::op
