#include "train/ranks.h"

#include <type_traits>
#include <vector>

#include "base/error.h"

namespace flagscale::train {

Ranks::Ranks(comm::ProcessGroup* group) : group_(group != nullptr && group->size() > 1 ? group : nullptr) {
  if (group_) reducer_.emplace(*group_);
}

void Ranks::sum(std::span<double> values) {
  if (reducer_) reducer_->sum(values);
}

void Ranks::sum_gradients(TrainStep& step) {
  if (reducer_) step.reduce_gradients(*reducer_);
}

void Ranks::agree_on(const char* what, const std::function<std::string()>& own) {
  if (!group_) return;
  const std::vector<std::string> all = comm::gather(*group_, own());
  for (size_t r = 1; r < all.size(); ++r)
    if (all[r] != all[0])
      fail(ErrorKind::kInvalidArgument, "the ranks differ in {}: rank {} has {}, rank 0 has {}", what, r,
           all[r], all[0]);
}

void Ranks::take_from_first(Progression& progression, TrainStep& step) {
  if (!group_) return;
  static_assert(std::is_trivially_copyable_v<Progression>);
  comm::broadcast(*group_, std::as_writable_bytes(std::span(&progression, 1)));
  for (const TrainStep::State& state : step.states()) {
    comm::broadcast(*group_,
                    std::as_writable_bytes(std::span(state.weight, static_cast<size_t>(state.size))));
    if (progression.updates == 0) continue;  // nothing is kept yet
    for (const TrainStep::Kept& kept : state.kept) comm::broadcast(*group_, kept.bytes);
  }
  step.weights_changed();
}

}  // namespace flagscale::train
