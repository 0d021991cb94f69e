// Nothing of a job is left, however it ends, and nothing else is touched.

#include <sys/prctl.h>

#include "base/interrupt.h"
#include "launch/record/experiment_lock.h"
#include "launch/record/run_status.h"
#include "launch/run/control.h"
#include "launch/run/job_test_support.h"

namespace flagscale::launch {
namespace {

// A head, a child that does not care for SIGTERM, and grandchildren that have left: in a session of their
// own, and of a parent that is gone.
constexpr const char* kFamily = R"(
  bash -c 'trap "" TERM; echo $BASHPID > stubborn; while :; do sleep 1; done' &
  setsid bash -c 'echo $BASHPID > own_session; trap "" TERM; while :; do sleep 1; done' &
  ( ( setsid nohup bash -c 'echo $BASHPID > orphan; while :; do sleep 1; done' >/dev/null 2>&1 & ) & )
  echo $$ > head
  wait)";
constexpr const char* kMembers[] = {"head", "stubborn", "own_session", "orphan"};

class Ownership : public RunningJobTest {
 protected:
  std::vector<int> family() {
    std::vector<int> members;
    for (const char* name : kMembers) members.push_back(process_in(name));
    return members;
  }
  static testing::AssertionResult gone(const std::vector<int>& members, double within) {
    if (soon([&] { return std::none_of(members.begin(), members.end(), is_there); }, within))
      return testing::AssertionSuccess();
    testing::AssertionResult left = testing::AssertionFailure();
    for (size_t i = 0; i < members.size(); ++i)
      if (is_there(members[i])) left << kMembers[i] << " is left; ";
    return left;
  }
  void expect_cut_off() const {
    EXPECT_NE(
        file("launcher").find("rank 0 on localhost is cut off: its agent was killed by signal 9 (SIGKILL)"),
        std::string::npos)
        << file("launcher");
  }
  // What stands between a launcher and the head of a job of one rank.
  enum Between : size_t { kWatch, kKeeper, kAgent };
  // All at once: who is stopped does nothing about another's end.
  static void kill_together(const std::vector<ProcessId>& processes) {
    for (const ProcessId& process : processes) send_signal(process, SIGSTOP);
    for (const ProcessId& process : processes) send_signal(process, SIGKILL);
  }
  int agent_of(const std::string& experiment) {
    soon([&] { return query_job(experiment).ranks.at(0).agent.pid != 0; });
    return query_job(experiment).ranks.at(0).agent.pid;
  }
};

// Who may not stop it is told so at once, and it runs on.
TEST_F(Ownership, AnotherUsersJobIsNotWaitedFor) {
  if (geteuid() != 0) GTEST_SKIP() << "only root is another user too";
  const pid_t launcher = launch(job({"echo $$ > head; sleep 1000"}));
  const int head = process_in("head");
  chmod(folder_.c_str(), 0755);
  const pid_t other = fork();
  if (other == 0) {
    std::string said;
    try {
      if (setresuid(65534, 65534, 65534) == 0) stop_job(path("exp"), false, 5);
    } catch (const Error& error) {
      said = error.what();
    }
    _exit(said.find("was started by root: only that user may stop it, or root") == std::string::npos ? 1 : 0);
  }
  EXPECT_EQ(wait_for(other), 0);
  EXPECT_TRUE(is_there(head));
  kill(launcher, SIGTERM);
  EXPECT_EQ(wait_for(launcher), 143);
}

// Control groups that stay behind are nobody's: they are gone after whatever could have left one.
TEST_F(Ownership, NoControlGroupIsLeft) {
  const auto killed = [&](std::initializer_list<Between> those) {
    std::filesystem::remove(path("head"));
    const pid_t launcher = launch(job({kFamily}));
    family();
    soon([&] { return query_job(path("exp")).ranks.at(0).process.pid != 0; });
    const std::filesystem::path group = query_job(path("exp")).ranks.at(0).cgroup;
    const auto below = descendants(launcher);
    if (those.size() == 0) kill(launcher, SIGKILL);
    std::vector<ProcessId> together;
    for (const Between i : those) together.push_back(below.at(i));
    kill_together(together);
    wait_for(launcher);
    return group;
  };
  const auto gone = [](const std::filesystem::path& group) {
    return soon([&] { return !std::filesystem::exists(group); });
  };
  const std::filesystem::path group = killed({kAgent});
  if (group.empty()) GTEST_SKIP() << "no control groups may be made here";
  EXPECT_TRUE(gone(group)) << "the keeper removes it";
  EXPECT_TRUE(gone(killed({}))) << "the agent does";
  EXPECT_TRUE(gone(killed({kWatch, kKeeper, kAgent}))) << "the launcher does";

  const pid_t launcher = launch(job({kFamily}));
  agent_of(path("exp"));
  soon([&] { return query_job(path("exp")).state == RunState::kRunning; });
  const std::filesystem::path left = query_job(path("exp")).ranks.at(0).cgroup;
  const auto below = descendants(launcher);
  kill_together({process_id(launcher), below.at(kWatch), below.at(kKeeper), below.at(kAgent)});
  wait_for(launcher);
  EXPECT_TRUE(std::filesystem::exists(left)) << "nobody was there to do it";
  EXPECT_EQ(stop_job(path("exp")).state, RunState::kFailed);
  EXPECT_FALSE(std::filesystem::exists(left)) << "a stop does, as the next run would";
}

TEST_F(Ownership, AStopEndsTheWholeTree) {
  const pid_t launcher = launch(job({kFamily}));
  const auto members = family();
  kill(launcher, SIGTERM);
  EXPECT_EQ(wait_for(launcher), 143) << file("launcher");
  EXPECT_TRUE(gone(members, 0));
  EXPECT_EQ(query_job(path("exp")).state, RunState::kStopped);
}

TEST_F(Ownership, AHeadThatEndsTakesItsTreeAlong) {
  const pid_t launcher = launch(job({std::string(kFamily) + " & sleep 0.5; exit 4"}));
  family();
  EXPECT_EQ(wait_for(launcher), 4);
  EXPECT_TRUE(gone(family(), 0));
}

TEST_F(Ownership, AKilledLauncherLeavesNothing) {
  const pid_t launcher = launch(job({kFamily}));
  const auto members = family();
  kill(launcher, SIGKILL);
  wait_for(launcher);
  EXPECT_TRUE(gone(members, 10));
  EXPECT_EQ(query_job(path("exp")).state, RunState::kFailed);
  EXPECT_EQ(query_job(path("exp")).culprit, "its launcher was killed");
}

TEST_F(Ownership, AKilledAgentLeavesNothing) {
  const pid_t launcher = launch(job({kFamily}));
  const auto members = family();
  kill(agent_of(path("exp")), SIGKILL);
  EXPECT_EQ(wait_for(launcher), 1);
  EXPECT_TRUE(gone(members, 1));
  expect_cut_off();
}

TEST_F(Ownership, AKilledKeeperLeavesNothing) {
  const pid_t launcher = launch(job({kFamily}));
  const auto members = family();
  EXPECT_TRUE(send_signal(descendants(launcher).at(kKeeper), SIGKILL));
  EXPECT_EQ(wait_for(launcher), 1);
  EXPECT_TRUE(gone(members, 1));
  expect_cut_off();
}

TEST_F(Ownership, AKilledWatchLeavesNothing) {
  const pid_t launcher = launch(job({kFamily}));
  const auto members = family();
  EXPECT_TRUE(send_signal(descendants(launcher).at(kWatch), SIGKILL));
  EXPECT_EQ(wait_for(launcher), 1);
  EXPECT_TRUE(gone(members, 1));
  expect_cut_off();
}

// Of the launcher and the three below it any three, at once, with grandchildren in sessions of their own.
TEST_F(Ownership, AnyThreeKilledTogetherLeaveNothing) {
  const pid_t bystander = decoy("python");
  for (const int survivor : {-1, int{kWatch}, int{kKeeper}, int{kAgent}}) {  // -1: the launcher
    SCOPED_TRACE(survivor);
    for (const char* name : kMembers) std::filesystem::remove(path(name));
    const pid_t launcher = launch(job({kFamily}));
    const auto members = family();
    agent_of(path("exp"));
    const auto below = descendants(launcher);
    std::vector<ProcessId> killed;
    if (survivor >= 0) killed.push_back(process_id(launcher));
    for (const int i : {int{kWatch}, int{kKeeper}, int{kAgent}})
      if (i != survivor) killed.push_back(below.at(static_cast<size_t>(i)));
    kill_together(killed);
    if (survivor >= 0) wait_for(launcher);
    EXPECT_TRUE(gone(survivor >= 0 ? members : std::vector<int>{members[0]}, 10));
    if (survivor < 0) {
      EXPECT_EQ(wait_for(launcher), 1);
    }
    EXPECT_TRUE(soon([&] { return !runs(below[kWatch]) && !runs(below[kKeeper]) && !runs(below[kAgent]); }));
    EXPECT_EQ(query_job(path("exp")).state, RunState::kFailed);
    EXPECT_TRUE(is_there(bystander));
  }
}

// Who kills a launcher by its name, or its command line, does not kill who tidies up.
TEST_F(Ownership, TheWatchIsNotCalledAsTheLauncherIs) {
  const pid_t launcher = launch(job({"echo $$ > head; exec sleep 1000"}));
  process_in("head");
  const int watch = descendants(launcher).at(kWatch).pid;
  ASSERT_TRUE(soon([&] { return command_line(watch) == "job-watch"; })) << command_line(watch);
  std::ifstream name("/proc/" + std::to_string(watch) + "/comm");
  std::string comm;
  std::getline(name, comm);
  EXPECT_EQ(comm, "job-watch");
}

TEST_F(Ownership, AllFourKilledTogetherAreTidiedUpByTheNextRun) {
  const pid_t launcher = launch(job({kFamily}));
  const auto members = family();
  agent_of(path("exp"));
  const auto below = descendants(launcher);
  kill_together({process_id(launcher), below.at(kWatch), below.at(kKeeper), below.at(kAgent)});
  wait_for(launcher);
  EXPECT_EQ(run(job({"true"})).code, 0);
  EXPECT_FALSE(is_there(members[0]));
}

TEST_F(Ownership, TheNextRunWaitsUntilTheLastOneIsGone) {
  const pid_t launcher = launch(
      job({"trap 'sleep 1; echo saved > saved; exit' TERM; echo $$ > head; while :; do sleep 0.1; done"}));
  process_in("head");
  kill(launcher, SIGKILL);
  wait_for(launcher);
  const Outcome next = run(job({"cat saved"}));
  EXPECT_EQ(next.code, 0) << "the old run was still saving: " << next.out;
  EXPECT_NE(next.out.find("waiting for the processes of the last run"), std::string::npos) << next.out;
}

TEST_F(Ownership, StopsTouchNobodyElse) {
  std::vector<pid_t> decoys;
  for (const char* name : {"python", "torchrun", "vllm serve", "flagscale", "bash"})
    decoys.push_back(decoy(name));
  const std::string other = "echo $$ > other; exec sleep 1000";
  Job second = job({other});
  second.experiment = path("second"), second.log = path("second/logs");
  second.nodes[0].output = path("second/logs/host_0_localhost.output");
  const pid_t other_launcher = launch(second);
  const int other_rank = process_in("other");

  const pid_t launcher = launch(job({kFamily}));
  const auto members = family();
  ASSERT_TRUE(soon([&] { return query_job(path("exp")).state == RunState::kRunning; }));
  std::thread reaper([&] { wait_for(launcher); });
  EXPECT_EQ(stop_job(path("exp")).state, RunState::kStopped);
  reaper.join();
  EXPECT_TRUE(gone(members, 0));

  const pid_t crashing = launch(job({std::string("echo $$ > crashing; ") + kFamily}));
  kill(process_in("crashing"), SIGKILL);
  wait_for(crashing);
  EXPECT_EQ(stop_job(path("exp")).state, RunState::kFailed);  // over: nothing to stop

  for (const pid_t pid : decoys) EXPECT_TRUE(is_there(pid));
  EXPECT_TRUE(is_there(other_rank));
  kill(other_launcher, SIGTERM);
  wait_for(other_launcher);
  EXPECT_FALSE(is_there(other_rank));
}

TEST_F(Ownership, ASecondSignalDoesNotWait) {
  RunOptions patient;
  patient.grace = 1000;
  const pid_t launcher = launch(job({"trap '' TERM; echo $$ > head; while :; do sleep 1; done"}), patient);
  const int head = process_in("head");
  kill(launcher, SIGINT);
  std::this_thread::sleep_for(std::chrono::milliseconds(200));
  EXPECT_TRUE(is_there(head));
  kill(launcher, SIGINT);
  EXPECT_EQ(wait_for(launcher), 130);
  EXPECT_FALSE(is_there(head));
}

TEST_F(Ownership, CtrlCBeforeTheStartStartsNothing) {
  const auto early = [] { install_interrupt_handler(), raise(SIGINT); };
  EXPECT_EQ(wait_for(launch(job({"touch started"}), quick(), early)), 130);

  const ExperimentLock last_run(path("exp"), std::chrono::seconds(0));
  const pid_t waiting = launch(job({"touch started"}), quick(), install_interrupt_handler);
  ASSERT_TRUE(soon([&] { return file("launcher").find("waiting for") != std::string::npos; }));
  kill(waiting, SIGINT);
  EXPECT_EQ(wait_for(waiting), 130);
  EXPECT_FALSE(std::filesystem::exists(path("started")));
}

TEST_F(Ownership, WhatIsDoneInOrderIsDone) {
  const pid_t launcher = launch(job(
      {"trap 'sleep 0.5; echo kept > work; exit 130' TERM; echo $$ > head; while :; do sleep 0.1; done"}));
  process_in("head");
  kill(launcher, SIGINT);
  EXPECT_EQ(wait_for(launcher), 130);
  EXPECT_EQ(file("work"), "kept\n");
}

TEST_F(Ownership, DetachedItRunsOnAndIsStoppedFromElsewhere) {
  RunOptions options = quick();
  options.detach = true;
  prctl(PR_SET_CHILD_SUBREAPER, 1);  // so that this test can reap the launcher
  const Outcome outcome = run(job({kFamily}), options);
  EXPECT_EQ(outcome.code, 0) << outcome.out;
  const RunStatus status = query_job(path("exp"));
  EXPECT_EQ(status.state, RunState::kRunning);
  EXPECT_TRUE(status.launcher_runs);
  EXPECT_EQ(remembered_experiments(), std::vector<std::filesystem::path>{path("exp")});
  EXPECT_EQ(find_experiment("small"), path("exp"));
  const auto members = family();
  std::thread reaper([&] { waitpid(status.launcher.pid, nullptr, 0); });
  EXPECT_EQ(stop_job(path("exp")).state, RunState::kStopped);
  reaper.join();
  prctl(PR_SET_CHILD_SUBREAPER, 0);
  EXPECT_TRUE(gone(members, 0));
}

TEST_F(Ownership, ANameMeansTheOneThatRuns) {
  Job done = job({"true"});
  done.experiment = path("done"), done.log = path("done/logs");
  done.nodes[0].output = path("done/logs/host_0_localhost.output");
  EXPECT_EQ(run(done).code, 0);
  const pid_t launcher = launch(job({"echo $$ > head; exec sleep 1000"}));
  process_in("head");
  ASSERT_TRUE(soon([&] { return query_job(path("exp")).state == RunState::kRunning; }));
  EXPECT_EQ(find_experiment("small"), path("exp"));
  kill(launcher, SIGTERM);
  wait_for(launcher);
  EXPECT_THROW(find_experiment("small"), Error);
}

TEST_F(Ownership, DetachedItSaysWhatWentWrongAtTheStart) {
  RunOptions options = quick();
  options.detach = true;
  Job missing = job({"true"});
  missing.nodes[0].command.argv = {"no-such-engine"};
  const Outcome outcome = run(missing, options);
  EXPECT_NE(outcome.out.find("no-such-engine"), std::string::npos) << outcome.out;
}

}  // namespace
}  // namespace flagscale::launch
