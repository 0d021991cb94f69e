// Slurm's batch jobs: a script that runs this program again on the first host of an allocation.

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <fstream>
#include <sstream>

#include "base/error.h"
#include "launch/launcher/batch_system.h"
#include "launch/launcher/child.h"
#include "launch/shell_quote.h"

namespace flagscale::launch {

namespace {

constexpr int kGraceSeconds = 60;  // before the time limit, to save a checkpoint

constexpr std::string_view kEndStates[] = {"COMPLETED", "FAILED",        "CANCELLED",    "TIMEOUT",
                                           "NODE_FAIL", "PREEMPTED",     "BOOT_FAIL",    "DEADLINE",
                                           "REVOKED",   "OUT_OF_MEMORY", "LAUNCH_FAILED"};

// sbatch reads words as a shell does, without its expansions.
std::string sbatch_line(const std::string& option, const std::string& value) {
  if (value.find('\n') != std::string::npos)
    fail(ErrorKind::kConfig, "sbatch's {} has a newline: '{}'", option, value.substr(0, value.find('\n')));
  std::string text;
  for (const char c : value) text += (c == '"' || c == '\\') ? std::string{'\\', c} : std::string{c};
  return fmt::format("#SBATCH {}{}\"{}\"\n", option, option.empty() ? "" : "=", text);
}

Finished slurm(const std::vector<std::string>& words) {
  try {
    return run_all({{words, {}, {}}}, std::chrono::seconds(60))[0];
  } catch (const Error& error) {
    fail(ErrorKind::kNotFound, "{}: is Slurm's client installed here, and in PATH?", error.what());
  }
}

std::string reason(const Finished& finished) {
  const auto lines = lines_of(finished.err);
  return lines.empty() ? fmt::format("exit code {}", finished.exit_code) : lines.back();
}

// The value of KEY=… among the blanks-separated pairs of `scontrol --oneliner`.
std::string field(const std::string& text, const std::string& key) {
  std::istringstream words(text);
  for (std::string word; words >> word;)
    if (word.starts_with(key + "=")) return word.substr(key.size() + 1);
  return {};
}

// "3:0" is exit code 3, "0:9" the end by signal 9.
int exit_code_of(const std::string& pair) {
  int code = 0, signal = 0;
  const size_t colon = pair.find(':');
  if (colon == std::string::npos) return 1;
  std::from_chars(pair.data(), pair.data() + colon, code);
  std::from_chars(pair.data() + colon + 1, pair.data() + pair.size(), signal);
  return signal != 0 ? 128 + signal : code;
}

BatchState ended(const std::string& name, const std::string& code, const std::string& why) {
  BatchState state{BatchState::Phase::kEnded, exit_code_of(code), name};
  if (!why.empty() && why != "None") state.text += " (" + why + ")";
  if (name != "COMPLETED" && state.exit_code == 0)
    state.exit_code = 1;  // cancelled, out of time, a lost host
  return state;
}

class SlurmBatch : public BatchSystem {
 public:
  explicit SlurmBatch(const LauncherOptions& options) : options_(options) {}

  std::vector<BatchFile> files(const BatchJob& job) const override {
    const SlurmOptions& slurm = options_.slurm;
    std::string text = "#!/bin/bash\n" + sbatch_line("--job-name", job.name);
    text += sbatch_line("--nodes", std::to_string(job.nodes)) + sbatch_line("--ntasks-per-node", "1");
    text += sbatch_line("--output", output_pattern(job)) + sbatch_line("--open-mode", "append");
    // The batch process itself is told to stop before its time is over, and then stops every node in order.
    text += sbatch_line("--signal", fmt::format("B:TERM@{}", kGraceSeconds));
    if (job.devices > 0 && slurm.gres.empty())
      text += sbatch_line("--gpus-per-node", std::to_string(job.devices));
    for (const auto& [option, value] : {std::pair{"--partition", slurm.partition},
                                        {"--account", slurm.account},
                                        {"--qos", slurm.qos},
                                        {"--time", slurm.time},
                                        {"--gres", slurm.gres}})
      if (!value.empty()) text += sbatch_line(option, value);
    for (const std::string& argument : slurm.arguments) text += sbatch_line("", argument);
    text += "\n";
    for (const auto& [name, value] : job.env) text += fmt::format("export {}={}\n", name, shell_quote(value));
    text += "exec " + shell_quote(job.command) + "\n";
    return {{job.log / "scripts" / "slurm.sh", text}};
  }

