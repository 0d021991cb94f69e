// Jobs of small programs from start to end: exit codes, deaths, restarts, records.

#include "launch/run/run_job.h"

#include <filesystem>
#include <nlohmann/json.hpp>
#include <sstream>

#include "launch/record/run_status.h"
#include "launch/record/sqlite.h"
#include "launch/run/control.h"
#include "launch/run/job_test_support.h"

namespace flagscale::launch {
namespace {

using RunJob = RunningJobTest;

bool has(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

TEST_F(RunJob, OutputGoesToTheFileAndTheTerminal) {
  const pid_t launcher = launch(job({"echo out; echo err >&2; echo $RANK"}));
  EXPECT_EQ(wait_for(launcher), 0);
  EXPECT_EQ(file("exp/logs/host_0_localhost.output"), "out\nerr\n0\n");
  EXPECT_EQ(file("launcher"), "out\nerr\n0\n");
  const RunStatus status = query_job(path("exp"));
  EXPECT_EQ(status.state, RunState::kCompleted);
  EXPECT_EQ(status.exit_code, 0);
  EXPECT_EQ(status.ranks.at(0).ended, ExitStatus{});
  EXPECT_EQ(file("exp/logs/pids/host_0_localhost.pid"), "") << "it no longer runs";
}

TEST_F(RunJob, WhereStdoutAndStderrAreTwoPlacesTheyStayApart) {
  testing::internal::CaptureStdout();
  testing::internal::CaptureStderr();
  EXPECT_EQ(run_job(job({"echo result; echo notice >&2"}), quick()), 0);
  EXPECT_EQ(testing::internal::GetCapturedStdout(), "result\n");
  EXPECT_EQ(testing::internal::GetCapturedStderr(), "notice\n");
}

TEST_F(RunJob, SeveralRanksLinesStandBehindTheirNumbers) {
  const Outcome outcome = run(job({"echo a; echo b", "printf c"}));
  EXPECT_EQ(outcome.code, 0);
  for (const char* line : {"[0] a\n", "[0] b\n", "[1] c\n"})
    EXPECT_TRUE(has(outcome.out, line)) << outcome.out;
}

TEST_F(RunJob, TheExitCodeIsTheJobsAndTheLastLinesAreKept) {
  const Outcome outcome = run(job({"echo something broke; exit 3"}));
  EXPECT_EQ(outcome.code, 3);
  EXPECT_TRUE(has(outcome.out, "rank 0 on localhost exited with code 3")) << outcome.out;
  const RunStatus status = query_job(path("exp"));
  EXPECT_EQ(status.state, RunState::kFailed);
  EXPECT_EQ(status.culprit, "rank 0 on localhost exited with code 3\n  something broke");
}

TEST_F(RunJob, TheFirstCulpritIsNamedAndTheOthersAreEnded) {
  const Outcome outcome =
      run(job({"echo $$ > zero; sleep 1000", "sleep 0.3; echo my fault; kill -SEGV $$", "sleep 1000"}));
  EXPECT_EQ(outcome.code, 128 + SIGSEGV);
  EXPECT_TRUE(has(outcome.out, "rank 1 on localhost was killed by signal 11 (SIGSEGV)\n  my fault"))
      << outcome.out;
  EXPECT_FALSE(is_there(process_in("zero")));
}

TEST_F(RunJob, WhatTheLastLinesMeanIsSaidAndIsInFlagScalesFile) {
  const Outcome outcome = run(job({"sleep 10", "echo CUDA out of memory; exit 1"}));
  EXPECT_TRUE(has(outcome.out, "OutOfMemoryError: The GPU's memory ran out. What to do: ")) << outcome.out;
  const std::string report = file("exp/logs/monitor/host_1_localhost_diagnostic.txt");
  EXPECT_TRUE(has(report, "Diagnostic Report for localhost (node 1)")) << report;
  EXPECT_TRUE(has(report, "Check host_1_localhost.output line:1")) << report;
  EXPECT_TRUE(has(file("exp/logs/monitor/host_0_localhost_diagnostic.txt"), "no analysis possible"));
}

TEST_F(RunJob, ARankThatIsKilledIsTheCulpritThoughItsPeersAreHeardOfFirst) {
  const std::string peer =
      "echo $$ > peer.$RANK; while [ ! -e dying ]; do sleep 0.01; done; "
      "echo 'flagscale: error: rank 2 on 127.0.0.1 is gone: its connection was closed'; exit 1";
  const Outcome outcome = run(job({peer, peer, "trap : TERM; echo > dying; sleep 0.2; kill -KILL $$"}));
  EXPECT_EQ(outcome.code, 137);
  EXPECT_TRUE(has(outcome.out, "rank 2 on localhost was killed by signal 9 (SIGKILL)")) << outcome.out;
}

TEST_F(RunJob, WhatOnlyServesTheOthersEndsInOrderWhenTheseAreDone) {
  Job cluster = job({"while [ ! -e node ]; do sleep 0.01; done", "echo $$ > node; sleep 1000"});
  cluster.nodes[1].follows = true;
  const Outcome outcome = run(cluster);
  EXPECT_EQ(outcome.code, 0) << outcome.out;
  EXPECT_FALSE(is_there(process_in("node")));
  EXPECT_EQ(query_job(path("exp")).state, RunState::kCompleted);
}

TEST_F(RunJob, WhatServesTheOthersMayNotFailBeforeThem) {
  Job cluster = job({"sleep 1000", "exit 4"});
  cluster.nodes[1].follows = true;
  const Outcome outcome = run(cluster);
  EXPECT_EQ(outcome.code, 4);
  EXPECT_TRUE(has(outcome.out, "rank 1 on localhost exited with code 4")) << outcome.out;
}

TEST_F(RunJob, APidFileIsThereWhileItRuns) {
  const pid_t launcher = launch(job({"echo $$ > pid; sleep 1000"}));
  const int pid = process_in("pid");
  ASSERT_TRUE(appears("exp/logs/pids/host_0_localhost.pid"));
  EXPECT_EQ(process_in("exp/logs/pids/host_0_localhost.pid"), pid);
  kill(launcher, SIGTERM);
  EXPECT_EQ(wait_for(launcher), 143);
}

TEST_F(RunJob, ADeathEndsTheJobAtOnce) {
  const pid_t launcher = launch(job({"echo $$ > pid; sleep 1000"}));
  const int pid = process_in("pid");
  const auto start = std::chrono::steady_clock::now();
  kill(pid, SIGKILL);
  EXPECT_EQ(wait_for(launcher), 137);  // the whole job's end, the record's last lines included
  const std::chrono::duration<double> took = std::chrono::steady_clock::now() - start;
  EXPECT_LT(took.count(), 1.0) << "bench_launch measures it; this only finds what waits for a timer";
}

TEST_F(RunJob, StartsAgainUpToMaxRestarts) {
  Job restarted = job({"echo x >> starts; [ $(wc -l < starts) = 3 ] || exit 1; echo done"});
  restarted.max_restarts = 3;
  const Outcome outcome = run(restarted);
  EXPECT_EQ(outcome.code, 0) << outcome.out;
  EXPECT_TRUE(has(outcome.out, "(2 of 3 restarts)")) << outcome.out;
  EXPECT_EQ(query_job(path("exp")).restarts, 2);
  EXPECT_EQ(query_job(path("exp")).state, RunState::kCompleted);
}

TEST_F(RunJob, ARestartThatFindsNoCheckpointIsTold) {
  const std::string begins =
      "beat() { echo $1 $2 $$ $(date +%N) 0 > $FLAGSCALE_HEARTBEATS/rank_0; sleep 0.7; }; ";
  for (const bool finds : {true, false}) {
    Job restarted = job({begins + "if [ -e tried ]; then beat first_step " + (finds ? "30" : "0") +
                         "; else beat step 40; echo > tried; exit 1; fi"});
    restarted.max_restarts = 1;
    const Outcome outcome = run(restarted);
    EXPECT_EQ(outcome.code, 0) << outcome.out;
    EXPECT_EQ(has(outcome.out, "rank 0 on localhost begins at iteration 0, and 40 had been done"), !finds)
        << outcome.out;
    std::filesystem::remove(path("tried"));
  }
}

TEST_F(RunJob, GivesUpAfterThem) {
  Job restarted = job({"echo x >> starts; exit 5"});
  restarted.max_restarts = 2;
  EXPECT_EQ(run(restarted).code, 5);
  EXPECT_EQ(file("starts"), "x\nx\nx\n");
}

TEST_F(RunJob, AMistakeInOurOwnCommandLineIsNotTriedAgain) {
  Job mistaken = job({"echo x >> starts; exit 2"});
  mistaken.engine = "native", mistaken.max_restarts = 2;
  EXPECT_EQ(run(mistaken).code, 2);
  EXPECT_EQ(file("starts"), "x\n");
}

TEST_F(RunJob, WhatALauncherOfItsOwnGaveUpIsNotTriedAgainButItsDeathIs) {
  Job torchrun = job({"echo x >> starts; [ $(wc -l < starts) = 1 ] && kill -KILL $$; exit 5"});
  torchrun.mends_itself = true, torchrun.max_restarts = 3;
  const Outcome outcome = run(torchrun);
  EXPECT_EQ(outcome.code, 5) << outcome.out;
  EXPECT_EQ(file("starts"), "x\nx\n") << outcome.out;
}

TEST_F(RunJob, ARefusedStartLeavesTheFilesOfTheOneThatRuns) {
  Job first = job({"echo up > up; sleep 1000"});
  first.scripts = true, first.files = {{path("resolved.yaml"), "first"}};
  launch(first);
  ASSERT_TRUE(appears("up"));
  Job second = first;
  second.files[0].text = second.nodes[0].command.argv[2] = "echo second";
  EXPECT_NE(run(second).code, 0);
  EXPECT_EQ(file("resolved.yaml"), "first");
  EXPECT_TRUE(has(file("exp/logs/scripts/host_0_localhost_run.sh"), "sleep 1000"));
  stop_job(path("exp"));
}

TEST_F(RunJob, AllRanksStartAgainTogether) {
  const std::string script = "echo $$ >> pids.$RANK; while [ ! -e finish ]; do sleep 0.05; done";
  Job four = job({script, script, script, script});
  four.max_restarts = 3;
  const pid_t launcher = launch(four);
  const int victim = process_in("pids.2");
  ASSERT_TRUE(appears("pids.0") && appears("pids.1") && appears("pids.3"));
  kill(victim, SIGKILL);
  const auto starts = [&](const std::string& name) {
    const std::string text = file(name);
    return std::count(text.begin(), text.end(), '\n');
  };
  EXPECT_TRUE(soon([&] {
    return starts("pids.0") == 2 && starts("pids.1") == 2 && starts("pids.2") == 2 && starts("pids.3") == 2;
  }));
  std::ofstream(path("finish")) << "now\n";
  EXPECT_EQ(wait_for(launcher), 0) << file("launcher");
  EXPECT_TRUE(has(file("launcher"), "rank 2 on localhost was killed by signal 9 (SIGKILL)"))
      << file("launcher");
}

TEST_F(RunJob, WhatCannotStartIsSaidOnce) {
  Job missing = job({"true"});
  missing.nodes[0].command.argv = {"no-such-engine", "--flag"};
  missing.max_restarts = 3;
  const Outcome outcome = run(missing);
  EXPECT_EQ(outcome.code, 1);
  EXPECT_TRUE(
      has(outcome.out, "rank 0 on localhost cannot start no-such-engine: there is no such program in PATH"))
      << outcome.out;
  EXPECT_EQ(query_job(path("exp")).restarts, 0);
}

TEST_F(RunJob, ALogDirectoryThatCannotBeWrittenIsOneClearLine) {
  Job job = this->job({"true"});
  job.log = "/proc/logs";
  const Outcome outcome = run(job);
  EXPECT_TRUE(outcome.out.starts_with("cannot make the log directory /proc/logs: ")) << outcome.out;
  EXPECT_EQ(std::count(outcome.out.begin(), outcome.out.end(), '\n'), 0);
}

TEST_F(RunJob, WhatComesBeforeTheCommandComesToItsEndFirst) {
  Job prepared = job({"echo $(cat made) $(cat written/by/job)"});
  prepared.before_start = "export WORD=shell";
  prepared.folders = {path("a/folder")};
  prepared.files = {{path("written/by/job"), "text\n"}};
  const auto before = [&](const std::string& script) {
    Command command = prepared.nodes[0].command;
    command.argv = {"bash", "-c", script};
    prepared.nodes[0].prepare.push_back(command);
  };
  before("sleep 0.2; echo first $WORD > made; sleep 1000 & echo $! > service");
  before("[ -d a/folder ] && kill -0 $(cat service) && echo second >> made");
  EXPECT_EQ(run(prepared).code, 0);
  EXPECT_EQ(file("exp/logs/host_0_localhost.output"), "first shell second text\n");
  EXPECT_FALSE(is_there(process_in("service")));
  before("exit 9");
  EXPECT_EQ(run(prepared).code, 9);
  EXPECT_EQ(file("exp/logs/host_0_localhost.output"), "first shell second text\n");
}

TEST_F(RunJob, OfAnExperimentOneRunAtATime) {
  const pid_t launcher = launch(job({"echo $$ > pid; sleep 1000"}));
  ASSERT_TRUE(soon([&] { return appears("pid") && query_job(path("exp")).state == RunState::kRunning; }));
  const Outcome second = run(job({"true"}));
  EXPECT_TRUE(has(second.out, "is running")) << second.out;
  EXPECT_TRUE(has(second.out, "flagscale stop " + path("exp"))) << second.out;
  kill(launcher, SIGTERM);
  wait_for(launcher);
}

TEST_F(RunJob, EventsAreLinesOfJson) {
  Job failing = job({"exit 1"});
  failing.max_restarts = 1;
  run(failing);
  std::istringstream lines(file("exp/records/events.jsonl"));
  std::vector<std::string> events;
  for (std::string line; std::getline(lines, line);)
    events.push_back(nlohmann::json::parse(line).at("event"));
  const std::vector<std::string> expected{"starting", "agent",       "started",     "running",
                                          "exited",   "failed rank", "restarting",  "started",
                                          "running",  "exited",      "failed rank", "failed"};
  EXPECT_EQ(events, expected);
}

TEST_F(RunJob, ABrokenRecordIsPutAside) {
  temporary_.put("exp/records/runs.sqlite", std::string(5000, 'x'));
  const Outcome outcome = run(job({"true"}));
  EXPECT_EQ(outcome.code, 0) << outcome.out;
  EXPECT_TRUE(has(outcome.out, "it is runs.sqlite.broken now")) << outcome.out;
  EXPECT_EQ(query_job(path("exp")).state, RunState::kCompleted);
  EXPECT_EQ(file("exp/records/runs.sqlite.broken").size(), 5000u);
}

TEST_F(RunJob, ARecordThatIsBeingMadeIsNoRunYet) {
  std::filesystem::create_directories(path("exp/records"));
  Database(path("exp/records/runs.sqlite"), Database::Mode::kWrite).run("CREATE TABLE half (made INTEGER)");
  EXPECT_FALSE(last_run(path("exp")).has_value());
  EXPECT_EQ(run(job({"true"})).code, 0);
  EXPECT_TRUE(last_run(path("exp")).has_value());
}

TEST_F(RunJob, SecretsAreNotInTheRecord) {
  Job job = this->job({"[ ${#HF_TOKEN} = 4 ]"});
  job.nodes[0].command.env["HF_TOKEN"] = "hush";
  EXPECT_EQ(run(job).code, 0);
  EXPECT_FALSE(has(file("exp/records/runs.sqlite"), "hush"));
  EXPECT_TRUE(has(file("exp/records/runs.sqlite"), "HF_TOKEN"));
}

TEST_F(RunJob, TheUsersCommandsRunInTheirPlaces) {
  Job job = this->job({"echo $GREETING; sleep 1000"});
  job.before_start = "export GREETING=hello";
  job.after_stop = "echo tidied > after";
  const pid_t launcher = launch(job);
  ASSERT_TRUE(appears("exp/logs/host_0_localhost.output"));
  EXPECT_EQ(file("after"), "");
  kill(launcher, SIGINT);
  EXPECT_EQ(wait_for(launcher), 130);
  EXPECT_EQ(file("after"), "tidied\n");
  EXPECT_EQ(file("exp/logs/host_0_localhost.output"), "hello\n");
}

}  // namespace
}  // namespace flagscale::launch
