#include "op/packed_linear/fast_formats.h"

#include <algorithm>

namespace flagscale::op {

namespace {

// Perplexity of SmolLM2-135M-Instruct in each format, as docs/performance.md has it and
// bench/serve/perplexity.sh measures it: exact, kFast with keys and values in bf16, llama.cpp (0: reads no
// such file).
struct Measured {
  Packing packing;
  double exact, fast, peer;
};
constexpr Measured kMeasured[] = {
    {Packing::kBF16, 37.333, 37.351, 37.340}, {Packing::kInt8, 37.511, 37.553, 0},
    {Packing::kInt4, 47.886, 47.921, 0},      {Packing::kQ8_0, 37.401, 37.485, 37.505},
    {Packing::kQ4_0, 44.953, 45.062, 45.192}, {Packing::kQ4_1, 37.339, 37.349, 37.409},
    {Packing::kQ5_0, 39.552, 39.611, 39.663}, {Packing::kQ5_1, 43.350, 43.432, 43.545},
    {Packing::kQ4_K, 39.137, 39.245, 39.279}, {Packing::kQ5_K, 41.524, 41.609, 41.683},
    {Packing::kQ6_K, 37.659, 37.722, 37.884},
};

bool near(const Measured& m) {
  const bool integers = info(m.packing).bits > 0;
  return m.fast <= 1.005 * m.exact && (!integers || m.peer == 0 || m.fast <= m.peer);
}

}  // namespace

bool fast_is_near(Packing packing) {
  return std::ranges::any_of(kMeasured, [&](const Measured& m) { return m.packing == packing && near(m); });
}

}  // namespace flagscale::op
