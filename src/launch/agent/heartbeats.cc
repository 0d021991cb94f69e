#include "launch/agent/heartbeats.h"

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <sstream>

#include "base/heartbeat.h"

namespace flagscale::launch {

namespace fs = std::filesystem;

std::optional<Beat> parse_beat(const std::string& source, std::string_view text) {
  const size_t end = text.find('\n');
  if (end == std::string_view::npos) return {};
  std::istringstream fields{std::string(text.substr(0, end))};
  Beat beat{.source = source};
  fields >> beat.phase >> beat.iteration >> beat.pid >> beat.beats >> beat.stack_signal;
  const bool known = std::find(std::begin(kPhases), std::end(kPhases), beat.phase) != std::end(kPhases);
  if (fields.fail() || !known || beat.pid <= 0) return {};
  for (std::string word; fields >> word;) {
    const size_t equals = word.find('=');
    if (equals == std::string::npos || equals == 0 || equals + 1 == word.size()) continue;
    char* rest = nullptr;
    const double value = std::strtod(word.c_str() + equals + 1, &rest);
    if (rest == word.c_str() + word.size()) beat.metrics[word.substr(0, equals)] = value;
  }
  return beat;
}

Heartbeats::Heartbeats(fs::path folder) : folder_(std::move(folder)) {
  std::error_code ignored;
  fs::remove_all(folder_, ignored);
  fs::create_directories(folder_, ignored);
}

void Heartbeats::remove() const {
  std::error_code ignored;
  if (!folder_.empty()) fs::remove_all(folder_, ignored);
}

std::vector<Beat> Heartbeats::news() {
  std::vector<Beat> fresh;
  std::error_code gone;
  if (folder_.empty()) return fresh;
  for (fs::directory_iterator at(folder_, gone), end; !gone && at != end; at.increment(gone)) {
    const fs::path file = at->path();
    std::ifstream in(file, std::ios::binary);
    std::string line;
    std::getline(in, line);
    const auto beat = in.good() ? parse_beat(file.filename(), line + "\n") : std::nullopt;
    if (!beat) continue;
    const auto before = last_.find(beat->source);
    if (before != last_.end() && before->second.beats == beat->beats && before->second.pid == beat->pid)
      continue;
    last_[beat->source] = *beat;
    fresh.push_back(*beat);
  }
  return fresh;
}

std::vector<Beat> Heartbeats::all() const {
  std::vector<Beat> beats;
  for (const auto& [source, beat] : last_) beats.push_back(beat);
  return beats;
}

}  // namespace flagscale::launch
