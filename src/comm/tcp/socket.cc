#include "comm/tcp/socket.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <memory>
#include <thread>
#include <utility>

#include "base/error.h"
#include "base/interrupt.h"
#include "base/log.h"

namespace flagscale::comm {

namespace {

constexpr uint32_t kLongestText = 64 << 10;
constexpr std::chrono::milliseconds kLook{200}, kTryAgain{50};  // how soon Ctrl-C, or a new listener, is seen

int milliseconds_until(Clock::time_point until) {
  const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(until - Clock::now());
  return static_cast<int>(std::clamp(left, std::chrono::milliseconds(0), kLook).count());
}

// False at `until`.
bool wait_for(int file, short events, Clock::time_point until) {
  pollfd entry{file, events, 0};
  while (poll(&entry, 1, milliseconds_until(until)) <= 0) {
    throw_if_interrupted();
    if (Clock::now() >= until) return false;
  }
  return true;
}

std::string shown(const sockaddr_storage& address, socklen_t length) {
  char host[NI_MAXHOST] = "?";
  getnameinfo(reinterpret_cast<const sockaddr*>(&address), length, host, sizeof host, nullptr, 0,
              NI_NUMERICHOST);
  const std::string text = host;
  return text.starts_with("::ffff:") ? text.substr(7) : text;
}

using Addresses = std::unique_ptr<addrinfo, void (*)(addrinfo*)>;

Addresses resolve(const std::string& name, int port) {
  addrinfo hints{};
  hints.ai_family = AF_UNSPEC, hints.ai_socktype = SOCK_STREAM;
  addrinfo* found = nullptr;
  const int error = getaddrinfo(name.c_str(), std::to_string(port).c_str(), &hints, &found);
  if (error != 0)
    fail(ErrorKind::kResource, "the host {} has no address: {}; check MASTER_ADDR or the hostfile", name,
         gai_strerror(error));
  return {found, &freeaddrinfo};
}

// Empty, with errno, when nobody answers.
Socket try_to_connect(const addrinfo& address, Clock::time_point until) {
  Socket socket(::socket(address.ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!socket) return {};
  if (connect(socket.file(), address.ai_addr, address.ai_addrlen) == 0) return socket;
  if (errno != EINPROGRESS) return {};
  const auto soon = std::min(until, Clock::now() + std::chrono::seconds(5));
  int error = ETIMEDOUT;
  socklen_t length = sizeof error;
  if (wait_for(socket.file(), POLLOUT, soon))
    getsockopt(socket.file(), SOL_SOCKET, SO_ERROR, &error, &length);
  errno = error;
  return error == 0 ? std::move(socket) : Socket();
}

}  // namespace

Socket::~Socket() {
  if (file_ >= 0) close(file_);
}

Socket::Socket(Socket&& other) noexcept : file_(std::exchange(other.file_, -1)) {}

Socket& Socket::operator=(Socket&& other) noexcept {
  std::swap(file_, other.file_);
  return *this;
}

std::string Socket::peer_address() const {
  sockaddr_storage address{};
  socklen_t length = sizeof address;
  getpeername(file_, reinterpret_cast<sockaddr*>(&address), &length);
  return shown(address, length);
}

int Socket::local_port() const {
  sockaddr_storage address{};
  socklen_t length = sizeof address;
  getsockname(file_, reinterpret_cast<sockaddr*>(&address), &length);
  return ntohs(address.ss_family == AF_INET6 ? reinterpret_cast<sockaddr_in6&>(address).sin6_port
                                             : reinterpret_cast<sockaddr_in&>(address).sin_port);
}

void Socket::send(const std::string& text, Clock::time_point until) const {
  const auto size = static_cast<uint32_t>(text.size());
  std::string bytes(reinterpret_cast<const char*>(&size), sizeof size);
  bytes += text;
  for (size_t done = 0; done < bytes.size();) {
    if (!wait_for(file_, POLLOUT, until)) fail(ErrorKind::kResource, "{} takes no bytes", peer_address());
    const ssize_t n = ::send(file_, bytes.data() + done, bytes.size() - done, MSG_NOSIGNAL);
    if (n < 0 && errno != EAGAIN && errno != EINTR)
      fail(ErrorKind::kResource, "{}: {}", peer_address(), std::strerror(errno));
    if (n > 0) done += static_cast<size_t>(n);
  }
}

std::string Socket::receive(Clock::time_point until) const {
  const auto read = [&](char* to, size_t size) {
    for (size_t done = 0; done < size;) {
      if (!wait_for(file_, POLLIN, until)) fail(ErrorKind::kResource, "{} says nothing", peer_address());
      const ssize_t n = recv(file_, to + done, size - done, 0);
      if (n == 0) fail(ErrorKind::kResource, "the connection with {} was closed", peer_address());
      if (n < 0 && errno != EAGAIN && errno != EINTR)
        fail(ErrorKind::kResource, "{}: {}", peer_address(), std::strerror(errno));
      if (n > 0) done += static_cast<size_t>(n);
    }
  };
  std::array<char, sizeof(uint32_t)> head;
  read(head.data(), head.size());
  uint32_t size = 0;
  std::memcpy(&size, head.data(), sizeof size);
  if (size > kLongestText) fail(ErrorKind::kResource, "{} is no rank of a job", peer_address());
  std::string text(size, '\0');
  read(text.data(), size);
  return text;
}

void Socket::make_ready_for_data() const {
  const int yes = 1;
  setsockopt(file_, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
  setsockopt(file_, SOL_SOCKET, SO_KEEPALIVE, &yes, sizeof yes);
  fcntl(file_, F_SETFL, fcntl(file_, F_GETFL) | O_NONBLOCK);
}

Socket listen_on(int port) {
  const int yes = 1, no = 0;
  Socket socket(::socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0));
  int bound = -1;
  if (socket) {
    sockaddr_in6 any{};
    any.sin6_family = AF_INET6, any.sin6_port = htons(static_cast<uint16_t>(port));
    setsockopt(socket.file(), IPPROTO_IPV6, IPV6_V6ONLY, &no, sizeof no);
    setsockopt(socket.file(), SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
    bound = bind(socket.file(), reinterpret_cast<sockaddr*>(&any), sizeof any);
  }
  if (bound != 0 && errno != EADDRINUSE) {  // a kernel without IPv6
    socket = Socket(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_in any{};
    any.sin_family = AF_INET, any.sin_port = htons(static_cast<uint16_t>(port));
    setsockopt(socket.file(), SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
    bound = bind(socket.file(), reinterpret_cast<sockaddr*>(&any), sizeof any);
  }
  if (bound != 0 || listen(socket.file(), SOMAXCONN) != 0)
    fail(ErrorKind::kResource,
         "cannot listen on port {}: {}; choose another with MASTER_PORT or runner.master_port", port,
         std::strerror(errno));
  return socket;
}

std::optional<Socket> accept(const Socket& listener, Clock::time_point until) {
  if (!wait_for(listener.file(), POLLIN, until)) return {};
  Socket socket(accept4(listener.file(), nullptr, nullptr, SOCK_CLOEXEC));
  if (!socket) return {};
  return socket;
}

Socket connect_to(const std::string& address, int port, Clock::time_point tell, Clock::time_point until) {
  const Addresses addresses = resolve(address, port);
  int error = 0;
  while (Clock::now() < until) {
    for (const addrinfo* a = addresses.get(); a != nullptr; a = a->ai_next) {
      if (Socket socket = try_to_connect(*a, until)) return socket;
      error = errno;
    }
    throw_if_interrupted();
    if (Clock::now() >= tell) {
      warn("nobody answers at {}:{} yet ({}): trying on", address, port, std::strerror(error));
      tell = until;
    }
    std::this_thread::sleep_for(kTryAgain);
  }
  fail(ErrorKind::kResource,
       "nobody answers at {}:{} ({}): is rank 0 running there, and does a firewall let it?", address, port,
       std::strerror(error));
}

}  // namespace flagscale::comm
