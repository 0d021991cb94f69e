#include "launch/record/run_record.h"

#include <fcntl.h>
#include <fmt/chrono.h>
#include <unistd.h>

#include <algorithm>
#include <cctype>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <ctime>
#include <nlohmann/json.hpp>
#include <utility>

#include "base/error.h"
#include "base/log.h"
#include "launch/record/run_status.h"
#include "launch/record/sqlite.h"

extern char** environ;

namespace flagscale::launch {

namespace fs = std::filesystem;

namespace {

using Json = nlohmann::ordered_json;

constexpr int64_t kSchemaVersion = 1;
constexpr const char* kTables[] = {
    R"(CREATE TABLE IF NOT EXISTS runs (
      id INTEGER PRIMARY KEY, name TEXT, task TEXT, engine TEXT, state TEXT, exit_code INTEGER,
      started REAL, ended REAL, restarts INTEGER DEFAULT 0, max_restarts INTEGER, culprit TEXT, log TEXT,
      host TEXT, boot TEXT, launcher_pid INTEGER, launcher_start INTEGER,
      command_line TEXT, config TEXT, provenance TEXT, environment TEXT))",
    R"(CREATE TABLE IF NOT EXISTS ranks (
      run INTEGER REFERENCES runs, rank INTEGER, host TEXT, slots INTEGER, device_type TEXT, argv TEXT, env TEXT,
      directory TEXT, output TEXT, agent_host TEXT, agent_pid INTEGER, agent_start INTEGER, pid INTEGER,
      pid_start INTEGER, cgroup TEXT, exit_code INTEGER, signal INTEGER, phase TEXT, iteration INTEGER,
      PRIMARY KEY (run, rank)))",
    // Of an iteration that a restart does again, the last time counts.
    R"(CREATE TABLE IF NOT EXISTS metrics (
      run INTEGER REFERENCES runs, rank INTEGER, time REAL, iteration INTEGER, name TEXT, value REAL,
      PRIMARY KEY (run, rank, iteration, name)) WITHOUT ROWID)"};

std::string utc_now() {
  const auto now = std::chrono::system_clock::now();
  const auto ms =
      std::chrono::duration_cast<std::chrono::milliseconds>(now.time_since_epoch()).count() % 1000;
  return fmt::format("{:%Y-%m-%dT%H:%M:%S}.{:03}Z", fmt::gmtime(std::chrono::system_clock::to_time_t(now)),
                     ms);
}

// Records are read by others: what a name says is secret is not in them.
bool names_a_secret(std::string name) {
  std::transform(name.begin(), name.end(), name.begin(), [](unsigned char c) { return std::toupper(c); });
  for (const char* word : {"TOKEN", "SECRET", "PASSW", "KEY", "CREDENTIAL"})
    if (name.find(word) != std::string::npos) return true;
  return false;
}

// Of the inherited variables, those that change what a job does.
bool matters(const std::string& name) {
  for (const char* prefix : {"CUDA",       "NCCL",       "OMP_",    "FLAGSCALE", "SLURM", "OMPI_",  "RANK",
                             "LOCAL_RANK", "WORLD_SIZE", "MASTER_", "PATH",      "LD_",   "PYTHON", "HF_",
                             "ASCEND",     "GLOO",       "AIRS_",   "LWS_",      "VLLM",  "RAY"})
    if (name.starts_with(prefix)) return true;
  return false;
}

Json shown_environment(const std::map<std::string, std::string>& variables) {
  Json json = Json::object();
  for (const auto& [name, value] : variables) json[name] = names_a_secret(name) ? "***" : value;
  return json;
}

std::map<std::string, std::string> inherited() {
  std::map<std::string, std::string> variables;
  for (char** entry = environ; *entry != nullptr; ++entry) {
    const std::string text = *entry;
    const std::string name = text.substr(0, text.find('='));
    if (matters(name) && name.size() < text.size()) variables[name] = text.substr(name.size() + 1);
  }
  return variables;
}

std::string dumped(const Json& json) { return json.dump(-1, ' ', false, Json::error_handler_t::replace); }

}  // namespace

fs::path records_folder(const fs::path& experiment) { return experiment / "records"; }

struct RunRecord::Files {
  Database database;
  int events;
  int64_t run = 0;
  bool warned = false;

