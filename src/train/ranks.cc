#include "train/ranks.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <fstream>
#include <set>
#include <type_traits>
#include <vector>

#include "base/error.h"
#include "base/log.h"
#include "device/cuda/cuda.h"
#include "train/shared_state.h"

namespace flagscale::train {

namespace {

// Why the GPUs of these ranks, "identity what-NCCL-lacks" each, do not add by themselves; "" where they do.
std::string why_apart(const std::vector<std::string>& ranks) {
  std::set<std::string> gpus;
  for (size_t r = 0; r < ranks.size(); ++r) {
    const size_t end = ranks[r].find(' ');
    if (end + 1 < ranks[r].size()) return fmt::format("rank {}: {}", r, ranks[r].substr(end + 1));
    if (!gpus.insert(ranks[r].substr(0, end)).second)
      return fmt::format("rank {} shares its GPU with another one", r);
  }
  if (ranks.size() > 2)  // NCCL's order of more than two is not the ranks'
    return fmt::format("{} ranks, and their order is kept only there", ranks.size());
  return {};
}

// Containers of one machine have names and limits of their own.
std::string this_host() {
  std::array<char, 256> name{};
  gethostname(name.data(), name.size() - 1);
  std::string boot;
  std::ifstream("/proc/sys/kernel/random/boot_id") >> boot;
  return std::string(name.data()) + ' ' + boot;
}

}  // namespace

Ranks::Ranks(comm::ProcessGroup* group) : group_(group != nullptr && group->size() > 1 ? group : nullptr) {
  if (group_) reducer_.emplace(*group_);
}

size_t Ranks::share_of(size_t free, const std::string& owner) const {
  if (!group_) return free;
  size_t least = free, sharing = 0;
  for (const std::string& text : comm::gather(*group_, fmt::format("{} {}", free, owner))) {
    if (text.substr(text.find(' ') + 1) != owner) continue;
    least = std::min<size_t>(least, std::stoull(text));
    ++sharing;
  }
  return least / sharing;
}

size_t Ranks::share_of_host(size_t free) const { return share_of(free, this_host()); }

void Ranks::sum(std::span<double> values) {
  if (reducer_) reducer_->sum(values);
}

bool Ranks::any(bool own) {
  double count = own ? 1 : 0;
  sum({&count, 1});
  return count != 0;
}

void Ranks::sum_gradients(TrainStep& step) {
  if (reducer_ && !gpus_) step.reduce_gradients(*reducer_);
}

void Ranks::join_gpus() {
  if (!group_) return;
  const std::string why = why_apart(comm::gather(*group_, cuda::identity() + ' ' + cuda::nccl_missing()));
  if (!why.empty()) return info("gradients are added in main memory: {}", why);
  cuda::NcclId id{};
  if (first()) id = cuda::make_nccl_id();
  comm::broadcast(*group_, std::as_writable_bytes(std::span(id)));
  gpus_ = std::make_unique<cuda::RankGpus>(id, rank(), size(), [group = group_] { group->check_others(); });
}

void Ranks::agree_on(const char* what, const std::function<std::string()>& own) {
  if (!group_) return;
  const std::vector<std::string> all = comm::gather(*group_, own());
  for (size_t r = 1; r < all.size(); ++r)
    if (all[r] != all[0])
      fail(ErrorKind::kInvalidArgument, "the ranks differ in {}: rank {} has {}, rank 0 has {}", what, r,
           all[r], all[0]);
}

void Ranks::gather_weights(TrainStep& step) {
  if (step.shares()) step.gather_weights({group_, gpus()});
}

float Ranks::gradient_norm(TrainStep& step) {
  const RankLink link{group_, gpus()};
  return step.gradient_norm(&link);
}

double Ranks::zero_gradients(const TrainStep& step) {
  double zeros = step.zero_gradients();
  if (step.shares()) sum({&zeros, 1});
  return zeros;
}

double Ranks::parameters_norm(const TrainStep& step) {
  return step.shares_weights() ? shared_norm(*group_, step) : step.parameters_norm();
}

void Ranks::take_from_first(Progression& progression, TrainStep& step, const io::Checkpoint* checkpoint) {
  if (!group_) return;
  static_assert(std::is_trivially_copyable_v<Progression>);
  comm::broadcast(*group_, std::as_writable_bytes(std::span(&progression, 1)));
  for (const TrainStep::State& state : step.loading()) {
    comm::broadcast(*group_, {static_cast<std::byte*>(state.weight.raw()), state.weight.bytes()});
    if (progression.updates == 0) continue;  // nothing is kept yet
    for (const TrainStep::Kept& kept : state.kept) comm::broadcast(*group_, kept.bytes);
  }
  if (!step.shares()) return step.weights_changed();
  step.take_share();
  if (progression.updates > 0) take_kept(*group_, step, checkpoint);
}

std::vector<io::TensorSlice> Ranks::gather_snapshot(const TrainStep& step, bool optimizer,
                                                    const std::string& folder,
                                                    std::unique_ptr<io::AsideFile>& aside) {
  if (step.shares()) return train::gather_snapshot(*group_, step, optimizer, folder, aside);
  return first() ? snapshot(step, optimizer) : std::vector<io::TensorSlice>();
}

}  // namespace flagscale::train
