#include "app/job.h"

#include <fmt/format.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <thread>

#include "app/training.h"
#include "base/error.h"
#include "base/interrupt.h"
#include "base/log.h"
#include "launch/adapter.h"
#include "launch/job_files.h"

namespace flagscale {
namespace {

namespace fs = std::filesystem;

std::string action_of(const config::Composed& composed) {
  const std::string action = text_at(composed, "action", "run");
  if (action != "run" && action != "dryrun" && action != "test")
    fail(ErrorKind::kUnsupported, "action is '{}': a foreign engine's task knows run, dryrun and test",
         action);
  return action;
}

void print_plan(const launch::Job& job, bool json) {
  if (json) return fmt::print("{}\n", to_json(job));
  for (const launch::NodeTask& task : job.nodes)
    fmt::print("# {} on {}, in {}\n{}\n", job.engine, task.host.name, task.command.directory.string(),
               shell_text(task.command));
  info("written: {}", (job.log / "scripts").string());
}

std::vector<char*> pointers(std::vector<std::string>& words) {
  std::vector<char*> result;
  for (std::string& word : words) result.push_back(word.data());
  result.push_back(nullptr);
  return result;
}

// This process's environment with the command's over it.
std::vector<std::string> environment(const launch::Command& command) {
  std::vector<std::string> all;
  for (char** entry = environ; *entry; ++entry) {
    const std::string text = *entry;
    if (!command.env.contains(text.substr(0, text.find('=')))) all.push_back(text);
  }
  for (const auto& [key, value] : command.env) all.push_back(key + "=" + value);
  return all;
}

// The user's own text is for a shell; the command behind it comes as arguments, which no shell reads.
std::vector<std::string> behind(const std::string& before_start, const launch::Command& command) {
  if (before_start.empty()) return command.argv;
  std::vector<std::string> argv{"bash", "-c", before_start + "\nexec \"$@\"", "flagscale"};
  argv.insert(argv.end(), command.argv.begin(), command.argv.end());
  return argv;
}

pid_t start(const std::string& before_start, const launch::Command& command) {
  std::vector<std::string> argv = behind(before_start, command), env = environment(command);
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  if (!command.directory.empty()) posix_spawn_file_actions_addchdir_np(&actions, command.directory.c_str());
  pid_t pid = 0;
  const int error =
      posix_spawnp(&pid, argv[0].c_str(), &actions, nullptr, pointers(argv).data(), pointers(env).data());
  posix_spawn_file_actions_destroy(&actions);
  if (error == ENOENT && !fs::exists(command.directory))
    fail(ErrorKind::kNotFound, "there is no folder {} to start {} in", command.directory.string(),
         command.argv[0]);
  if (error != 0)
    fail(ErrorKind::kNotFound, "cannot start {}: {}; is the engine installed and in PATH?", argv[0],
         std::strerror(error));
  return pid;
}

// Its exit code, 128 + N when a signal N ended it. A signal to us goes on to it.
int finish(pid_t pid) {
  bool told = false;
  for (int status = 0;;) {
    const pid_t ended = waitpid(pid, &status, WNOHANG);
    if (ended == pid) return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
    if (interrupted() && !told) {
      kill(pid, SIGTERM);
      told = true;
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
}

void check_script(const launch::Command& command) {
  for (const std::string& word : command.argv)
    if (word.ends_with(".py") && !fs::exists(command.directory / word))
      fail(ErrorKind::kNotFound,
           "there is no {} in {}: give FlagScale's checkout by FLAGSCALE_ROOT=FOLDER, or start in it", word,
           command.directory.string());
}

}  // namespace

std::string engine_of(const config::Composed& composed, const std::string& given) {
  const std::string engine = given.empty() ? text_at(composed, "experiment.task.engine", "native") : given;
  return engine == "yaml" && text_at(composed, "experiment.task.backend", "") == "native" ? "native" : engine;
}

void run_foreign(const config::Composed& composed, const std::string& engine, const fs::path& folder,
                 bool json) {
  const std::string action = action_of(composed);
  const launch::Job job = launch::make_job(composed, engine, folder, action == "dryrun");
  if (action != "dryrun") {
    if (json)
      fail(ErrorKind::kInvalidArgument,
           "--json prints a foreign engine's commands: it goes with action=dryrun");
    return run_job(job);
  }
  write_job_files(job);
  print_plan(job, json);
}

void run_job(const launch::Job& job) {
  if (job.nodes.size() > 1 || job.nodes[0].host.name != "localhost")
    fail(ErrorKind::kUnsupported,
         "this job runs on {} hosts, the first of them {}: this version starts jobs on this machine alone "
         "(experiment.runner.hostfile=null); action=dryrun shows each host's command",
         job.nodes.size(), job.nodes[0].host.name);
  const launch::NodeTask& task = job.nodes[0];
  check_script(task.command);
  write_job_files(job);
  for (const fs::path& made : job.folders) {
    std::error_code error;
    fs::create_directories(made, error);
    if (error) fail(ErrorKind::kResource, "cannot make the folder {}: {}", made.string(), error.message());
  }
  int code = 0;
  for (const launch::Command& command : task.prepare)
    if (code == 0) code = finish(start(job.before_start, command));
  if (code == 0) code = finish(start(job.before_start, task.command));
  if (code == 0) return;
  warn("{} ended with exit code {}", task.command.argv[0], code);
  std::fflush(nullptr);
  std::exit(code);
}

}  // namespace flagscale
