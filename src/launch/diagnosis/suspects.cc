#include "launch/diagnosis/suspects.h"

#include <algorithm>
#include <csignal>
#include <map>
#include <string_view>
#include <tuple>

namespace flagscale::launch {

namespace {

// A rank that is known; else a speaker of one log.
using Key = std::tuple<int, size_t, Speaker>;

constexpr size_t kNoLog = SIZE_MAX;

Key key_of(const RankLog& log, size_t number, const Speaker& speaker) {
  if (speaker.rank >= 0) return {speaker.rank, kNoLog, {}};
  if (log.speaker.rank >= 0) return {log.speaker.rank, kNoLog, {}};
  return {-1, number, speaker == Speaker{} ? log.speaker : speaker};
}

struct Evidence {
  std::optional<Finding> finding;
  size_t log = kNoLog;
  std::optional<Ending> ending;
};

// A traceback that has its exception's role says less than the exception.
bool is_worse(const Finding& a, const Finding& b) {
  return std::tuple(a.survived, a.role, a.pattern->role != a.role, a.line) <
         std::tuple(b.survived, b.role, b.pattern->role != b.role, b.line);
}

const Ending* ending_of(const std::vector<Ending>& endings, int rank) {
  const auto at =
      std::find_if(endings.begin(), endings.end(), [&](const Ending& e) { return e.rank == rank; });
  return at == endings.end() ? nullptr : &*at;
}

std::map<Key, Evidence> collect(const std::vector<RankLog>& logs, const std::vector<Ending>& endings) {
  std::map<Key, Evidence> ranks;
  for (size_t i = 0; i < logs.size(); ++i)
    for (Finding& finding : logs[i].scan->findings()) {
      if (finding.role > Role::kAftermath) continue;
      const Key key = key_of(logs[i], i, finding.speaker);
      const Ending* ending = ending_of(endings, std::get<0>(key));
      if (ending && !find_ending(*ending)) finding.survived = true;  // it ended well
      Evidence& evidence = ranks[key];
      if (!evidence.finding || is_worse(finding, *evidence.finding)) {
        evidence.finding = std::move(finding);
        evidence.log = i;
      }
    }
  for (const Ending& ending : endings)
    if (find_ending(ending)) ranks[Key{ending.rank, kNoLog, {}}].ending = ending;
  return ranks;
}

Role role_of(const Ending& ending) { return ending.by_us ? Role::kConsequence : find_ending(ending)->role; }

// A rank that says that it was told to stop, and was killed when it did not, has no cause of its own.
bool was_stopped(const Finding& finding, const Ending& ending) {
  const std::string_view label = finding.pattern->label;
  return ending.how == Ending::How::kSignal && ending.code == SIGKILL && finding.role == Role::kConsequence &&
         (label == "ProcessKilled" || label == "Stopped");
}

bool ending_says_more(const Finding& finding, const Ending& ending) {
  if (finding.survived) return true;
  return role_of(ending) < finding.role && !was_stopped(finding, ending);
}

size_t log_of_rank(const std::vector<RankLog>& logs, int rank) {
  for (size_t i = 0; i < logs.size(); ++i)
    if (logs[i].speaker.rank == rank) return i;
  for (size_t i = 0; i < logs.size(); ++i)
    for (const Speaker& speaker : logs[i].scan->speakers())
      if (speaker.rank == rank) return i;
  return kNoLog;
}

Suspect suspect_of(const std::vector<RankLog>& logs, const Key& key, const Evidence& evidence) {
  Suspect suspect;
  suspect.speaker = std::get<2>(key);
  if (std::get<0>(key) >= 0) suspect.speaker.rank = std::get<0>(key);
  if (evidence.finding) {
    suspect.speaker.local_rank = std::max(evidence.finding->speaker.local_rank, suspect.speaker.local_rank);
    suspect.host = logs[evidence.log].host;
    suspect.last_lines = logs[evidence.log].scan->last_lines(evidence.finding->speaker);
  } else {
    suspect = known_place(logs, suspect.speaker.rank);
  }
  suspect.ending = evidence.ending;
  if (!evidence.finding || (evidence.ending && ending_says_more(*evidence.finding, *evidence.ending))) {
    suspect.pattern = find_ending(*evidence.ending);
    suspect.role = role_of(*evidence.ending);
    return suspect;
  }
  const Finding& finding = *evidence.finding;
  suspect.pattern = finding.pattern;
  suspect.role = finding.role;
  suspect.survived = finding.survived;
  suspect.log = logs[evidence.log].name;
  suspect.line = finding.line;
  suspect.text = finding.text;
  suspect.time = finding.time;
  return suspect;
}

}  // namespace

Suspect known_place(const std::vector<RankLog>& logs, int rank) {
  Suspect suspect;
  suspect.speaker.rank = rank;
  const size_t at = log_of_rank(logs, rank);
  if (at == kNoLog) return suspect;
  suspect.host = logs[at].host;
  suspect.last_lines = logs[at].scan->last_lines(logs[at].speaker.rank == rank ? Speaker{} : suspect.speaker);
  return suspect;
}

std::vector<Ending> all_endings(const std::vector<RankLog>& logs, const std::vector<Ending>& given) {
  std::vector<Ending> all = given;
  for (const RankLog& log : logs)
    for (const Ending& ending : log.scan->endings())
      if (!ending_of(all, ending.rank)) all.push_back(ending);
  return all;
}

std::vector<Suspect> find_suspects(const std::vector<RankLog>& logs, const std::vector<Ending>& endings) {
  std::vector<Suspect> suspects;
  for (const auto& [key, evidence] : collect(logs, endings))
    suspects.push_back(suspect_of(logs, key, evidence));
  return suspects;
}

}  // namespace flagscale::launch
