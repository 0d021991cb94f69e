#include "engine/weights.h"

#include <algorithm>

#include "model/weights.h"
#include "op/packed_linear/packed_linear.h"

namespace flagscale::engine {

void place_weights(Arena& arena, model::Decoder& decoder, DType dtype) {
  auto& list = decoder.parameters();
  for (nn::Parameter& p : list.parameters()) {
    if (p.shape.rank() == 2) p.packed = arena.persistent(p.name, op::packed_shape(p.shape[0], p.shape[1]), dtype);
    else p.value = arena.persistent(p.name, p.shape, DType::kF32);
  }
  for (nn::Constant& c : list.constants()) c.value = arena.persistent(c.name, c.shape, DType::kF32);
}

// Streams rows from the file into the panels, a piece at a time.
void load_weights(model::Decoder& decoder, const io::WeightSet& weights) {
  auto& list = decoder.parameters();
  model::fill_constants(list);
  std::vector<float> rows;
  for (nn::Parameter& p : list.parameters()) {
    int64_t at = 0;
    for (const nn::Part& part : p.parts) {
      model::check_shape(weights.info(part.name), p, part);
      const int64_t columns = p.shape.numel() / p.shape[0], step = std::max<int64_t>(1, (int64_t{1} << 20) / columns);
      for (int64_t begin = 0; begin < part.rows; begin += step) {
        const int64_t count = std::min(step, part.rows - begin);
        rows.resize(static_cast<size_t>(count * columns));
        weights.read_f32(part.name, begin, count, rows);
        if (p.packed.defined()) op::pack_rows(p.packed, at + begin, count, rows.data());
        else std::copy(rows.begin(), rows.end(), p.value.data<float>() + at + begin);
      }
      at += part.rows;
    }
  }
}

}  // namespace flagscale::engine
