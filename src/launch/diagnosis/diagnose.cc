#include "launch/diagnosis/diagnose.h"

#include <algorithm>
#include <limits>
#include <set>
#include <string_view>
#include <tuple>

#include "launch/diagnosis/suspects.h"

namespace flagscale::launch {

namespace {

constexpr double kSameTime = 2;  // seconds: clocks of hosts differ, and a dying process takes its time

// It was told to stop: by its launcher, where another rank ended, or by someone.
bool is_stop(const Suspect& suspect) {
  const std::string_view label = suspect.pattern->label;
  return suspect.role == Role::kConsequence && (label == "ProcessKilled" || label == "Stopped");
}

// Said of ranks by what started them.
bool is_launchers(const Suspect& suspect) { return suspect.role == Role::kAftermath || is_stop(suspect); }

constexpr Pattern kSilent{
    "", "Silent", "All others lost this rank, and it says nothing of its end.",
    "It hangs, was killed, or its host is gone: look there for the process and in dmesg.", Role::kCrash};

// How much a suspect's own words count, least first: a cause of its own, a weak one, another rank's, none.
int rung(const Suspect& suspect) {
  if (suspect.survived) return 3;
  if (suspect.role == Role::kConsequence) return 2;
  if (suspect.speaker == Speaker{} && suspect.role == Role::kAftermath)
    return 2;  // a launcher's words about a rank
  return suspect.role == Role::kCause || suspect.role == Role::kCrash ? 0 : 1;
}

std::optional<double> end_time(const Suspect& suspect) {
  return suspect.ending ? suspect.ending->time : std::nullopt;
}

// Of those on the first rung, the ones that ended first, if all their ends have times.
std::vector<Suspect> first_to_end(std::vector<Suspect> suspects) {
  double first = std::numeric_limits<double>::infinity();
  for (const Suspect& suspect : suspects) {
    if (!end_time(suspect)) return suspects;
    first = std::min(first, *end_time(suspect));
  }
  std::erase_if(suspects, [&](const Suspect& suspect) { return *end_time(suspect) > first + kSameTime; });
  return suspects;
}

auto order(const Suspect& suspect) {
  const double never = std::numeric_limits<double>::infinity();
  return std::tuple(rung(suspect), suspect.role, suspect.time.value_or(never),
                    end_time(suspect).value_or(never), suspect.speaker, suspect.line);
}

bool comes_before(const Suspect& a, const Suspect& b) { return order(a) < order(b); }

std::set<int> known_ranks(const std::vector<RankLog>& logs, const std::vector<Ending>& endings) {
  std::set<int> ranks;
  for (const RankLog& log : logs) {
    if (log.speaker.rank >= 0) ranks.insert(log.speaker.rank);
    for (const Speaker& speaker : log.scan->speakers())
      if (speaker.rank >= 0) ranks.insert(speaker.rank);
  }
  for (const Ending& ending : endings) ranks.insert(ending.rank);
  return ranks;
}

// Whether it saw another rank's end: more than that it was told to stop.
bool complains(const Suspect& suspect) {
  return rung(suspect) < 2 || (rung(suspect) == 2 && !is_stop(suspect));
}

// The one rank that does not complain where all others do of another.
std::optional<Suspect> silent_one(const std::vector<RankLog>& logs, const std::vector<Ending>& endings,
                                  const std::vector<Suspect>& suspects) {
  std::set<int> ranks = known_ranks(logs, endings);
  for (const Suspect& suspect : suspects)
    if (complains(suspect)) ranks.erase(suspect.speaker.rank);
  if (ranks.size() != 1 || std::none_of(suspects.begin(), suspects.end(), complains)) return std::nullopt;
  Suspect silent = known_place(logs, *ranks.begin());
  silent.pattern = &kSilent;
  silent.role = kSilent.role;
  for (const Ending& ending : endings)
    if (ending.rank == silent.speaker.rank) silent.ending = ending;
  return silent;
}

Suspect choose(const std::vector<Suspect>& sorted) {
  std::vector<Suspect> best;
  for (const Suspect& suspect : sorted)
    if (rung(suspect) == rung(sorted.front())) best.push_back(suspect);
  best = first_to_end(std::move(best));
  return *std::min_element(best.begin(), best.end(), comes_before);
}

bool says_completed(const RankLog& log) {
  for (const Finding& finding : log.scan->findings())
    if (finding.role == Role::kCompleted && !finding.survived) return true;
  return false;
}

}  // namespace

Diagnosis diagnose(const std::vector<RankLog>& logs, const std::vector<Ending>& given) {
  const std::vector<Ending> endings = all_endings(logs, given);
  Diagnosis diagnosis;
  for (const RankLog& log : logs) diagnosis.completed = diagnosis.completed || says_completed(log);
  diagnosis.others = find_suspects(logs, endings);
  std::sort(diagnosis.others.begin(), diagnosis.others.end(), comes_before);
  if (diagnosis.others.empty() || rung(diagnosis.others.front()) == 3) return diagnosis;
  diagnosis.failed = true;
  std::optional<Suspect> silent;
  if (rung(diagnosis.others.front()) == 2) silent = silent_one(logs, endings, diagnosis.others);
  diagnosis.culprit = silent ? std::move(*silent) : choose(diagnosis.others);
  std::erase_if(diagnosis.others, [&](const Suspect& suspect) {
    if (suspect.speaker == Speaker{} && is_launchers(suspect)) return true;
    return suspect.speaker == diagnosis.culprit.speaker &&
           (suspect.speaker != Speaker{} || suspect.line == diagnosis.culprit.line);
  });
  return diagnosis;
}

}  // namespace flagscale::launch
