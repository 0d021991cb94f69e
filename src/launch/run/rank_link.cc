#include "launch/run/rank_link.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

namespace flagscale::launch {

RankLink::RankLink(AgentLink link) : link_(link), writer_(link.to) {
  fcntl(link_.from, F_SETFL, fcntl(link_.from, F_GETFL) | O_NONBLOCK);
}

RankLink::~RankLink() {
  close(link_.to);
  close(link_.from);
}

void RankLink::order(const Order& order) {
  writer_.message(to_json(order));
  writer_.flush();
}

bool RankLink::receive() {
  char buffer[65536];
  for (;;) {
    const ssize_t got = read(link_.from, buffer, sizeof buffer);
    if (got > 0) {
      reader_.feed({buffer, static_cast<size_t>(got)});
      heard_ = Clock::now();
    } else if (got == 0 || errno != EINTR) {
      return got < 0 && errno == EAGAIN;
    }
  }
}

bool RankLink::next(Frame& frame) { return reader_.next(frame); }

std::string RankLink::why() const {
  std::string text = reader_.greeting();
  while (!text.empty() && (text.back() == '\n' || text.back() == '\r')) text.pop_back();
  return text.substr(text.rfind('\n') + 1);
}

}  // namespace flagscale::launch
