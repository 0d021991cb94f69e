#include "launch/diagnosis/log_scan.h"

#include <algorithm>

#include "launch/diagnosis/line_match.h"
#include "launch/diagnosis/time_stamp.h"

namespace flagscale::launch {

namespace {

constexpr size_t kTail = 20;
constexpr size_t kShown = 500;
// One line of progress may have been written before the error was, by another rank.
constexpr int64_t kProgressThatProves = 2;

const Pattern& code_error() {
  static const Pattern* const pattern = find_pattern("Traceback (most recent call last):");
  return *pattern;
}

// torchrun marks a program's own lines by the local rank alone, those of PyTorch's log by both.
Speaker key_of(const Speaker& speaker) {
  return speaker.local_rank >= 0 ? Speaker{-1, speaker.local_rank} : speaker;
}

bool is_trouble(Role role) { return role <= Role::kAftermath; }

}  // namespace

void LogScan::Tail::add(std::string_view line) {
  line = line.substr(0, kShown);
  if (ring_.size() < kTail)
    ring_.emplace_back(line);
  else
    ring_[next_].assign(line);
  next_ = (next_ + 1) % kTail;
}

std::vector<std::string> LogScan::Tail::lines() const {
  if (ring_.size() < kTail) return ring_;
  std::vector<std::string> result(ring_.begin() + static_cast<std::ptrdiff_t>(next_), ring_.end());
  result.insert(result.end(), ring_.begin(), ring_.begin() + static_cast<std::ptrdiff_t>(next_));
  return result;
}

LogScan::LogScan(int year)
    : year_(year), reader_([this](int64_t number, std::string_view line) { read_line(number, line); }) {}

void LogScan::read_line(int64_t number, std::string_view line) {
  lines_ = number;
  const Spoken spoken = take_speaker(line);
  if (torch_report_.read(spoken.text)) {
    learn_ranks();
    tail_.add(line);
    return;
  }
  const Speaker key = key_of(spoken.speaker);
  Voice& voice = voices_[key];
  if (spoken.speaker.rank >= 0) voice.rank = spoken.speaker.rank;
  if (!spoken.text.empty()) {
    voice.tail.add(spoken.text);
    tail_.add(line);
  }
  if (const auto stamp = time_stamp(spoken.text, year_)) time_ = stamp;
  const Place place{key, number, spoken.text};
  switch (voice.traceback.read(spoken.text)) {
    case Traceback::Line::kStarts:
      voice.traceback_line = number;
      break;
    case Traceback::Line::kFrame:
      break;
    case Traceback::Line::kException:
      end_traceback(voice, place, voice.traceback.exception());
      break;
    case Traceback::Line::kOutside:
      read_text(place);
      break;
  }
}

void LogScan::read_text(const Place& place) {
  const Pattern* pattern = find_pattern(place.text);
  if (!pattern || pattern->role == Role::kNothing) return;
  if (pattern->role == Role::kProgress) {
    ++progress_;
  } else if (pattern->role == Role::kStart) {
    ++starts_;
  } else {
    Place named = place;
    if (named.speaker == Speaker{}) named.speaker.rank = named_rank(place.text);
    note(*pattern, pattern->role, named, false);
  }
}

// Two findings: that Python code failed, and what the exception says. Where it speaks of another rank, so
// does the traceback.
void LogScan::end_traceback(Voice& voice, const Place& place, std::string_view exception) {
  const Pattern* pattern = find_pattern(exception);
  if (pattern && !is_trouble(pattern->role)) pattern = nullptr;
  const bool about_another =
      pattern && (pattern->role == Role::kConsequence || pattern->role == Role::kAftermath);
  note(code_error(), about_another ? pattern->role : Role::kCrash,
       {place.speaker, voice.traceback_line, exception}, true);
  if (pattern) note(*pattern, pattern->role, {place.speaker, place.line, exception}, true);
}

bool LogScan::survived(const Entry& entry) const {
  if (entry.finding.pattern->lasting || !is_trouble(entry.finding.role)) return false;
  return progress_ - entry.progress >= kProgressThatProves || starts_ > entry.start;
}

void LogScan::note(const Pattern& pattern, Role role, const Place& place, bool raised) {
  const auto [at, fresh] = index_.try_emplace({pattern.label, role, place.speaker}, entries_.size());
  if (fresh) entries_.emplace_back();
  Entry& entry = entries_[at->second];
  Finding& finding = entry.finding;
  if (fresh || survived(entry)) {
    finding.pattern = &pattern;
    finding.role = role;
    finding.speaker = place.speaker;
    finding.line = place.line;
    finding.text = place.text.substr(0, kShown);
    finding.time = time_;
    finding.raised = raised;
  }
  if (fresh) finding.first = place.line;
  finding.last = place.line;
  ++finding.count;
  entry.progress = progress_;
  entry.start = starts_;
}

void LogScan::flush() {
  reader_.flush();
  for (auto& [speaker, voice] : voices_)
    if (voice.traceback.open()) {  // cut off before its last line
      voice.traceback.close();
      note(code_error(), Role::kCrash, {speaker, voice.traceback_line, "Traceback (most recent call last):"},
           true);
    }
}

void LogScan::learn_ranks() {
  for (const Ending& ending : torch_report_.endings())
    if (const auto voice = voices_.find({-1, ending.local_rank});
        ending.local_rank >= 0 && voice != voices_.end())
      voice->second.rank = ending.rank;
}

Speaker LogScan::whole(const Speaker& key) const {
  const auto voice = voices_.find(key);
  return voice == voices_.end() ? key : Speaker{voice->second.rank, key.local_rank};
}

std::vector<Finding> LogScan::findings() const {
  std::vector<Finding> result;
  for (const Entry& entry : entries_) {
    result.push_back(entry.finding);
    result.back().speaker = whole(entry.finding.speaker);
    result.back().survived = survived(entry);
  }
  return result;
}

std::vector<Speaker> LogScan::speakers() const {
  std::vector<Speaker> result;
  for (const auto& [key, voice] : voices_) result.push_back({voice.rank, key.local_rank});
  return result;
}

bool LogScan::has_marks() const {
  return !torch_report_.endings().empty() ||
         std::any_of(voices_.begin(), voices_.end(),
                     [](const auto& voice) { return voice.first != Speaker{}; });
}

std::vector<std::string> LogScan::last_lines(const Speaker& speaker) const {
  if (speaker == Speaker{}) return tail_.lines();
  for (const auto& [key, voice] : voices_)
    if (key == key_of(speaker) || (speaker.rank >= 0 && voice.rank == speaker.rank))
      return voice.tail.lines();
  return tail_.lines();
}

}  // namespace flagscale::launch
