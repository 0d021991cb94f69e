#include "comm/tcp/mesh.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <sstream>

#include "base/error.h"
#include "base/log.h"

namespace flagscale::comm {

namespace {

constexpr const char* kGreeting = "flagscale-ranks-1";
constexpr std::chrono::seconds kToSpeak{10};  // for a connection that is there: others wait behind it

// How long it goes on, and when it is worth a word.
struct Patience {
  explicit Patience(Clock::duration deadline)
      : tell(Clock::now() + std::min<Clock::duration>(std::chrono::seconds(15), deadline / 2)),
        until(Clock::now() + deadline) {}
  Clock::time_point tell, until;
};

struct Hello {
  std::string greeting, job;
  int rank = -1, size = 0, port = 0;
};

std::string text_of(const Hello& hello) {
  return fmt::format("{}\n{}\n{} {} {}", hello.greeting, hello.job, hello.rank, hello.size, hello.port);
}

Hello hello_of(const std::string& text) {
  Hello hello;
  std::istringstream in(text);
  std::getline(in, hello.greeting);
  std::getline(in, hello.job);
  in >> hello.rank >> hello.size >> hello.port;
  return hello;
}

// Why a newcomer cannot be one of us; "" when it can.
std::string objection(const Meeting& meeting, const Hello& hello, const std::vector<Neighbour>& known) {
  if (hello.job != meeting.job)
    return fmt::format(
        "rank 0 at this address is of the job '{}', this rank of '{}': use another MASTER_PORT", meeting.job,
        hello.job);
  if (hello.size != meeting.size)
    return fmt::format("rank 0 was started with WORLD_SIZE {}, rank {} with {}", meeting.size, hello.rank,
                       hello.size);
  if (hello.rank < 1 || hello.rank >= meeting.size)
    return fmt::format("there is no rank {} among {}", hello.rank, meeting.size);
  const Neighbour& other = known[static_cast<size_t>(hello.rank)];
  return other.socket
             ? fmt::format("there are two of rank {}: the other one is on {}", hello.rank, other.address)
             : "";
}

std::vector<int> missing(const std::vector<Neighbour>& known, size_t first) {
  std::vector<int> ranks;
  for (size_t r = first; r < known.size(); ++r)
    if (!known[r].socket) ranks.push_back(static_cast<int>(r));
  return ranks;
}

// Accepts ranks first, first + 1, … until all are there. What says nothing sensible is no rank: it is let go.
void accept_all(const Meeting& meeting, const Socket& listener, size_t first, Patience patience,
                std::vector<Neighbour>& known, std::vector<int>& ports) {
  const auto until = patience.until;
  while (!missing(known, first).empty()) {
    std::optional<Socket> socket = accept(listener, std::min(patience.tell, until));
    if (!socket && Clock::now() >= patience.tell && Clock::now() < until) {
      warn("waiting at {}:{} for rank{} {}", meeting.address, meeting.port,
           missing(known, first).size() == 1 ? "" : "s", fmt::join(missing(known, first), ", "));
      patience.tell = until;
    }
    if (!socket && Clock::now() < until) continue;
    if (!socket)
      fail(ErrorKind::kResource, "rank{} {} did not come to {}:{} within {:g} s: look at what {} said",
           missing(known, first).size() == 1 ? "" : "s", fmt::join(missing(known, first), ", "),
           meeting.address, meeting.port, meeting.deadline.count(),
           missing(known, first).size() == 1 ? "it" : "they");
    const auto soon = std::min(until, Clock::now() + Clock::duration(kToSpeak));
    Hello hello;
    try {
      hello = hello_of(socket->receive(soon));
    } catch (const Error& error) {
      if (error.kind() == ErrorKind::kInterrupted) throw;
      continue;
    }
    if (hello.greeting != kGreeting) continue;
    if (const std::string no = objection(meeting, hello, known); !no.empty()) {
      socket->send("no\n" + no, soon);
      continue;
    }
    const auto rank = static_cast<size_t>(hello.rank);
    ports[rank] = hello.port;
    known[rank].address = socket->peer_address();
    known[rank].socket = std::move(*socket);
  }
}

std::vector<Neighbour> receive_ranks(const Meeting& meeting, const Patience& patience) {
  std::vector<Neighbour> known(static_cast<size_t>(meeting.size));
  std::vector<int> ports(known.size());
  const Socket listener = listen_on(meeting.port);
  accept_all(meeting, listener, 1, patience, known, ports);
  std::string table = "yes\n";
  for (size_t r = 1; r < known.size(); ++r) table += fmt::format("{} {}\n", known[r].address, ports[r]);
  for (size_t r = 1; r < known.size(); ++r) known[r].socket.send(table, patience.until);
  return known;
}

std::vector<Neighbour> come_to_rank_0(const Meeting& meeting, const Patience& patience) {
  const auto [tell, until] = patience;
  std::vector<Neighbour> known(static_cast<size_t>(meeting.size));
  std::vector<int> ports(known.size());
  const Socket listener = listen_on(0);
  const Hello self{kGreeting, meeting.job, meeting.rank, meeting.size, listener.local_port()};
  known[0] = {connect_to(meeting.address, meeting.port, tell, until), meeting.address};
  known[0].socket.send(text_of(self), until);
  std::istringstream answer(known[0].socket.receive(until));
  std::string word;
  std::getline(answer, word);
  if (word != "yes") {
    std::getline(answer, word);
    fail(ErrorKind::kResource, "{}", word);
  }
  for (size_t r = 1; r < known.size(); ++r) answer >> known[r].address >> ports[r];
  const auto own = static_cast<size_t>(meeting.rank);
  for (size_t r = 1; r < own; ++r) {
    known[r].socket = connect_to(known[r].address, ports[r], tell, until);
    known[r].socket.send(text_of(self), until);
  }
  accept_all(meeting, listener, own + 1, patience, known, ports);
  return known;
}

}  // namespace

std::vector<Neighbour> connect_all(const Meeting& meeting) {
  const Patience patience(std::chrono::duration_cast<Clock::duration>(meeting.deadline));
  std::vector<Neighbour> known =
      meeting.rank == 0 ? receive_ranks(meeting, patience) : come_to_rank_0(meeting, patience);
  for (const Neighbour& neighbour : known)
    if (neighbour.socket) neighbour.socket.make_ready_for_data();
  return known;
}

}  // namespace flagscale::comm
