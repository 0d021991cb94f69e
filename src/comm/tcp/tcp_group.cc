#include "comm/tcp/tcp_group.h"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <poll.h>
#include <sys/socket.h>

#include <cerrno>
#include <cstdint>
#include <cstring>

#include "base/error.h"
#include "comm/tcp/mesh.h"

namespace flagscale::comm {

namespace {

enum class Kind : uint32_t { kData, kAbort };

struct Head {
  Kind kind = Kind::kData;
  uint32_t unused = 0;
  uint64_t size = 0;
};

// One rank's half of an exchange.
struct Peer {
  Socket socket;
  std::string address;

  Head out_head, in_head;
  std::span<const std::byte> out;
  std::span<std::byte> in;
  size_t sent = sizeof(Head), received = sizeof(Head);  // heads included
  bool deaf = false;                                    // it takes no more; it may have said why

  bool sends() const { return !deaf && sent < sizeof(Head) + out.size(); }
  bool receives() const { return received < sizeof(Head) + in.size(); }
};

class TcpGroup final : public ProcessGroup {
 public:
  explicit TcpGroup(const Meeting& meeting)
      : rank_(meeting.rank), deadline_(meeting.deadline), peers_(static_cast<size_t>(meeting.size)) {
    std::vector<Neighbour> known = connect_all(meeting);
    for (size_t r = 0; r < known.size(); ++r) {
      peers_[r].socket = std::move(known[r].socket);
      peers_[r].address = known[r].address;
    }
  }

  int rank() const override { return rank_; }
  int size() const override { return static_cast<int>(peers_.size()); }

  void exchange(std::span<const std::span<const std::byte>> send,
                std::span<const std::span<std::byte>> receive) override {
    if (!error_.empty()) fail(ErrorKind::kResource, "{}", error_);
    for (size_t r = 0; r < peers_.size(); ++r) {
      if (static_cast<int>(r) == rank_) {
        if (!send[r].empty()) std::memcpy(receive[r].data(), send[r].data(), send[r].size());
        continue;
      }
      Peer& peer = peers_[r];
      peer.out_head = {Kind::kData, 0, send[r].size()};
      peer.out = send[r], peer.in = receive[r];
      peer.sent = peer.received = 0;
    }
    auto moved = Clock::now();
    while (wait()) {
      bool any = false;
      for (size_t i = 0; i < polled_.size(); ++i) any = serve(who_[i], polled_[i].revents) || any;
      if (any) moved = Clock::now();
      if (Clock::now() - moved > deadline_) end(silent());
    }
  }

  void check_others() override {
    if (!error_.empty()) fail(ErrorKind::kResource, "{}", error_);
    for (size_t r = 0; r < peers_.size(); ++r) {
      Peer& peer = peers_[r];
      if (!peer.socket) continue;
      Head head;
      const ssize_t n = recv(peer.socket.file(), &head, sizeof head, MSG_PEEK | MSG_DONTWAIT);
      if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR)) end_gone(r, n == 0 ? 0 : errno);
      if (n == sizeof head && head.kind == Kind::kAbort) hear(peer);  // else its part of the next collective
    }
  }

  void abort(const std::string& what) noexcept override {
    try {
      if (error_.empty()) tell(fmt::format("rank {}: {}", rank_, what));
    } catch (const std::exception&) {  // no memory for the words: the closed connections say it
    }
  }

 private:
  static constexpr int kLook = 200;  // ms

  // Until something can be moved; false when everything was.
  bool wait() {
    polled_.clear(), who_.clear();
    for (size_t r = 0; r < peers_.size(); ++r) {
      const Peer& peer = peers_[r];
      if (!peer.socket || (!peer.sends() && !peer.receives())) continue;
      const int events = (peer.sends() ? POLLOUT : 0) | (peer.receives() ? POLLIN : 0);
      polled_.push_back({peer.socket.file(), static_cast<short>(events), 0});
      who_.push_back(r);
    }
    if (polled_.empty()) return false;
    poll(polled_.data(), polled_.size(), kLook);
    return true;
  }

  // True when bytes moved.
  bool serve(size_t rank, int events) {
    bool moved = false;
    if ((events & (POLLIN | POLLHUP | POLLERR)) != 0 && peers_[rank].receives()) moved = read_from(rank);
    if ((events & (POLLOUT | POLLERR)) != 0 && peers_[rank].sends()) moved = write_to(rank) || moved;
    return moved;
  }

