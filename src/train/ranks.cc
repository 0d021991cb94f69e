#include "train/ranks.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <fstream>
#include <set>
#include <type_traits>
#include <vector>

#include "base/error.h"
#include "base/log.h"
#include "device/cuda/cuda.h"
#include "device/cuda/nccl.h"
#include "device/cuda/peers.h"
#include "op/elementwise/elementwise.h"
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

// Why two ranks' GPUs may not see each other's memory, "process off host" of each; "" where they may.
std::string why_unseen(const std::vector<std::string>& ranks) {
  const auto rest = [&](size_t r, size_t words) {
    size_t at = 0;
    for (; words > 0; --words) at = ranks[r].find(' ', at) + 1;
    return ranks[r].substr(at);
  };
  if (rest(0, 2) != rest(1, 2)) return "the ranks are on different hosts";
  if (ranks[0] == ranks[1]) return "the ranks are threads of one process";
  for (size_t r = 0; r < 2; ++r)
    if (rest(r, 1).front() == '1') return fmt::format("rank {}: NCCL_P2P_DISABLE is set", r);
  return {};
}

// What NCCL is told of machines on which GPUs do not copy to one another.
bool copies_are_off() {
  const char* value = std::getenv("NCCL_P2P_DISABLE");
  return value != nullptr && std::string(value) != "0";
}

cuda::PeerGpus::Add adding(const Team& team) {
  return [&team](float* to, const float* from, size_t count, void* stream) {
    const auto tensor = [count](const float* data) {
      auto storage = std::make_shared<Storage>();
      storage->device = {DeviceKind::kCuda, 0}, storage->bytes = count * sizeof(float);
      storage->data = const_cast<float*>(data);
      return Tensor(std::move(storage), 0, DType::kF32, {static_cast<int64_t>(count)});
    };
    const Isa isa = isa_of(DeviceKind::kCuda);
    KernelContext context{{DeviceKind::kCuda, 0}, isa, team, {}};
    const Tensor sum = tensor(to), other = tensor(from);
    op::kAdd.kernel(DeviceKind::kCuda, isa)(context, {other, sum, sum, stream});
  };
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

void Ranks::warn_slow(const std::string& why) const {
  if (first()) warn("gradients are added in main memory, which is slow: {}", why);
}

void Ranks::join_gpus(const TrainStep& step) {
  if (!group_) return;
  if (size() > 2)  // NCCL's order of more than two is not the ranks'
    return warn_slow(fmt::format("{} ranks, and their order is kept only there", size()));
  const std::string unseen = join_peers(step);
  if (unseen.empty()) return;
  const std::string why = why_apart(comm::gather(*group_, cuda::identity() + ' ' + cuda::nccl_missing()));
  if (!why.empty()) return warn_slow(fmt::format("{}; {}", unseen, why));
  info("gradients are added by NCCL: {}", unseen);
  cuda::NcclId id{};
  if (first()) id = cuda::make_nccl_id();
  comm::broadcast(*group_, std::as_writable_bytes(std::span(id)));
  gpus_ = std::make_unique<cuda::NcclGpus>(id, rank(), size(), [group = group_] { group->check_others(); });
}

// Why not; "" where they are.
std::string Ranks::join_peers(const TrainStep& step) {
  const std::string own = fmt::format("{} {} {}", getpid(), copies_are_off() ? 1 : 0, this_host());
  if (std::string why = why_unseen(comm::gather(*group_, own)); !why.empty()) return why;
  auto peers = std::make_unique<cuda::PeerGpus>(rank(), step.exchanged(), adding(step.team()),
                                                [group = group_] { group->check_others(); });
  std::string offer;
  if (std::string why = refused([&] { offer = peers->offer(); }); !why.empty()) return why;
  offer = comm::gather(*group_, offer)[static_cast<size_t>(1 - rank())];
  if (std::string why = refused([&] { peers->open(offer); }); !why.empty()) return why;
  if (std::string why = refused([&] { peers->try_out(); }); !why.empty()) return why;
  gpus_ = std::move(peers);
  return {};
}

// Why a rank cannot do it; "" where all have done it.
std::string Ranks::refused(const std::function<void()>& own) const {
  std::string reason;
  try {
    own();
  } catch (const Error& error) {
    reason = error.what();
  }
  const std::vector<std::string> all = comm::gather(*group_, reason);
  for (size_t r = 0; r < all.size(); ++r)
    if (!all[r].empty()) return fmt::format("rank {}: {}", r, all[r]);
  return {};
}

// Nobody frees what another one still sees.
void Ranks::leave_gpus() {
  if (!gpus_) return;
  gpus_.reset();
  comm::gather(*group_, {});
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

void Ranks::broadcast_mirrored(const TrainStep& step, std::span<std::byte> bytes) const {
  if (first()) step.mirrors().fetch(bytes);
  comm::broadcast(*group_, bytes);
  if (first())
    step.mirrors().drop(bytes);
  else
    step.mirrors().put(bytes);
}

void Ranks::take_from_first(Progression& progression, TrainStep& step, const io::Checkpoint* checkpoint) {
  if (!group_) return;
  static_assert(std::is_trivially_copyable_v<Progression>);
  comm::broadcast(*group_, std::as_writable_bytes(std::span(&progression, 1)));
  for (const TrainStep::State& state : step.loading()) {
    broadcast_mirrored(step, {static_cast<std::byte*>(state.weight.raw()), state.weight.bytes()});
    if (progression.updates == 0) continue;  // nothing is kept yet
    for (const TrainStep::Kept& kept : state.kept) broadcast_mirrored(step, kept.bytes);
  }
  if (!step.shares()) {
    if (!first()) step.weights_changed();
    return;
  }
  step.take_share();
  if (progression.updates > 0) take_kept(*group_, step, checkpoint);
}

std::vector<io::TensorSlice> Ranks::gather_snapshot(const TrainStep& step, bool optimizer,
                                                    const std::string& folder,
                                                    std::unique_ptr<io::AsideFile>& aside) {
  if (step.shares()) return train::gather_snapshot(*group_, step, optimizer, folder, aside);
  return first() ? snapshot(step, optimizer, step.copies_fit()) : std::vector<io::TensorSlice>();
}

}  // namespace flagscale::train
