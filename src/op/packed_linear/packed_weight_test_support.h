#pragma once
// Weights in every format, with their values.

#include <array>
#include <cstring>

#include "op/op_testing.h"
#include "op/packed_linear/packed_linear.h"

namespace flagscale::op {

inline constexpr std::array kAll{Packing::kF32,  Packing::kBF16, Packing::kF16,  Packing::kInt8,
                                 Packing::kInt4, Packing::kQ8_0, Packing::kQ4_0, Packing::kQ4_1,
                                 Packing::kQ5_0, Packing::kQ5_1, Packing::kQ4_K, Packing::kQ5_K,
                                 Packing::kQ6_K};

inline bool integer(Packing packing) { return info(packing).bits > 0; }

// A block of a GGUF file: random bits, scales near 0.01.
inline std::vector<std::byte> random_blocks(Packing packing, int64_t count, std::mt19937& random) {
  const int64_t size = info(packing).source_bytes;
  std::vector<std::byte> bytes(static_cast<size_t>(count * size));
  for (std::byte& b : bytes) b = static_cast<std::byte>(random() & 255);
  const bool two = packing == Packing::kQ4_1 || packing == Packing::kQ5_1 || packing == Packing::kQ4_K ||
                   packing == Packing::kQ5_K;
  for (int64_t i = 0; i < count; ++i)
    for (int64_t at :
         {packing == Packing::kQ6_K ? int64_t{208} : int64_t{0}, two ? int64_t{2} : int64_t{-1}}) {
      if (at < 0) continue;
      const F16 scale = to_f16(0.01f + 1e-5f * static_cast<float>(random() % 1000));
      std::memcpy(bytes.data() + i * size + at, &scale, 2);
    }
  return bytes;
}

// A weight in a format, with its values as the packed copy holds them.
struct Packed {
  PackedWeight packed;
  Tensor weight, bias;
  Packed(int64_t out, int64_t in, Packing packing, Compute compute = Compute::kExact, unsigned seed = 0)
      : bias(testing::random_tensor({out}, 2, DType::kF32)) {
    const Tensor data = make_tensor(testing::allocator(), packed_shape(packing, out, in), DType::kU8);
    const Tensor values = testing::random_tensor({out, in}, 1 + 10 * seed, DType::kF32);
    std::mt19937 random(5 + seed);
    const bool blocks = integer(packing) && info(packing).source_bytes > 0 && in % info(packing).block == 0;
    for (int64_t row = 0; row < out; ++row) {
      if (blocks)
        pack_row(data, packing, row, in, random_blocks(packing, in / info(packing).block, random));
      else
        pack_row(data, packing, row, {values.data<float>() + row * in, static_cast<size_t>(in)});
    }
    packed = {{{packing, out, data}}, in, compute};
    std::vector<int32_t> ids(static_cast<size_t>(out));
    for (size_t i = 0; i < ids.size(); ++i) ids[i] = static_cast<int32_t>(i);
    const Team team(1);
    EagerRecorder recorder(testing::allocator(), team, Isa::kScalar);
    Context context{recorder, nullptr};
    weight = packed_rows(context, testing::int_tensor(ids), packed);
  }
  Tensor run(const Tensor& x, Isa isa, int threads = 2) const {
    const Team team(threads);
    EagerRecorder recorder(testing::allocator(), team, isa);
    Context context{recorder, nullptr};
    return packed_linear(context, x, packed, bias);
  }
};

// Two slices of k and the tail of one; whole blocks where a format has no other.
inline int64_t width_for(Packing packing) {
  return packing == Packing::kQ4_K || packing == Packing::kQ5_K || packing == Packing::kQ6_K ? 768
         : info(packing).source_bytes > 4                                                    ? 544
                                                                                             : 581;
}

}  // namespace flagscale::op
