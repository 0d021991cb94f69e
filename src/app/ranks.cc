#include "app/ranks.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>

#include "base/error.h"
#include "base/log.h"
#include "base/parallel.h"
#include "comm/tcp/tcp_group.h"
#include "device/cuda/cuda.h"
#include "launch/launcher/rank_from_environment.h"

namespace flagscale {

namespace {
constexpr int kMasterPort = 29500;  // as torchrun's

// torchrun's own agent listens at MASTER_PORT, and says so: its ranks meet next to it.
int meeting_port(int master_port) {
  const char* store = std::getenv("TORCHELASTIC_USE_AGENT_STORE");
  if (store == nullptr || std::strcmp(store, "True") != 0) return master_port;
  return master_port == 65535 ? master_port - 1 : master_port + 1;
}
}  // namespace

std::unique_ptr<comm::ProcessGroup> join_ranks(const std::string& job) {
  const auto found = launch::rank_from_environment();
  if (!found || found->world_size == 1) return nullptr;
  if (found->master_addr.empty() && found->hosts.empty())
    fail(ErrorKind::kConfig, "{} started {} ranks and does not say where rank 0 is: set MASTER_ADDR",
         found->launcher, found->world_size);
  comm::Meeting meeting{.job = job, .rank = found->rank, .size = found->world_size};
  meeting.address = found->master_addr.empty() ? found->hosts.front() : found->master_addr;
  meeting.port = meeting_port(found->master_port != 0 ? found->master_port : kMasterPort);
  auto group = comm::join(meeting);
  if (found->rank == 0)
    info("{} ranks have met at {}:{}", found->world_size, meeting.address, meeting.port);
  else
    set_log_level(LogLevel::kWarning);
  return group;
}

void share_host(train::TrainOptions& options) {
  const auto found = launch::rank_from_environment();
  if (!found || found->world_size == 1) return;
  if (options.device == DeviceKind::kCuda) {
    const auto gpus = static_cast<int>(cuda::found().gpus.size());  // 1 where each rank is shown its own
    cuda::use(found->local_rank % gpus);
  }
  const bool said = std::getenv("FLAGSCALE_THREADS") != nullptr || std::getenv("OMP_NUM_THREADS") != nullptr;
  if (options.threads == 0 && found->local_size > 1 && !said)
    options.threads = std::max(1, available_cores() / found->local_size);
}

}  // namespace flagscale