  explicit Files(const fs::path& folder)
      : database(folder / "runs.sqlite", Database::Mode::kWrite),
        events(open((folder / "events.jsonl").c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644)) {
    if (events < 0)
      fail(ErrorKind::kResource, "cannot write {}: {}", (folder / "events.jsonl").string(),
           std::strerror(errno));
    const int64_t version = integer(database.query("PRAGMA user_version").at(0).at(0));
    if (version > kSchemaVersion)
      fail(ErrorKind::kUnsupported,
           "{} was written by a newer flagscale (records of version {}, this knows {})",
           (folder / "runs.sqlite").string(), version, kSchemaVersion);
    // No change but the last waits for the disk: it would hold up a start, or a restart, for a tenth of a
    // second.
    database.run("PRAGMA synchronous = OFF");
    database.run("BEGIN IMMEDIATE");  // to where the run is on record
    for (const char* table : kTables) database.run(table);
    if (version < kSchemaVersion) database.run("PRAGMA user_version = 1");
  }
  ~Files() { close(events); }

  void insert_ranks(const std::vector<NodeTask>& nodes) {
    for (const NodeTask& node : nodes)
      database.run(
          "INSERT INTO ranks (run, rank, host, slots, device_type, argv, env, directory, output) VALUES "
          "(?,?,?,?,?,?,?,?,?)",
          {run, int64_t{node.rank}, node.host.name, int64_t{node.host.slots}, node.host.type,
           dumped(node.command.argv), dumped(shown_environment(node.command.env)),
           node.command.directory.string(), node.output.string()});
  }

  // A job does not end because its record cannot be kept.
  template <class Write>
  void keeping(Write write) {
    try {
      write();
    } catch (const Error& error) {
      if (!std::exchange(warned, true)) warn("the run's record is no longer complete: {}", error.what());
    }
  }

  void line(const std::string& kind, int rank, Json more) {
    Json json{{"time", utc_now()}, {"run", run}, {"event", kind}};
    if (rank >= 0) json["rank"] = rank;
    json.update(more);
    const std::string text = dumped(json) + "\n";
    if (write(events, text.data(), text.size()) != static_cast<ssize_t>(text.size()))
      fail(ErrorKind::kResource, "cannot write the events: {}", std::strerror(errno));
  }
};

// What a power cut has made of the last record is put aside: the events are lines, and still there.
std::unique_ptr<RunRecord::Files> RunRecord::open_files(const fs::path& folder) {
  try {
    return std::make_unique<Files>(folder);
  } catch (const Error& error) {
    if (error.kind() != ErrorKind::kCorrupt) throw;
    warn("{}; it is runs.sqlite.broken now", error.what());
    fs::rename(folder / "runs.sqlite", folder / "runs.sqlite.broken");
    return std::make_unique<Files>(folder);
  }
}

RunRecord::RunRecord(const Job& job, const RunOrigin& origin) {
  const fs::path folder = records_folder(job.experiment);
  std::error_code failed;
  fs::create_directories(folder, failed);
  if (failed) fail(ErrorKind::kResource, "cannot make {}: {}", folder.string(), failed.message());
  files_ = open_files(folder);
  Database& db = files_->database;
  db.run(
      "UPDATE runs SET state = 'failed', ended = ?, culprit = CASE WHEN EXISTS (SELECT 1 FROM ranks WHERE "
      "run = id AND pid = launcher_pid) THEN ? ELSE ? END WHERE ended IS NULL",
      {unix_now(), std::string(kWasKilled), std::string(kLauncherWasKilled)});
  const ProcessId launcher = process_id(getpid());
  db.run(
      "INSERT INTO runs (name, task, engine, state, started, max_restarts, log, host, boot, launcher_pid, "
      "launcher_start, command_line, config, provenance, environment) VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)",
      {job.name, job.task, job.engine, name(RunState::kStarting), unix_now(), int64_t{job.max_restarts},
       job.log.string(), machine_name(), boot_id(), int64_t{launcher.pid},
       static_cast<int64_t>(launcher.start), dumped(origin.command_line), origin.config, origin.provenance,
       dumped(shown_environment(inherited()))});
  files_->run = db.last_id();
  files_->insert_ranks(job.nodes);
  db.run("COMMIT");
  files_->line("starting", -1, {{"name", job.name}, {"ranks", job.nodes.size()}, {"launcher", launcher.pid}});
}

RunRecord::~RunRecord() = default;
int64_t RunRecord::id() const { return files_->run; }

