#include "train/optimizer/optimizer.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <map>

#include "base/error.h"
#include "base/nearest.h"

namespace flagscale::train {

Range Slot::numbers_of(Range some, Range part) const {
  if (some.size() == 0) return {};
  if (some == part) return {0, shape.numel()};
  return {(some.begin - part.begin) / each, (some.end - part.begin + each - 1) / each};
}

Tensor TrainedWeight::rows(const Tensor& of, int64_t first, int64_t count) const {
  return elements(of, {first * columns(), (first + count) * columns()}).reshape({count, columns()});
}

Tensor TrainedWeight::elements(const Tensor& of, Range some) const {
  const size_t offset = of.offset() + static_cast<size_t>(some.begin - held.begin) * size_of(of.dtype());
  return {of.storage(), offset, of.dtype(), {some.size()}};
}

Tensor TrainedWeight::whole(size_t slot) const {
  const auto first = std::find_if(slots.begin(), slots.end(), [](const auto& part) { return !part.empty(); });
  const Slot& begin = (*first)[slot];
  return {begin.bucket.storage(), begin.offset, begin.dtype, {held.size()}};
}

std::vector<Piece> Optimizer::pieces(const nn::Parameter& parameter) const {
  return {{parameter.shape.numel(), kLineElements}};
}

std::unique_ptr<Optimizer> make_optimizer(const OptimizerSpec& spec) {
  if (const MakeOptimizer* make = Registry<MakeOptimizer>::instance().find(spec.name)) return (*make)(spec);
  const std::string near = nearest(spec.name, optimizer_names());
  fail(ErrorKind::kConfig, "optimizer is '{}', expected one of: {}{}", spec.name,
       fmt::join(optimizer_names(), ", "), near.empty() ? "" : fmt::format("; did you mean {}?", near));
}

std::vector<std::string> optimizer_names() { return Registry<MakeOptimizer>::instance().names(); }

std::vector<Tensor> place_slots(std::span<TrainedWeight> weights, Arena& arena) {
  constexpr size_t kLine = 64;
  const auto aligned = [](size_t bytes) { return (bytes + kLine - 1) / kLine * kLine; };
  std::map<std::string, size_t> bytes;
  std::map<std::string, std::vector<Slot*>> of_role;
  for (size_t i = weights.size(); i-- > 0;) {
    for (auto& [role, end] : bytes) end = aligned(end);
    for (std::vector<Slot>& part : weights[i].slots)
      for (Slot& slot : part) {
        slot.offset = bytes[slot.role];
        bytes[slot.role] += slot.bytes();
        of_role[slot.role].push_back(&slot);
      }
  }
  std::vector<Tensor> buckets;
  for (const auto& [role, slots] : of_role) {
    const DType dtype = slots[0]->dtype;
    const auto elements = static_cast<int64_t>(aligned(bytes[role]) / size_of(dtype));
    buckets.push_back(arena.persistent("optimizer " + role, {elements}, dtype));
    for (Slot* slot : slots) slot->bucket = buckets.back();
  }
  return buckets;
}

Shape part_shape(const nn::Parameter& parameter, const nn::Part& part) {
  Shape shape = parameter.shape;
  shape[0] = part.rows;
  return shape;
}

Range part_range(const nn::Parameter& parameter, size_t part) {
  const int64_t columns = parameter.shape.numel() / parameter.shape[0];
  int64_t row = 0;
  for (size_t i = 0; i < part; ++i) row += parameter.parts[i].rows;
  return {row * columns, (row + parameter.parts[part].rows) * columns};
}

}  // namespace flagscale::train
