#pragma once
// A TCP connection whose waits have an end. Throws Error{kResource} naming the other side.

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>

namespace flagscale::comm {

using Clock = std::chrono::steady_clock;

class Socket {
 public:
  Socket() = default;
  explicit Socket(int file) : file_(file) {}
  ~Socket();
  Socket(Socket&& other) noexcept;
  Socket& operator=(Socket&& other) noexcept;

  int file() const { return file_; }
  explicit operator bool() const { return file_ >= 0; }
  std::string peer_address() const;  // numeric
  int local_port() const;

  // A text of at most 64 KiB, whole.
  void send(const std::string& text, Clock::time_point until) const;
  std::string receive(Clock::time_point until) const;

  // Packets leave at once, and nothing waits in read() or write(): for polling.
  void make_ready_for_data() const;

 private:
  int file_ = -1;
};

// Any free port where `port` is 0. Throws Error{kResource} naming a port that is taken.
Socket listen_on(int port);

// Empty when nobody came.
std::optional<Socket> accept(const Socket& listener, Clock::time_point until);

// Tries again while nobody listens there yet; from `tell` on, once, with a warning.
Socket connect_to(const std::string& address, int port, Clock::time_point tell, Clock::time_point until);

}  // namespace flagscale::comm
