#include "launch/run/rank.h"

#include <fmt/format.h>
#include <sys/wait.h>

#include "launch/record/run_state.h"

namespace flagscale::launch {

std::string Rank::place() const { return fmt::format("rank {} on {}", task->rank, task->host.name); }

void Rank::open(const OpenLink& way_to) {
  cgroup.remove();
  const AgentLink opened = way_to(*task);
  link = std::make_unique<RankLink>(opened);
  way = opened.pid;
  local = opened.local;
}

void Rank::reap() {
  if (!link && way > 0 && waitpid(way, nullptr, WNOHANG) != 0) way = 0;
}

void Rank::forget_start() {
  started = false;
  status.reset(), ending.reset(), surely_gone.reset(), watch.reset();
  what.clear();
  code = 0;
  progress.emplace(task->rank);
}

void Rank::exited(const ExitStatus& its_status, const std::string& said, bool by_us) {
  status = its_status;
  watch.reset();
  if (ending) return;  // it hung, and that is why it was ended
  ending =
      launch::exited(task->rank, its_status.signal != 0 ? -its_status.signal : its_status.code, unix_now());
  ending->by_us = by_us;
  what = said.empty() ? describe(its_status) : said;
  code = its_status.code;
}

void Rank::ends(Ending::How how, int value, bool by_us) {
  ending = Ending{task->rank, how, value, unix_now(), by_us, -1};
}

}  // namespace flagscale::launch
