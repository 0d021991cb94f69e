#pragma once
// Reads the signs of life that processes leave in a folder (base/heartbeat.h).

#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace flagscale::launch {

struct Beat {
  std::string source;  // the file: rank_0
  std::string phase = {};
  int64_t iteration = 0;
  int pid = 0;
  int64_t beats = 0;
  int stack_signal = 0;  // 0: it prints no stacks
  std::map<std::string, double> metrics = {};
};

// A line of such a file; none where it is not whole.
std::optional<Beat> parse_beat(const std::string& source, std::string_view line);

class Heartbeats {
 public:
  Heartbeats() = default;
  // Makes the folder, empty. What it cannot make is no error: then nothing beats.
  explicit Heartbeats(std::filesystem::path folder);
  void remove() const;

  const std::filesystem::path& folder() const { return folder_; }
  // Those that have beaten since the last call.
  std::vector<Beat> news();
  std::vector<Beat> all() const;  // as they were at the last news()

 private:
  std::filesystem::path folder_;
  std::map<std::string, Beat> last_;
};

}  // namespace flagscale::launch