  bool write_to(size_t rank) {
    Peer& peer = peers_[rank];
    const bool head = peer.sent < sizeof(Head);
    const auto* const from = head ? reinterpret_cast<const std::byte*>(&peer.out_head) + peer.sent
                                  : peer.out.data() + (peer.sent - sizeof(Head));
    const size_t size = (head ? sizeof(Head) : sizeof(Head) + peer.out.size()) - peer.sent;
    const ssize_t n = ::send(peer.socket.file(), from, size, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (n < 0 && errno != EAGAIN && errno != EINTR) {
      peer.deaf = true;
      if (!peer.receives()) end_gone(rank, errno);
    }
    if (n > 0) peer.sent += static_cast<size_t>(n);
    return n > 0;
  }

  bool read_from(size_t rank) {
    Peer& peer = peers_[rank];
    const bool head = peer.received < sizeof(Head);
    auto* const to = head ? reinterpret_cast<std::byte*>(&peer.in_head) + peer.received
                          : peer.in.data() + (peer.received - sizeof(Head));
    const size_t size = (head ? sizeof(Head) : sizeof(Head) + peer.in.size()) - peer.received;
    const ssize_t n = recv(peer.socket.file(), to, size, MSG_DONTWAIT);
    if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR)) end_gone(rank, n == 0 ? 0 : errno);
    if (n <= 0) return false;
    peer.received += static_cast<size_t>(n);
    if (head && peer.received == sizeof(Head)) check_head(rank);
    return true;
  }

  void check_head(size_t rank) {
    const Peer& peer = peers_[rank];
    if (peer.in_head.kind == Kind::kAbort) end(words_of(peer));
    if (peer.in_head.size != peer.in.size())
      end(fmt::format("{} sent {} bytes where rank {} expected {}: the ranks run different programs",
                      place(rank), peer.in_head.size, rank_, peer.in.size()));
  }

  static std::string words_of(const Peer& peer) {
    std::string words(std::min<uint64_t>(peer.in_head.size, 64 << 10), '\0');
    size_t got = 0;
    pollfd entry{peer.socket.file(), POLLIN, 0};
    while (got < words.size() && poll(&entry, 1, 1000) > 0) {
      const ssize_t n = recv(peer.socket.file(), words.data() + got, words.size() - got, MSG_DONTWAIT);
      if (n <= 0 && errno != EINTR) break;
      if (n > 0) got += static_cast<size_t>(n);
    }
    words.resize(got);
    return words;
  }

  std::string place(size_t rank) const { return fmt::format("rank {} on {}", rank, peers_[rank].address); }

  std::string silent() const {
    std::vector<std::string> places;
    for (const size_t rank : who_) places.push_back(place(rank));
    return fmt::format("{}: nothing was heard for {:g} s", fmt::join(places, ", "), deadline_.count());
  }

  // Words that were announced.
  [[noreturn]] void hear(Peer& peer) {
    recv(peer.socket.file(), &peer.in_head, sizeof(Head), MSG_DONTWAIT);
    end(words_of(peer));
  }

  // 0: it closed the connection. Why may stand behind the last bytes of this or another rank: whoever hears
  // of it tells, and closes.
  [[noreturn]] void end_gone(size_t rank, int error) {
    for (Peer& peer : peers_) {
      Head head;
      const bool between = peer.socket && (peer.received == 0 || !peer.receives());
      if (between && recv(peer.socket.file(), &head, sizeof head, MSG_PEEK | MSG_DONTWAIT) == sizeof head &&
          head.kind == Kind::kAbort)
        hear(peer);
    }
    end(fmt::format("{} is gone: {}", place(rank),
                    error == 0 ? "its connection was closed" : std::strerror(error)));
  }

  [[noreturn]] void end(const std::string& what) {
    tell(what);
    fail(ErrorKind::kResource, "{}", error_);
  }

  // The first words count, here and at those who are told. A peer that waits for the rest of some bytes
  // would take words for them: it learns from the closed connection.
  void tell(const std::string& what) {
    error_ = what;
    const Head head{Kind::kAbort, 0, what.size()};
    std::string frame(reinterpret_cast<const char*>(&head), sizeof head);
    frame += what;
    for (Peer& peer : peers_) {
      if (!peer.socket) continue;
      const bool between = peer.sent == 0 || peer.sent == sizeof(Head) + peer.out.size();
      if (between) ::send(peer.socket.file(), frame.data(), frame.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
      shutdown(peer.socket.file(), SHUT_WR);
    }
  }

  int rank_;
  std::chrono::duration<double> deadline_;
  std::vector<Peer> peers_;
  std::vector<pollfd> polled_;
  std::vector<size_t> who_;
  std::string error_;
};

}  // namespace

std::unique_ptr<ProcessGroup> join(const Meeting& meeting) { return std::make_unique<TcpGroup>(meeting); }

}  // namespace flagscale::comm