void RunRecord::ranks(const std::vector<NodeTask>& nodes) {
  files_->keeping([&] {
    files_->database.run("DELETE FROM ranks WHERE run = ?", {id()});
    files_->insert_ranks(nodes);
    Json hosts = Json::array();
    for (const NodeTask& node : nodes) hosts.push_back(node.host.name);
    files_->line("ranks", -1, {{"hosts", hosts}});
  });
}

void RunRecord::agent(int rank, const ProcessId& agent, const std::string& host) {
  files_->keeping([&] {
    files_->database.run(
        "UPDATE ranks SET agent_host = ?, agent_pid = ?, agent_start = ? WHERE run = ? AND rank = ?",
        {host, int64_t{agent.pid}, static_cast<int64_t>(agent.start), id(), int64_t{rank}});
    files_->line("agent", rank, {{"host", host}, {"pid", agent.pid}});
  });
}

void RunRecord::started(int rank, const ProcessId& process, const std::string& cgroup) {
  files_->keeping([&] {
    files_->database.run(
        "UPDATE ranks SET pid = ?, pid_start = ?, cgroup = ?, exit_code = NULL, signal = NULL, phase = NULL, "
        "iteration = NULL WHERE run = ? AND rank = ?",
        {int64_t{process.pid}, static_cast<int64_t>(process.start), cgroup, id(), int64_t{rank}});
    files_->line("started", rank, {{"pid", process.pid}, {"start", process.start}});
  });
}

void RunRecord::exited(int rank, const ExitStatus& status, bool by_us) {
  files_->keeping([&] {
    files_->database.run("UPDATE ranks SET exit_code = ?, signal = ? WHERE run = ? AND rank = ?",
                         {int64_t{status.code}, int64_t{status.signal}, id(), int64_t{rank}});
    files_->line("exited", rank, {{"exit_code", status.code}, {"signal", status.signal}, {"by_us", by_us}});
  });
}

void RunRecord::progress(int rank, const std::string& phase, int64_t iteration) {
  files_->keeping([&] {
    files_->database.run("UPDATE ranks SET phase = ?, iteration = ? WHERE run = ? AND rank = ?",
                         {phase, iteration, id(), int64_t{rank}});
  });
}

void RunRecord::metrics(int rank, int64_t iteration, const std::map<std::string, double>& values) {
  files_->keeping([&] {
    const double time = unix_now();
    Json line{{"iteration", iteration}};
    for (const auto& [name, value] : values) {
      files_->database.run("INSERT OR REPLACE INTO metrics VALUES (?,?,?,?,?,?)",
                           {id(), int64_t{rank}, time, iteration, name, value});
      line[name] = value;
    }
    files_->line("metrics", rank, line);
  });
}

void RunRecord::culprit(const std::string& what) {
  files_->keeping([&] { files_->database.run("UPDATE runs SET culprit = ? WHERE id = ?", {what, id()}); });
}

void RunRecord::restarts(int count) {
  files_->keeping(
      [&] { files_->database.run("UPDATE runs SET restarts = ? WHERE id = ?", {int64_t{count}, id()}); });
}

void RunRecord::state(RunState state) {
  files_->keeping([&] {
    files_->database.run("UPDATE runs SET state = ? WHERE id = ?", {name(state), id()});
    files_->line(name(state), -1, Json::object());
  });
}

void RunRecord::finish(RunState state, int exit_code) {
  files_->keeping([&] {
    files_->database.run("PRAGMA synchronous = FULL");
    files_->database.run("UPDATE runs SET state = ?, exit_code = ?, ended = ? WHERE id = ?",
                         {name(state), int64_t{exit_code}, unix_now(), id()});
    files_->line(name(state), -1, {{"exit_code", exit_code}});
  });
}

void RunRecord::stopped(const fs::path& experiment, int64_t run, int exit_code) try {
  Database database(records_folder(experiment) / "runs.sqlite", Database::Mode::kRead);
  database.run("UPDATE runs SET state = ?, exit_code = ?, ended = ? WHERE id = ? AND ended IS NULL",
               {name(RunState::kStopped), int64_t{exit_code}, unix_now(), run});
} catch (const Error&) {  // it stays a failed one
}

void RunRecord::event(const std::string& kind, int rank, const std::string& text) {
  files_->keeping([&] { files_->line(kind, rank, {{"text", text}}); });
}

}  // namespace flagscale::launch
