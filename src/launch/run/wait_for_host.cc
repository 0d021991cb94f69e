#include "launch/run/wait_for_host.h"

#include <netdb.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <thread>

#include "base/error.h"
#include "base/interrupt.h"
#include "base/log.h"

namespace flagscale::launch {

namespace {

using WaitClock = std::chrono::steady_clock;
constexpr std::chrono::milliseconds kBetweenTries{500};
constexpr int kConnectMilliseconds = 2000;

// "" where it is taken, else why not.
std::string connect_to(const addrinfo& address) {
  const int file = socket(address.ai_family, address.ai_socktype | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (file < 0) return std::strerror(errno);
  int error = connect(file, address.ai_addr, address.ai_addrlen) == 0 ? 0 : errno;
  pollfd waiting{file, POLLOUT, 0};
  if (error == EINPROGRESS && poll(&waiting, 1, kConnectMilliseconds) == 1) {
    socklen_t size = sizeof error;
    getsockopt(file, SOL_SOCKET, SO_ERROR, &error, &size);
  }
  close(file);
  return error == 0 ? "" : error == EINPROGRESS ? "no answer" : std::strerror(error);
}

std::string try_host(const std::string& host_and_port) {
  const size_t colon = host_and_port.rfind(':');
  const std::string host = host_and_port.substr(0, colon), port = host_and_port.substr(colon + 1);
  addrinfo hints{}, *found = nullptr;
  hints.ai_socktype = SOCK_STREAM;
  if (const int error = getaddrinfo(host.c_str(), port.c_str(), &hints, &found); error != 0)
    return gai_strerror(error);
  std::string why = "it has no address";
  for (const addrinfo* one = found; one && !why.empty(); one = one->ai_next) why = connect_to(*one);
  freeaddrinfo(found);
  return why;
}

}  // namespace

bool answers(const std::string& host_and_port) { return try_host(host_and_port).empty(); }

void wait_for_host(const std::string& host_and_port, std::chrono::seconds most) {
  const auto end = WaitClock::now() + most;
  for (bool told = false;; told = true) {
    const std::string why = try_host(host_and_port);
    if (why.empty()) return;
    if (WaitClock::now() >= end)
      fail(ErrorKind::kResource, "nothing answers at {} after {} s ({}): the first node is to start there",
           host_and_port, most.count(), why);
    if (!told) info("waiting for the first node at {} ({})", host_and_port, why);
    throw_if_interrupted();
    std::this_thread::sleep_for(kBetweenTries);
  }
}

}  // namespace flagscale::launch
