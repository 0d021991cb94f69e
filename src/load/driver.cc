#include "load/driver.h"

#include <fmt/format.h>
#include <sys/resource.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <deque>
#include <thread>

#include "load/stream_reader.h"
#include "net/async_client.h"

namespace flagscale::load {

namespace {

using Clock = std::chrono::steady_clock;
constexpr std::chrono::milliseconds kGlance{100};
// Requests that are due within it go out together: a wake for each of thousands a second is time that a
// server on the same cores lacks.
constexpr std::chrono::milliseconds kTogether{1};

double processor_seconds() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  const auto seconds = [](const timeval& time) {
    return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_usec) * 1e-6;
  };
  return seconds(usage.ru_utime) + seconds(usage.ru_stime);
}

// All but run() happens on the client's thread.
class Driver {
 public:
  explicit Driver(const Load& load)
      : load_(load), records_(load.bodies.size()), ended_(load.bodies.size()), client_(load.server) {
    head_ = client_.head("POST", load.server.path, load.headers);
    for (size_t i = 0; i < records_.size(); ++i) records_[i].prompt_tokens = load.prompt_tokens[i];
  }

  Measured run(const std::function<bool(size_t)>& tick) {
    const double processor = processor_seconds();
    begin_ = Clock::now();
    Measured result;
    size_t next = 0;
    while (count_ < records_.size() && !result.interrupted) {
      const size_t due = due_from(next);
      if (due > next) client_.post([this, next, due] { arrive(next, due); });
      next = due;
      const auto now = Clock::now();
      std::this_thread::sleep_until(std::min(now + kGlance, std::max(now + kTogether, time_of(next))));
      if (count_ < records_.size()) result.interrupted = !called_lately() && !tick(count_);
    }
    finish(result);
    result.processor = processor_seconds() - processor;
    return result;
  }

 private:
  struct Request {
    size_t index;
    StreamReader reader;
  };

  Clock::time_point time_of(size_t index) const {
    if (index >= load_.times.size()) return Clock::time_point::max();
    return begin_ +
           std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(load_.times[index]));
  }
  size_t due_from(size_t index) const {
    const auto now = Clock::now();
    while (index < load_.times.size() && time_of(index) <= now) ++index;
    return index;
  }
  bool called_lately() {
    const auto now = Clock::now();
    if (now - called_ < kGlance) return true;
    called_ = now;
    return false;
  }
  double now() const { return std::chrono::duration<double>(Clock::now() - begin_).count(); }

  void arrive(size_t first, size_t last) {
    for (size_t i = first; i < last; ++i) waiting_.push_back(i);
    start_waiting();
  }
  void start_waiting() {
    while (!waiting_.empty() && (load_.concurrency == 0 || active_ < load_.concurrency)) {
      const size_t index = waiting_.front();
      waiting_.pop_front();
      start(index);
    }
  }
  void start(size_t index) {
    ++active_;
    Record& record = records_[index];
    record.start = now();
    record.waited = std::max(record.start - load_.times[index], 0.0);
    std::shared_ptr<StreamReader> reader;
    if (free_.empty())
      reader = std::make_shared<StreamReader>();
    else
      reader = std::move(free_.back()), free_.pop_back();
    client_.send(net::AsyncClient::message(head_, load_.bodies[index]),
                 {[this, &record, reader](std::string_view piece) {
                    reader->put(piece, now() - record.start, record);
                  },
                  [this, index, reader](const net::Response& head, const std::string& error) {
                    end(index, *reader, head, error);
                    reader->reset();
                    free_.push_back(reader);
                  }});
  }
  void end(size_t index, const StreamReader& reader, const net::Response& head, const std::string& error) {
    Record& record = records_[index];
    if (!error.empty())
      record.error = error;
    else if (head.status != 200)
      record.error = refusal(head, reader.rest());
    else if (!reader.started() && record.error.empty())
      record.error = "the answer held no token";
    else if (!reader.ended() && record.error.empty())
      record.error = "the answer broke off";
    record.success = record.error.empty();
    if (!record.success) record.latency = now() - record.start;
    if (record.output_tokens == 0) record.output_tokens = static_cast<int64_t>(record.token_gaps.size()) + 1;
    ended_[index] = true;
    last_ = now();
    --active_;
    start_waiting();
    ++count_;
  }
  static std::string refusal(const net::Response& head, const std::string& body) {
    const std::string message = error_message(body);
    return fmt::format("{} {}{}{}", head.status, net::reason(head.status), message.empty() ? "" : ": ",
                       message);
  }

  // The client's thread is asked for what there is, and holds still meanwhile.
  void finish(Measured& result) {
    std::atomic<bool> copied{false};
    client_.post([&] {
      waiting_.clear();
      result.seconds = result.interrupted ? now() : last_;
      for (size_t i = 0; i < records_.size(); ++i) {
        if (!ended_[i]) continue;
        result.records.push_back(std::move(records_[i]));
        result.indices.push_back(i);
      }
      copied = true;
      copied.notify_one();
    });
    copied.wait(false);
  }

  const Load& load_;
  std::string head_;
  std::vector<Record> records_;
  std::vector<bool> ended_;
  std::deque<size_t> waiting_;
  std::vector<std::shared_ptr<StreamReader>> free_;
  int64_t active_ = 0;
  double last_ = 0;
  std::atomic<size_t> count_{0};
  Clock::time_point begin_, called_;
  net::AsyncClient client_;  // joins its thread before the rest goes
};

}  // namespace

Measured drive(const Load& load, const std::function<bool(size_t)>& tick) { return Driver(load).run(tick); }

}  // namespace flagscale::load
