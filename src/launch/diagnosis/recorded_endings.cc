#include "launch/diagnosis/recorded_endings.h"

#include <csignal>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>

#include "launch/diagnosis/time_stamp.h"

namespace flagscale::launch {

namespace {

using EventJson = nlohmann::json;

class EndingEvents {
 public:
  void read(const EventJson& event) {
    const std::string kind = event.value("event", "");
    const int rank = event.value("rank", -1);
    if (kind == "starting" || kind == "restarting") {
      endings_.clear();
      over_ = false;
    } else if (kind == "exited" && rank >= 0) {
      const int signal = event.value("signal", 0);
      Ending ending = exited(rank, signal != 0 ? -signal : event.value("exit_code", 0), time_of(event));
      ending.by_us = event.value("by_us", over_);
      endings_.push_back(ending);
    } else if (kind == "failed rank") {
      fail(rank, event.value("text", ""), time_of(event));
    } else if (kind == "stopping") {
      over_ = true;
    }
  }
  const std::vector<Ending>& endings() const { return endings_; }

 private:
  static std::optional<double> time_of(const EventJson& event) {
    return time_stamp(event.value("time", ""), 0);
  }

  // A rank that failed without an end of its own: a host that is lost, a hang, an agent that took it along.
  void fail(int rank, const std::string& text, std::optional<double> time) {
    over_ = true;
    for (const Ending& ending : endings_)
      if (ending.rank == rank) return;
    if (text.find("lost") != std::string::npos)
      endings_.push_back({rank, Ending::How::kLost, 0, time, false, -1});
    else if (text == "hung")
      endings_.push_back({rank, Ending::How::kHung, 0, time, false, -1});
    else if (text.find("its agent was killed") != std::string::npos)
      endings_.push_back({rank, Ending::How::kSignal, SIGKILL, time, false, -1});
  }

  bool over_ = false;  // what ends now, ends by us
  std::vector<Ending> endings_;
};

}  // namespace

std::vector<Ending> recorded_endings(const std::filesystem::path& experiment) {
  std::ifstream in(experiment / "records" / "events.jsonl", std::ios::binary);
  EndingEvents events;
  for (std::string line; std::getline(in, line);) {
    const EventJson event = EventJson::parse(line, nullptr, false);
    if (!event.is_object()) continue;
    try {
      events.read(event);
    } catch (const EventJson::exception&) {  // a field of another type
    }
  }
  return events.endings();
}

}  // namespace flagscale::launch
