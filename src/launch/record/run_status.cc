#include "launch/record/run_status.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <limits>
#include <nlohmann/json.hpp>

#include "launch/record/run_record.h"
#include "launch/record/sqlite.h"

namespace flagscale::launch {

namespace fs = std::filesystem;

namespace {

ProcessId process_of(const SqlValue& pid, const SqlValue& start) {
  return {static_cast<int>(integer(pid)), static_cast<uint64_t>(integer(start))};
}

RankStatus read_rank(const Database::Row& row) {
  RankStatus rank;
  rank.rank = static_cast<int>(integer(row[0]));
  rank.host = text(row[1]), rank.agent_host = text(row[2]), rank.cgroup = text(row[3]),
  rank.argv = text(row[4]);
  rank.output = text(row[5]);
  rank.agent = process_of(row[6], row[7]), rank.process = process_of(row[8], row[9]);
  if (!std::holds_alternative<std::monostate>(row[10]))
    rank.ended = ExitStatus{static_cast<int>(integer(row[10])), static_cast<int>(integer(row[11]))};
  rank.phase = text(row[12]), rank.iteration = integer(row[13]);
  return rank;
}

RunStatus read_run(const Database::Row& row) {
  RunStatus run;
  run.id = integer(row[0]);
  run.name = text(row[1]), run.task = text(row[2]), run.engine = text(row[3]);
  run.state = run_state(text(row[4]));
  if (!std::holds_alternative<std::monostate>(row[5])) run.exit_code = static_cast<int>(integer(row[5]));
  run.started = real(row[6]), run.ended = real(row[7]);
  run.restarts = static_cast<int>(integer(row[8])), run.max_restarts = static_cast<int>(integer(row[9]));
  run.culprit = text(row[10]), run.log = text(row[11]), run.host = text(row[12]), run.boot = text(row[13]);
  run.launcher = process_of(row[14], row[15]);
  return run;
}

// The last that a rank reported. Records from before there were any have no such table.
void read_metrics(Database& database, RunStatus& run) {
  if (database.query("SELECT 1 FROM sqlite_master WHERE name = 'metrics'").empty()) return;
  const auto rows = database.query(
      "SELECT iteration, name, value FROM metrics WHERE run = ?1 AND time = (SELECT MAX(time) FROM metrics "
      "WHERE run = ?1)",
      {run.id});
  for (const auto& row : rows) {
    const bool number = !std::holds_alternative<std::monostate>(row[2]);
    run.measured = integer(row[0]);
    run.metrics[text(row[1])] = number ? real(row[2]) : std::numeric_limits<double>::quiet_NaN();
  }
}

fs::path state_folder() {
  const char* state = std::getenv("XDG_STATE_HOME");
  const char* home = std::getenv("HOME");
  if (state != nullptr && *state != '\0') return fs::path(state) / "flagscale/experiments";
  return home != nullptr && *home != '\0' ? fs::path(home) / ".local/state/flagscale/experiments"
                                          : fs::path();
}

// A file's name for a path of any length (FNV-1a).
std::string name_for(const fs::path& path) {
  uint64_t hash = 0xcbf29ce484222325;
  for (const char c : path.string()) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3;
  return fmt::format("{:016x}", hash);
}

}  // namespace

std::optional<RunStatus> last_run(const fs::path& experiment) {
  const fs::path file = records_folder(experiment) / "runs.sqlite";
  std::error_code ignored;
  if (!fs::exists(file, ignored)) return {};
  Database database(file, Database::Mode::kRead);
  // A first run is just making its tables: the version is written last.
  if (integer(database.query("PRAGMA user_version").at(0).at(0)) == 0) return {};
  const auto rows = database.query(
      "SELECT id, name, task, engine, state, exit_code, started, ended, restarts, max_restarts, culprit, "
      "log, host, "
      "boot, launcher_pid, launcher_start FROM runs ORDER BY id DESC LIMIT 1");
  if (rows.empty()) return {};
  RunStatus run = read_run(rows[0]);
  run.experiment = experiment;
  const auto ranks = database.query(
      "SELECT rank, host, agent_host, cgroup, argv, output, agent_pid, agent_start, pid, pid_start, "
      "exit_code, signal, "
      "phase, iteration FROM ranks WHERE run = ? ORDER BY rank",
      {run.id});
  for (const auto& row : ranks) run.ranks.push_back(read_rank(row));
  read_metrics(database, run);
  run.here = run.host == machine_name();
  run.launcher_runs = run.here && run.boot == boot_id() && runs(run.launcher);
  if (!is_over(run.state) && run.here && !run.launcher_runs) {
    run.state = RunState::kFailed;
    run.culprit = run.is_one_process() ? kWasKilled : kLauncherWasKilled;
  }
  return run;
}

std::string to_json(const RunStatus& run) {
  nlohmann::ordered_json json{{"name", run.name},
                              {"state", name(run.state)},
                              {"task", run.task},
                              {"engine", run.engine},
                              {"experiment", run.experiment.string()},
                              {"log", run.log.string()},
                              {"run", run.id},
                              {"started", run.started}};
  if (run.ended > 0) json["ended"] = run.ended;
  if (run.exit_code) json["exit_code"] = *run.exit_code;
  if (!run.culprit.empty()) json["culprit"] = run.culprit;
  json["restarts"] = run.restarts, json["max_restarts"] = run.max_restarts;
  json["launcher"] = {{"host", run.host}, {"pid", run.launcher.pid}};
  if (!run.metrics.empty()) {
    json["metrics"]["iteration"] = run.measured;
    for (const auto& [name, value] : run.metrics) json["metrics"][name] = value;
  }
  for (const RankStatus& rank : run.ranks) {
    nlohmann::ordered_json one{{"rank", rank.rank}, {"host", rank.host}, {"output", rank.output.string()}};
    if (rank.process.pid != 0) one["pid"] = rank.process.pid;
    if (rank.ended) one["exit_code"] = rank.ended->code;
    if (!rank.phase.empty()) one["phase"] = rank.phase, one["iteration"] = rank.iteration;
    json["ranks"].push_back(one);
  }
  return json.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace);
}

void remember_experiment(const fs::path& experiment) {
  const fs::path folder = state_folder();
  if (folder.empty()) return;
  std::error_code ignored;
  fs::create_directories(folder, ignored);
  std::ofstream(folder / name_for(experiment)) << experiment.string() << '\n';
}

std::vector<fs::path> remembered_experiments() {
  std::vector<std::pair<fs::file_time_type, fs::path>> found;
  std::error_code ignored;
  for (const auto& entry : fs::directory_iterator(state_folder(), ignored)) {
    std::ifstream in(entry.path());
    std::string line;
    if (std::getline(in, line) && fs::exists(records_folder(line), ignored))
      found.emplace_back(entry.last_write_time(ignored), line);
  }
  std::sort(found.rbegin(), found.rend());
  std::vector<fs::path> experiments;
  for (const auto& [time, path] : found) experiments.push_back(path);
  return experiments;
}

}  // namespace flagscale::launch
