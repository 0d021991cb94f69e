#include "comm/local/local_group.h"

#include <fmt/format.h>

#include <condition_variable>
#include <cstring>
#include <mutex>

#include "base/error.h"

namespace flagscale::comm {

namespace {

using Outgoing = std::span<const std::span<const std::byte>>;

// What the ranks of one process share: where each one's outgoing bytes are, and who has come.
class Room {
 public:
  Room(int size, std::chrono::duration<double> deadline)
      : deadline_(deadline), sent_(static_cast<size_t>(size)), came_(static_cast<size_t>(size)) {}

  void offer(int rank, Outgoing send) {
    const std::lock_guard lock(mutex_);
    sent_[static_cast<size_t>(rank)] = send;
  }
  Outgoing offered(size_t rank) const { return sent_[rank]; }

  // Between them nobody who leaves by an error takes its bytes along.
  void begin_reading() {
    const std::lock_guard lock(mutex_);
    if (!error_.empty()) fail(ErrorKind::kResource, "{}", error_);
    ++reading_;
  }
  void end_reading() {
    const std::lock_guard lock(mutex_);
    --reading_;
    changed_.notify_all();
  }
  // A rank's bytes may go: all have read them, or there is an error, after which none begins to.
  void wait_for_readers() {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return reading_ == 0; });
  }

  // Returns once every rank has called it as often as this one.
  void wait_for_all(int rank) {
    std::unique_lock lock(mutex_);
    const size_t turn = ++came_[static_cast<size_t>(rank)];
    changed_.notify_all();
    const auto all_came = [&] {
      for (const size_t came : came_)
        if (came < turn) return false;
      return true;
    };
    if (changed_.wait_for(lock, deadline_, [&] { return !error_.empty() || all_came(); }) && error_.empty())
      return;
    if (error_.empty()) {
      for (size_t r = 0; r < came_.size(); ++r)
        if (came_[r] < turn)
          error_ = fmt::format("rank {} was not heard of for {:g} s", r, deadline_.count());
      changed_.notify_all();
    }
    fail(ErrorKind::kResource, "{}", error_);
  }

  void check() {
    const std::lock_guard lock(mutex_);
    if (!error_.empty()) fail(ErrorKind::kResource, "{}", error_);
  }

  void end(const std::string& what) {
    const std::lock_guard lock(mutex_);
    if (error_.empty()) error_ = what;
    changed_.notify_all();
  }

 private:
  std::chrono::duration<double> deadline_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<Outgoing> sent_;
  std::vector<size_t> came_;
  int reading_ = 0;  // ranks
  std::string error_;
};

// However a scope is left.
template <class Body>
class AtEnd {
 public:
  explicit AtEnd(Body body) : body_(std::move(body)) {}
  ~AtEnd() { body_(); }
  AtEnd(const AtEnd&) = delete;
  AtEnd& operator=(const AtEnd&) = delete;

 private:
  Body body_;
};

class LocalGroup final : public ProcessGroup {
 public:
  LocalGroup(int rank, int size, std::shared_ptr<Room> room)
      : rank_(rank), size_(size), room_(std::move(room)) {}
  int rank() const override { return rank_; }
  int size() const override { return size_; }

  void exchange(Outgoing send, std::span<const std::span<std::byte>> receive) override {
    const AtEnd leave([this] { room_->wait_for_readers(); });
    room_->offer(rank_, send);
    room_->wait_for_all(rank_);
    read(receive);
    room_->wait_for_all(rank_);  // nobody's bytes change before all have read them
  }

  void check_others() override { room_->check(); }

  void abort(const std::string& what) noexcept override {
    try {
      room_->end(fmt::format("rank {}: {}", rank_, what));
    } catch (const std::exception&) {
      room_->end({});
    }
  }

 private:
  void read(std::span<const std::span<std::byte>> receive) {
    room_->begin_reading();
    const AtEnd read([this] { room_->end_reading(); });
    for (size_t r = 0; r < receive.size(); ++r) {
      const std::span<const std::byte> sent = room_->offered(r)[static_cast<size_t>(rank_)];
      if (sent.size() != receive[r].size()) {
        const std::string what = fmt::format(
            "rank {} sent {} bytes where rank {} expected {}: the ranks run "
            "different programs",
            r, sent.size(), rank_, receive[r].size());
        room_->end(what);
        fail(ErrorKind::kResource, "{}", what);
      }
      if (!sent.empty()) std::memcpy(receive[r].data(), sent.data(), sent.size());
    }
  }

  int rank_, size_;
  std::shared_ptr<Room> room_;
};

}  // namespace

std::vector<std::unique_ptr<ProcessGroup>> make_local_groups(int size,
                                                             std::chrono::duration<double> deadline) {
  const auto room = std::make_shared<Room>(size, deadline);
  std::vector<std::unique_ptr<ProcessGroup>> groups;
  for (int r = 0; r < size; ++r) groups.push_back(std::make_unique<LocalGroup>(r, size, room));
  return groups;
}

}  // namespace flagscale::comm
