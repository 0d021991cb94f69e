#include "model/merge.h"

#include "base/error.h"

namespace flagscale::model {

Merge::Merge(PeftAdapter adapter, const io::WeightSet& weights, float sign) {
  for (const PeftTarget& target : adapter.targets) {
    const std::string name = target.module + ".weight";
    const io::TensorInfo* weight = weights.find(name);
    if (!weight)
      fail(ErrorKind::kInvalidArgument,
           "the adapter adds to {}, which the model has not: it is of another one", name);
    if (weight->shape != std::vector<int64_t>{target.out, target.in})
      fail(ErrorKind::kInvalidArgument, "the adapter adds [{}, {}] to {}, which has {} rows of {}",
           target.out, target.in, name, weight->rows(), weight->row_elements());
    Target& t = targets_[name];
    t = {target.rank, target.in, adapter.weights->read_f32(target.a), adapter.weights->read_f32(target.b)};
    for (float& value : t.b) value *= sign * target.scale;
  }
}

void Merge::operator()(const std::string& name, int64_t begin, std::span<float> rows) const {
  const auto it = targets_.find(name);
  if (it == targets_.end()) return;
  const Target& t = it->second;
  const auto in = static_cast<size_t>(t.in), rank = static_cast<size_t>(t.rank);
  for (size_t r = 0; r < rows.size() / in; ++r) {
    const float* b = t.b.data() + (static_cast<size_t>(begin) + r) * rank;
    float* const out = rows.data() + r * in;
    for (size_t j = 0; j < rank; ++j)
      for (size_t i = 0; i < in; ++i) out[i] += b[j] * t.a[j * in + i];
  }
}

}  // namespace flagscale::model