  std::string submit(const BatchJob& job) const override {
    const auto scripts = files(job);
    write_batch_files(scripts);
    const Finished finished = slurm({"sbatch", "--parsable", scripts[0].path});
    if (finished.exit_code != 0)
      fail(ErrorKind::kResource, "sbatch refuses {}: {}", scripts[0].path.string(), reason(finished));
    const auto lines = lines_of(finished.out);
    return lines.empty() ? "" : lines.back().substr(0, lines.back().find(';'));  // "id;cluster"
  }

  BatchState state(const std::string& id) const override {
    const Finished finished = slurm({"scontrol", "--oneliner", "show", "job", id});
    if (finished.exit_code != 0) return past_state(id, finished);
    const std::string name = field(finished.out, "JobState"), why = field(finished.out, "Reason");
    if (name == "PENDING" || name == "CONFIGURING" || name == "REQUEUED")
      return {BatchState::Phase::kWaiting, 0, fmt::format("{} ({})", name, why)};
    if (std::find(std::begin(kEndStates), std::end(kEndStates), name) != std::end(kEndStates))
      return ended(name, field(finished.out, "ExitCode"), why);
    return {BatchState::Phase::kRunning, 0, fmt::format("{} on {}", name, field(finished.out, "NodeList"))};
  }

  void cancel(const std::string& id) const override {
    // A job that runs is told to stop, and stops its nodes in order; scancel alone would end all of them at
    // once.
    std::vector<std::string> words = {"scancel"};
    if (state(id).phase == BatchState::Phase::kRunning)
      words.insert(words.end(), {"--batch", "--signal=TERM"});
    words.push_back(id);
    const Finished finished = slurm(words);
    if (finished.exit_code != 0)
      fail(ErrorKind::kResource, "scancel refuses job {}: {}", id, reason(finished));
  }

  std::string output(const BatchJob& job, const std::string& id, size_t& place) const override {
    std::ifstream file(job.log / ("slurm-" + id + ".output"), std::ios::binary);
    file.seekg(static_cast<std::streamoff>(place));
    std::ostringstream text;
    text << file.rdbuf();
    place += text.str().size();
    return text.str();
  }

 private:
  static std::string output_pattern(const BatchJob& job) {
    std::string folder;  // % begins a pattern of sbatch's
    for (const char c : job.log.string()) folder += c == '%' ? std::string("%%") : std::string{c};
    return folder + "/slurm-%j.output";
  }

  // Of a job that the controller has forgotten: what the accounting database has, where there is one.
  static BatchState past_state(const std::string& id, const Finished& refused) {
    if (refused.err.find("Invalid job id") == std::string::npos)
      return {BatchState::Phase::kWaiting, 0, "Slurm's controller does not answer: " + reason(refused)};
    const Finished finished = slurm({"sacct", "-X", "-n", "-P", "-j", id, "-o", "State,ExitCode"});
    const auto lines = lines_of(finished.out);
    if (finished.exit_code != 0 || lines.empty())
      return {BatchState::Phase::kEnded, 1, "forgotten by Slurm: its exit code is not known"};
    const std::string name = lines[0].substr(0, lines[0].find_first_of("| "));
    return ended(name, lines[0].substr(lines[0].find('|') + 1), "");
  }

  LauncherOptions options_;
};

const Registration<BatchKind> kSlurmBatch{
    "slurm", {"a batch job of Slurm's", [](const LauncherOptions& options) -> std::unique_ptr<BatchSystem> {
                return std::make_unique<SlurmBatch>(options);
              }}};

}  // namespace
}  // namespace flagscale::launch
