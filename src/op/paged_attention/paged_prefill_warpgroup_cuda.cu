// Prefill of paged attention by Hopper's warpgroups: what paged_attention_mma_cuda.cu's prefill_rows does, in
// the same order, with wgmma. A block stays on its multiprocessor and walks over tiles of rows: kGroups
// warpgroups have 64 of a tile's rows each, and one more brings chunks of keys and values for all of them and
// widens those of int8, on to the next tile's while the last one's is worked on. Bound by how long a warp's
// own instructions take one after the other: registers hold no third warpgroup of rows.
#include <algorithm>

#include "op/paged_attention/paged_bring_cuda.cuh"

namespace flagscale::op {
namespace {
using namespace flagscale::cuda;
using namespace bringing;

struct Sight {
  int first[2], end[2];  // of a chunk's keys those that a lane's rows see
};
// Scores of a chunk, scaled, of keys that are not seen -inf; the largest of each row.
template <class C>
__device__ __forceinline__ void scale_scores(float (&score)[kKeys / 8][4], float (&here)[2],
                                             const float* scales, float scale, bool all, const Sight& sight,
                                             int lane) {
  const int column = lane % 4 * 2;
#pragma unroll
  for (int n = 0; n < kKeys / 8; ++n) {
    float2 factor{scale, scale};
    if constexpr (kScaled<C>) factor = *reinterpret_cast<const float2*>(scales + n * 8 + column);
#pragma unroll
    for (int j = 0; j < 4; ++j) score[n][j] = __fmul_rn(score[n][j], j % 2 ? factor.y : factor.x);
  }
  if (!all)
#pragma unroll
    for (int n = 0; n < kKeys / 8; ++n)
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        const int key = n * 8 + column + j % 2;
        if (key < sight.first[j / 2] || key >= sight.end[j / 2]) score[n][j] = -INFINITY;
      }
#pragma unroll
  for (int r = 0; r < 2; ++r) {
    float most[2] = {-INFINITY, -INFINITY};
#pragma unroll
    for (int n = 0; n < kKeys / 8; ++n)
#pragma unroll
      for (int j = 0; j < 2; ++j) most[j] = fmaxf(most[j], score[n][2 * r + j]);
    here[r] = fmaxf(most[0], most[1]);
    here[r] = fmaxf(here[r], __shfl_xor_sync(0xffffffffu, here[r], 1));
    here[r] = fmaxf(here[r], __shfl_xor_sync(0xffffffffu, here[r], 2));
  }
}

// Which chunks a warpgroup's rows see any key of, and a warp's rows all keys of.
struct Sights {
  Walk any, all;
  template <class C>
  __device__ Sights(const RowsOfBlock<kRows>& rows, const Pages<C>& a, int group) {
    const int own = rows.begin + group * kRowsOf, of_warp = rows.begin + rows.warp * 16;
    const auto first_key = [&](int row) { return static_cast<int>(a.first_key(rows.position(row))); };
    any.first = first_key(own) / kKeys;
    any.last = own < rows.queries * rows.group ? rows.position(own + kRowsOf - 1) / kKeys : any.first - 1;
    all.first = (first_key(of_warp + 15) + kKeys - 1) / kKeys;
    all.last = (rows.position(of_warp) + 1) / kKeys - 1;
  }
};

// A chunk's weights for its values, and the sum of those before values' scales.
template <class C>
__device__ __forceinline__ void weigh(Fragment (&p)[kPages], float (&ones)[4], float (&score)[kKeys / 8][4],
                                      const float (&here)[2], const float* scales, int lane) {
  const float base[2] = {base_of(here[0]), base_of(here[1])};
#pragma unroll
  for (float& x : ones) x = 0;
#pragma unroll
  for (int n = 0; n < kKeys / 8; ++n)
#pragma unroll
    for (int j = 0; j < 4; ++j) score[n][j] = weight_of(score[n][j], base[j / 2]);
#pragma unroll
  for (int i = 0; i < kPages; ++i) {
    as_left(p[i], score[2 * i], score[2 * i + 1]);
    multiply_add(ones, p[i], kOnes, kOnes);
    if constexpr (kScaled<C>) {
#pragma unroll
      for (int n = 2 * i; n < 2 * i + 2; ++n) {
        const float2 factor = *reinterpret_cast<const float2*>(scales + n * 8 + lane % 4 * 2);
#pragma unroll
        for (int j = 0; j < 4; ++j) score[n][j] *= j % 2 ? factor.y : factor.x;
      }
      as_left(p[i], score[2 * i], score[2 * i + 1]);
    }
  }
}

// A warp's rows to its warpgroup's panels.
template <int D, class C>
__device__ __forceinline__ void load_rows(bf16* to, const Pages<C>& a, const RowsOfBlock<kRows>& rows) {
  constexpr int kOfRow = D / 8;
#pragma unroll
  for (int m = 0; m < D / 16; ++m) {
    const int i = m * 32 + rows.lane, at = i / kOfRow, piece = i % kOfRow;
    const Row row = rows.at(at);
    uint4 x{};
    if (row.there)
      x = *reinterpret_cast<const uint4*>(a.q[rows.token0 + row.token] + rows.column(row, D) + piece * 8);
    *reinterpret_cast<uint4*>(to + piece / 8 * kPanel + in_panel(rows.warp % 4 * 16 + at, piece % 8)) = x;
  }
  show_to_products();
}

// A warpgroup's rows of a tile. Scores of the next chunk are on their way while values are folded in.
template <int D, class C>
__device__ __forceinline__ void attend(Memory<D>& memory, const Pages<C>& a, const RowsOfBlock<kRows>& rows,
                                       const Walk& walk, int group, Turn& turn) {
  const int lane = rows.lane;
  const Sights sights(rows, a, group);
  bf16* q = memory.q[group];
  meet_warpgroup(group);  // the tile before has been read
  load_rows<D>(q, a, rows);
  meet_warpgroup(group);
  int c = walk.first;
  const auto pass_over = [&](int end) {
    for (; c < end; ++c, turn.next()) {
      wait(&memory.full[turn.stage], turn.phase);
      memory.release(turn.stage);
    }
  };
  float most[2] = {-INFINITY, -INFINITY}, sum[2] = {}, mix[D / 8][4] = {};
  float score[kKeys / 8][4], here[2], ones[4], part[D / 8][4];
  Fragment p[kPages];
  const auto multiply_keys = [&](const Panels<D>& chunk) {
    const uint64_t left = across(q, 0), right = down(chunk.k, 0, 0);
#pragma unroll
    for (int i = 0; i < D / 16; ++i)
      multiply<true>(score, left + (i / 4 * kPanel / 8 + i % 4 * 2), right + i * kSixteen, i > 0);
    commit_products();
  };
  const auto multiply_values = [&](const Panels<D>& chunk) {
    const uint64_t right = down(chunk.v, 0, kPanel * int{sizeof(bf16)});
#pragma unroll
    for (int i = 0; i < kPages; ++i) multiply<true>(part, p[i], right + i * kSixteen, i > 0);
    commit_products();
  };
  const auto to_weights = [&] {
    const auto& scales = memory.scales[turn.stage];
    const int begin = c * kKeys;
    scale_scores<C>(score, here, scales[0], a.scale, c >= sights.all.first && c <= sights.all.last,
                    Sight{{rows.first[0] - begin, rows.first[1] - begin},
                          {rows.last[0] + 1 - begin, rows.last[1] + 1 - begin}},
                    lane);
    weigh<C>(p, ones, score, here, scales[1], lane);
  };
  const auto fold_values = [&](auto later) {  // all but so many batches of products have ended then
    const Fold folds[2] = {Fold(most[0], here[0]), Fold(most[1], here[1])};
    sum[0] = folds[0](sum[0], ones[0]), sum[1] = folds[1](sum[1], ones[2]);
    wait_for_products<later()>();
    settle(part);
    memory.release(turn.stage);
#pragma unroll
    for (int n = 0; n < D / 8; ++n)
#pragma unroll
      for (int j = 0; j < 4; ++j) mix[n][j] = folds[j / 2](mix[n][j], part[n][j]);
  };
  pass_over(sights.any.last < sights.any.first ? walk.last + 1 : sights.any.first);
  if (c <= sights.any.last) {
    wait(&memory.full[turn.stage], turn.phase);
    begin_products();
    multiply_keys(memory.chunks[turn.stage]);
    wait_for_products<0>();
    settle(score);
    for (; c < sights.any.last; ++c) {
      to_weights();
      Turn next = turn;
      next.next();
      wait(&memory.full[next.stage], next.phase);
      begin_products();
      multiply_values(memory.chunks[turn.stage]);
      multiply_keys(memory.chunks[next.stage]);
      fold_values(std::integral_constant<int, 1>());
      turn = next;
      wait_for_products<0>();
      settle(score);
    }
    to_weights();
    begin_products();
    multiply_values(memory.chunks[turn.stage]);
    fold_values(std::integral_constant<int, 0>());
    ++c, turn.next();
  }
  pass_over(walk.last + 1);
  rows.put<D>(a, mix, sum);
}

// Tiles see less and less: of as many as there are blocks, a block has one from the front, of the next ones
// one from the back, and so on, so that all end together.
template <int D, class C>
__global__ void __launch_bounds__((kGroups + 1) * kGroup, 1)
    prefill(Pages<C> a, int64_t sequences, unsigned tiles) {
#ifdef FLAGSCALE_HOPPER
  extern __shared__ uint8_t unaligned[];
  auto& memory = *reinterpret_cast<Memory<D>*>(unaligned + (-shared_address(unaligned) & 1023));
  memory.init();
  let_next_start();
  const auto kv_heads = static_cast<unsigned>(a.kv_heads);
  const int from = first_of_many(a, sequences);  // which comes with a step's inputs, before its first kernel
  const unsigned before = static_cast<unsigned>(first_block_of<kRows>(a, from)) * kv_heads;
  const auto for_tiles = [&](auto&& body) {
    for (unsigned i = 0;; ++i) {
      const unsigned first = before + i * gridDim.x,
                     tile = first + (i % 2 ? gridDim.x - 1 - blockIdx.x : blockIdx.x);
      if (first >= tiles) return;
      if (tile >= tiles) continue;
      const RowsOfBlock<kRows> rows(a, sequences, tile / kv_heads, tile % kv_heads, from);
      if (!rows.none()) body(rows, Walk{rows.lowest / kKeys, rows.highest / kKeys});
    }
  };
  const int group = __shfl_sync(0xffffffffu, static_cast<int>(threadIdx.x) / kGroup, 0);
  Turn turn;
  wait_for_previous();
  if (group == kGroups) {
    asm volatile("setmaxnreg.dec.sync.aligned.u32 72;");
    for_tiles([&](const RowsOfBlock<kRows>& rows, const Walk& walk) {
      Bringer<D, C>::bring(memory, a, Span{rows.s, rows.kv, rows.lowest, rows.end}, walk,
                           static_cast<int>(threadIdx.x) % kGroup / 32, rows.lane, turn);
    });
  } else {
    asm volatile("setmaxnreg.inc.sync.aligned.u32 216;");
    for_tiles([&](const RowsOfBlock<kRows>& rows, const Walk& walk) {
      attend<D, C>(memory, a, rows, walk, group, turn);
    });
  }
#else
  __trap();
#endif
}

template <int D, class C>
void launch(const Pages<C>& a, const PagedAttentionArgs& args, int64_t sequences) {
  constexpr size_t kBytes = sizeof(Memory<D>) + 1024;
  static const bool once = (allow_shared("paged_attention", prefill<D, C>, kBytes), true);
  (void)once;
  const int64_t tiles = row_blocks<kRows>(args, sequences) * a.kv_heads;
  const auto blocks = static_cast<unsigned>(std::min<int64_t>(tiles, processors()));
  launch_early(prefill<D, C>, dim3(blocks), (kGroups + 1) * kGroup, kBytes, a, sequences,
               static_cast<unsigned>(tiles));
}

}  // namespace

template <class C>
bool prefill_by_warpgroups(const Pages<C>& pages, const PagedAttentionArgs& args, int64_t sequences) {
  const int dim = args.shape.head_dim;
  if (!on_hopper() || !wide(args.q) || (dim != 64 && dim != 128)) return false;
  dim == 64 ? launch<64>(pages, args, sequences) : launch<128>(pages, args, sequences);
  return true;
}
template bool prefill_by_warpgroups(const Pages<bf16>&, const PagedAttentionArgs&, int64_t);
template bool prefill_by_warpgroups(const Pages<int8_t>&, const PagedAttentionArgs&, int64_t);

}  // namespace flagscale::op
