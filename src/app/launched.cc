#include "app/launched.h"

#include <fmt/core.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <memory>

#include "app/command.h"
#include "app/job.h"
#include "app/rank_tasks.h"
#include "app/training.h"
#include "base/error.h"
#include "base/log.h"
#include "launch/adapter.h"
#include "launch/cloud_node.h"
#include "launch/experiment.h"
#include "launch/job_files.h"
#include "launch/launcher/launcher.h"
#include "launch/launcher/rank_from_environment.h"
#include "launch/placement.h"
#include "launch/record/run_status.h"
#include "launch/run/control.h"
#include "launch/run/own_run.h"
#include "launch/run/run_job.h"
#include "launch/run/run_options.h"
#include "launch/run/wait_for_host.h"

namespace flagscale {
namespace {

namespace fs = std::filesystem;

std::vector<std::string> own_words(const LaunchRequest& request) {
  std::vector<std::string> words = this_run(request.configuration, request.engine, request.device);
  words.insert(words.end(), request.configuration.overrides.begin(), request.configuration.overrides.end());
  if (request.json) words.push_back("--json");
  return words;
}

// How long nodes of a cloud may come up after one another: images are large.
constexpr std::chrono::minutes kCloudComesUp{30};

// Where a hang is to be a restart and nobody says how often.
constexpr int kRestartsOfHangs = 3;

// What runs as it is: one rank, or a training's.
launch::Job native_job(const LaunchRequest& request, bool ranks) {
  launch::Job job = launch::job_of(request.experiment, "native");
  if (ranks) {
    const auto elastic =
        launch::elastic_hosts(request.experiment);  // all of them, until it is known who is there
    job.nodes = rank_tasks(elastic ? launch::placement_on(request.experiment, elastic->list)
                                   : launch::placement_of(request.experiment),
                           own_words(request), job.log);
    job.meeting_port = launch::given_port(request.experiment);
    return job;
  }
  if (job.task == "serve") job.port = launch::service_port(request.experiment);
  job.container.clear();  // as without a launcher, one process of this program runs where it was started
  launch::NodeTask& node = job.nodes.emplace_back();
  node.host.name = "localhost";
  node.command.argv = own_words(request);
  node.command.env = {{kIsRank, "1"}};
  node.command.directory = fs::current_path();
  node.output = job.log / "host_0_localhost.output";
  return job;
}

void check_script(const launch::Command& command) {
  for (const std::string& word : command.argv)
    if (word.ends_with(".py") && !fs::exists(command.directory / word))
      fail(ErrorKind::kNotFound,
           "there is no {} in {}: give FlagScale's checkout by FLAGSCALE_ROOT=FOLDER, or start in it", word,
           command.directory.string());
}

// Nodes of a cloud may share the file system, and each has a run of its own.
fs::path record_of(const launch::Experiment& experiment) {
  const fs::path folder = experiment.directory();
  if (!launch::is_cloud(experiment)) return folder;
  const int rank = launch::cloud_node(experiment).rank;
  return rank == 0 ? folder : folder / "nodes" / std::to_string(rank);
}

std::vector<launch::Host> hosts_of(const launch::Job& job) {
  std::vector<launch::Host> hosts;
  for (const launch::NodeTask& node : job.nodes) hosts.push_back(node.host);
  return hosts;
}

bool is_here(const std::vector<launch::Host>& hosts) {
  return std::all_of(hosts.begin(), hosts.end(), [](const launch::Host& host) { return host.is_here(); });
}

// A server would find it out when its weights have been read; ranks would take a stranger for one of them.
void require_port(const launch::Job& job, int port, const char* key) {
  const launch::NodeTask& first = job.nodes.front();
  if (port == 0 || first.rank > 0 || !first.host.is_here() || !job.container.empty()) return;
  if (!launch::answers(fmt::format("127.0.0.1:{}", port))) return;
  const auto run = launch::last_run(job.experiment);
  if (!run || is_over(run->state))  // else it is this job's own, which is told below
    fail(ErrorKind::kBusy,
         "port {} is taken on this machine (`ss -ltnp` shows by whom): another one is ++{}=N", port, key);
}

[[noreturn]] void start(const LaunchRequest& request, launch::Job job, bool ranks) {
  job.experiment = record_of(request.experiment);
  require_port(job, job.port, "experiment.runner.deploy.port");
  require_port(job, job.meeting_port, "experiment.runner.master_port");
  if (!job.waits_for.empty()) launch::wait_for_host(job.waits_for, kCloudComesUp);
  launch::RunOptions options = launch::read_run_options(request.composed, own_words(request));
  options.detach = request.detach;
  if (options.on_hang == launch::OnHang::kRestart &&
      !request.experiment.value("experiment.runner.max_restarts"))
    job.max_restarts = kRestartsOfHangs;
  if (ranks)
    options.elastic = elastic_ranks(request.composed, request.experiment, own_words(request), job.log);
  if (!is_here(options.elastic ? options.elastic->hosts : hosts_of(job)) || !job.container.empty()) {
    const launch::LauncherOptions how =
        launch::read_launcher_options(*request.experiment.map("experiment.runner"));
    options.reach = [&, how](launch::RunOptions& its) {
      const std::shared_ptr<launch::Launcher> launcher = launch::make_launcher(how.type, how);
      reach_hosts(*launcher, job, its.elastic);
      its.open_link = [launcher](const launch::NodeTask& task) { return launcher->open(task); };
      its.explain_link = [launcher](const launch::NodeTask& task, int code) {
        return launcher->explain(task, code);
      };
    };
  }
  const int code = launch::run_job(job, options);
  if (request.detach && code == 0)
    info("{} runs in the background: flagscale attach {} shows it, flagscale stop {} ends it", job.name,
         job.experiment.string(), job.experiment.string());
  throw ExitCode{code};
}

// One of several, which that other launcher starts again, all together.
bool has_another_launcher() {
  const auto rank = launch::rank_from_environment();
  return rank && rank->world_size > 1;
}

bool wants_launcher(const LaunchRequest& request, bool ranks) {
  return request.detach || request.composed.value("experiment.runner.max_restarts") ||
         request.composed.value("experiment.supervision") || ranks;
}

}  // namespace

bool has_ranks(const launch::Experiment& experiment) {
  if (experiment.task() != "train" || experiment.text("experiment.task.backend") != "native") return false;
  if (launch::elastic_hosts(experiment)) return true;
  if (launch::is_cloud(experiment) && launch::cloud_node(experiment).nodes > 1) return true;
  const std::vector<launch::Host> hosts = launch::hosts_of(experiment).list;
  return experiment.number("experiment.runner.nproc_per_node", 1) > 1 || hosts.size() > 1 ||
         !hosts[0].is_here();
}

PlannedRanks planned_ranks(const launch::Experiment& experiment) {
  if (!has_ranks(experiment) || launch::elastic_hosts(experiment) || launch::is_cloud(experiment)) return {};
  const auto each = static_cast<int>(experiment.number("experiment.runner.nproc_per_node", 1));
  return {each * static_cast<int>(launch::hosts_of(experiment).list.size()), each};
}

bool run_launched(const LaunchRequest& request) {
  if (std::getenv(kIsRank) != nullptr) return false;
  const std::string action = text_at(request.composed, "action", "run");
  if (action != "run" && action != "test" && action != "stop" && action != "query") return false;
  if (action == "stop" || action == "query") {
    const fs::path folder = record_of(request.experiment);
    const launch::RunStatus run = action == "stop" ? launch::stop_job(folder) : launch::query_job(folder);
    fmt::print("{}\n", request.json ? to_json(run) : describe(run));
    return true;
  }
  const bool foreign = request.engine != "native";
  if (foreign && request.json) return false;  // its commands, which a dry run prints
  if (!foreign && has_another_launcher()) return false;
  const bool ranks = !foreign && has_ranks(request.experiment);
  if (!foreign && !wants_launcher(request, ranks)) return false;
  if (!foreign) start(request, native_job(request, ranks), ranks);
  const launch::Job job = launch::make_job(request.experiment, request.engine);
  for (const launch::NodeTask& node : job.nodes)
    if (node.host.is_here() && job.container.empty()) check_script(node.command);
  start(request, job, false);
}

void run_here(const LaunchRequest& request,
              const std::function<void(const std::function<void()>& begin)>& work) {
  const std::string task = request.experiment.task();
  const bool known = task == "train" || task == "inference" || task == "serve";  // else it is refused there
  if (!known || std::getenv(kIsRank) != nullptr || has_another_launcher() ||
      text_at(request.composed, "action", "run") != "run" ||
      request.experiment.text("experiment.exp_dir").empty())
    return work([] {});
  launch::Job job = native_job(request, false);
  job.experiment = record_of(request.experiment);
  launch::run_in_this_process(
      job, [&] { return launch::read_run_options(request.composed, own_words(request)).origin; }, work);
}

}  // namespace flagscale
