// folders: data
// seeds: tests/golden/data/a.idx tests/golden/data/b.idx tests/golden/data/c.idx
#include <span>

#include "base/error.h"
#include "data/index_view.h"

// Checks the input as an .idx file beside a .bin of some length, and walks over all that was accepted.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  constexpr uint64_t kBinBytes = 4096;
  try {
    const flagscale::data::IndexView view(std::as_bytes(std::span(data, size)), kBinBytes, "input.idx");
    int64_t tokens = 0;
    int modes = 0;
    for (int64_t d = 0; d < view.documents(); ++d)
      for (int64_t s = view.document(d); s < view.document(d + 1); ++s) {
        tokens += view.length(s);
        const int64_t bytes = view.length(s) * flagscale::data::size_of(view.type());
        modes |= view.mode(s);
        if (view.offset(s) < 0 || view.offset(s) + bytes > static_cast<int64_t>(kBinBytes)) __builtin_trap();
      }
    if (tokens != view.tokens() || (modes != 0 && !view.has_modes())) __builtin_trap();
  } catch (const flagscale::Error&) {  // refused: what a damaged file deserves
  }
  return 0;
}
