#include "launch/diagnosis/report.h"

#include <fmt/chrono.h>
#include <fmt/format.h>

#include <algorithm>
#include <ctime>
#include <nlohmann/json.hpp>
#include <string_view>

#include "base/whole_file.h"
#include "launch/diagnosis/log_file.h"

namespace flagscale::launch {

namespace {

using Json = nlohmann::ordered_json;

constexpr size_t kShownOthers = 8;

std::string shown_time(double seconds) {
  const auto time = static_cast<std::time_t>(seconds);
  std::tm broken{};
  gmtime_r(&time, &broken);
  return fmt::format("{:%Y-%m-%d %H:%M:%S}", broken);
}

std::string now() {
  const std::time_t time = std::time(nullptr);
  std::tm broken{};
  localtime_r(&time, &broken);
  return fmt::format("{:%Y-%m-%d %H:%M:%S}", broken);
}

std::string trimmed(std::string_view text) {
  const size_t first = text.find_first_not_of(" \t");
  return first == std::string_view::npos ? "" : std::string(text.substr(first));
}

// Our own errors name their fix; a traceback without a known exception, a code or an abort says nothing more.
bool speaks_for_itself(const Pattern& pattern) {
  const std::string_view label = pattern.label;
  return label == "FlagscaleError" || label == "CodeError" || label == "Exception" || label == "FatalError" ||
         pattern.role == Role::kAftermath;
}

std::string place(const Suspect& suspect) { return fmt::format("{}:{}", suspect.log, suspect.line); }

std::string ending_text(const Suspect& suspect) { return suspect.ending ? describe(*suspect.ending) : ""; }

std::string culprit_text(const Suspect& culprit) {
  std::string text =
      fmt::format("{}: {}\n  {}\n", who(culprit), culprit.pattern->label, culprit.pattern->meaning);
  if (!culprit.text.empty()) text += fmt::format("  {}: {}\n", place(culprit), trimmed(culprit.text));
  if (culprit.ending) text += fmt::format("  It ended with {}.\n", ending_text(culprit));
  text += fmt::format("What to do: {}\n", culprit.pattern->hint);
  if (culprit.last_lines.empty()) return text;
  text += "Its last lines:\n";
  for (const std::string& line : culprit.last_lines) text += fmt::format("  | {}\n", line);
  return text;
}

std::string other_text(const Suspect& suspect) {
  std::string text = fmt::format("  {}: {}", who(suspect), suspect.pattern->label);
  if (suspect.ending) text += ", " + ending_text(suspect);
  if (!suspect.text.empty())
    text += fmt::format(", {}: {}", place(suspect), trimmed(suspect.text).substr(0, 100));
  return text + (suspect.survived ? " (the job went on after it)\n" : "\n");
}

std::string others_text(const Diagnosis& diagnosis) {
  if (diagnosis.others.empty()) return "";
  std::string text = diagnosis.failed ? "Also found:\n" : "Noticed:\n";
  for (size_t i = 0; i < std::min(diagnosis.others.size(), kShownOthers); ++i)
    text += other_text(diagnosis.others[i]);
  if (diagnosis.others.size() > kShownOthers)
    text += fmt::format("  … and {} more\n", diagnosis.others.size() - kShownOthers);
  return text;
}

Json to_json_value(const Suspect& suspect) {
  const auto number = [](int value) { return value < 0 ? Json() : Json(value); };
  Json json{{"rank", number(suspect.speaker.rank)},
            {"local_rank", number(suspect.speaker.local_rank)},
            {"host", suspect.host},
            {"label", suspect.pattern->label},
            {"meaning", suspect.pattern->meaning},
            {"hint", suspect.pattern->hint},
            {"survived", suspect.survived},
            {"log", suspect.log},
            {"line", suspect.line == 0 ? Json() : Json(suspect.line)},
            {"text", suspect.text},
            {"time", suspect.time ? Json(shown_time(*suspect.time)) : Json()},
            {"ending", suspect.ending ? Json(ending_text(suspect)) : Json()},
            {"last_lines", suspect.last_lines}};
  return json;
}

// "12", or FlagScale's "12-40" for the first and the last line of several.
std::string finding_lines(const Finding& finding) {
  return finding.first == finding.last ? fmt::format("{}", finding.first)
                                       : fmt::format("{}-{}", finding.first, finding.last);
}

std::string finding_text(const Finding& finding, const std::string& log) {
  std::string text =
      fmt::format("[{}] {}: {} Check {} line:{}{}\n", finding.time ? shown_time(*finding.time) : now(),
                  finding.pattern->label, finding.pattern->meaning, log, finding_lines(finding),
                  finding.survived ? " (the job went on after it)" : "");
  text += fmt::format("    {}\n", trimmed(finding.text));
  if (*finding.pattern->hint) text += fmt::format("    What to do: {}\n", finding.pattern->hint);
  return text;
}

}  // namespace

std::string who(const Suspect& suspect) {
  const std::string speaker = describe(suspect.speaker);
  if (speaker.empty()) return suspect.host.empty() ? "the job" : suspect.host;
  return suspect.host.empty() ? speaker : fmt::format("{} on {}", speaker, suspect.host);
}

std::string to_text(const Diagnosis& diagnosis) {
  if (diagnosis.failed) return culprit_text(diagnosis.culprit) + others_text(diagnosis);
  return (diagnosis.completed ? "The job says that it is done; nothing shows a failure.\n"
                              : "Nothing shows a failure.\n") +
         others_text(diagnosis);
}

std::string explain(const std::vector<std::string>& last_lines) {
  LogScan scan(year_of({}));
  for (const std::string& line : last_lines) scan.feed(line + "\n");
  scan.flush();
  const Diagnosis diagnosis = diagnose({{{}, "", "", &scan}}, {});
  const Suspect& culprit = diagnosis.culprit;
  if (!diagnosis.failed || speaks_for_itself(*culprit.pattern)) return "";
  const std::string speaker = describe(culprit.speaker);
  return fmt::format("{}{}{}: {} What to do: {}", speaker, speaker.empty() ? "" : ": ",
                     culprit.pattern->label, culprit.pattern->meaning, culprit.pattern->hint);
}

std::string to_json(const Diagnosis& diagnosis) {
  Json others = Json::array();
  for (const Suspect& suspect : diagnosis.others) others.push_back(to_json_value(suspect));
  const Json json{{"failed", diagnosis.failed},
                  {"completed", diagnosis.completed},
                  {"culprit", diagnosis.failed ? to_json_value(diagnosis.culprit) : Json()},
                  {"others", std::move(others)}};
  return json.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
}

std::string diagnostic_text(int rank, const std::string& host, const std::string& log, const LogScan& scan) {
  std::string text =
      fmt::format("Diagnostic Report for {} (node {})\nGenerated at {}\nAnalysis:\n", host, rank, now());
  if (scan.lines() == 0) return text + "- Log file is empty or does not exist, no analysis possible.\n";
  const std::vector<Finding> findings = scan.findings();
  for (const Finding& finding : findings) text += finding_text(finding, log);
  return findings.empty() ? text + "- No errors or unknown error detected in logs.\n" : text;
}

std::filesystem::path write_diagnostic_file(const std::filesystem::path& folder, int rank,
                                            const std::string& host, const std::string& log,
                                            const LogScan& scan) {
  const std::filesystem::path file = folder / fmt::format("host_{}_{}_diagnostic.txt", rank, host);
  write_whole_file(file, diagnostic_text(rank, host, log, scan));
  return file;
}

}  // namespace flagscale::launch
