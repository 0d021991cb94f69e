#include "launch/diagnosis/diagnose.h"

#include <gtest/gtest.h>

#include <deque>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/temporary_folder_test_support.h"
#include "launch/diagnosis/job_logs.h"
#include "launch/diagnosis/recorded_endings.h"
#include "launch/diagnosis/report.h"

namespace flagscale::launch {
namespace {

// Logs of ranks 0, 1, …
class Ranks {
 public:
  explicit Ranks(const std::vector<std::string>& texts) {
    for (const std::string& text : texts) {
      LogScan& scan = scans_.emplace_back(2026);
      scan.feed(text);
      scan.flush();
      const int rank = static_cast<int>(logs_.size());
      logs_.push_back(
          {{rank, -1}, "worker-" + std::to_string(rank / 2), "rank" + std::to_string(rank) + ".log", &scan});
    }
  }
  Diagnosis diagnose(const std::vector<Ending>& endings = {}) const {
    return launch::diagnose(logs_, endings);
  }

 private:
  std::deque<LogScan> scans_;
  std::vector<RankLog> logs_;
};

const std::string kOom = "[2026-11-26 10:00:00] step\ntorch.OutOfMemoryError: CUDA out of memory.\n";
const std::string kTimeout =
    "[E1126 10:10:00.018 ProcessGroupNCCL.cpp:632] Watchdog caught collective operation timeout: "
    "WorkNCCL(SeqNum=7)\n"
    "terminate called after throwing an instance of 'c10::DistBackendError'\n"
    "Exception raised from ncclCommWatchdog at ProcessGroupNCCL.cpp:1601 (most recent call first):\n"
    "Fatal Python error: Aborted\n";

void expect_culprit(const Diagnosis& diagnosis, int rank, const std::string& label) {
  ASSERT_TRUE(diagnosis.failed);
  EXPECT_EQ(diagnosis.culprit.speaker.rank, rank) << to_text(diagnosis);
  EXPECT_EQ(diagnosis.culprit.pattern->label, label) << to_text(diagnosis);
}

TEST(Diagnose, PutsACauseAboveWhatFollowsFromIt) {
  const Ranks ranks({kTimeout, kOom, kTimeout, kTimeout});
  expect_culprit(ranks.diagnose(), 1, "OutOfMemoryError");
  expect_culprit(
      ranks.diagnose({exited(0, -6, 700), exited(1, 1, 100.5), exited(2, -6, 700), exited(3, -6, 701)}), 1,
      "OutOfMemoryError");
  EXPECT_EQ(ranks.diagnose().others.size(), 3u);
}

TEST(Diagnose, NamesTheRankThatWasKilledWithoutAWord) {
  const Ranks ranks({kTimeout, "working\n", kTimeout});
  const Diagnosis diagnosis = ranks.diagnose({exited(0, -6, 700), exited(1, 137, 100), exited(2, -6, 700)});
  expect_culprit(diagnosis, 1, "ProcessKilled");
  EXPECT_EQ(diagnosis.culprit.last_lines, std::vector<std::string>{"working"});
  EXPECT_NE(std::string(diagnosis.culprit.pattern->hint).find("OOM"), std::string::npos);
}

TEST(Diagnose, NamesTheSilentRankWhereNoEndingIsKnown) {
  expect_culprit(Ranks({kTimeout, "working\n", kTimeout}).diagnose(), 1, "Silent");
  // Two silent ones: nobody knows which.
  EXPECT_EQ(Ranks({kTimeout, "working\n", "working\n"}).diagnose().culprit.pattern->label,
            std::string("NCCLTimeout"));
}

TEST(Diagnose, TakesTheFirstOfTwoCausesByTheirEnds) {
  const Ranks ranks({kOom, "OSError: [Errno 28] No space left on device\n"});
  expect_culprit(ranks.diagnose({exited(0, 1, 100), exited(1, 1, 50)}), 1, "StorageError");
  expect_culprit(ranks.diagnose({exited(0, 1, 50), exited(1, 1, 100)}), 0, "OutOfMemoryError");
}

TEST(Diagnose, TakesTheClearerCauseWithinTwoSeconds) {
  const Ranks ranks(
      {"Traceback (most recent call last):\n  File \"x.py\"\nValueError: broken pipe of data\n", kOom});
  expect_culprit(ranks.diagnose({exited(0, 1, 100), exited(1, 1, 101)}), 1, "OutOfMemoryError");
}

TEST(Diagnose, BelievesAHarmlessLineLast) {
  const Ranks ranks({"cat: notes: No such file or directory\n", kOom});
  expect_culprit(ranks.diagnose(), 1, "OutOfMemoryError");
  expect_culprit(Ranks({"cat: notes: No such file or directory\n"}).diagnose({exited(0, 1)}), 0,
                 "FileNotFound");
  expect_culprit(Ranks({"cat: notes: No such file or directory\n"}).diagnose({exited(0, -9)}), 0,
                 "ProcessKilled");
}

TEST(Diagnose, KnowsWhoWasStoppedByTheOthersEnd) {
  Ending stopped = exited(0, -9, 99);
  stopped.by_us = true;
  expect_culprit(Ranks({"working\n", "working\n"}).diagnose({stopped, exited(1, -11, 100)}), 1,
                 "SegmentationFault");
  // torchrun's way: SIGTERM, then SIGKILL.
  const Ranks ranks({"Received SIGTERM\n", kOom});
  expect_culprit(ranks.diagnose({exited(0, -9), exited(1, 1)}), 1, "OutOfMemoryError");
}

TEST(Diagnose, NamesHostsThatAreLostAndRanksThatHang) {
  const Ranks ranks({kTimeout, "working\n"});
  expect_culprit(ranks.diagnose({{1, Ending::How::kLost, 0, std::nullopt, false}, exited(0, -6)}), 1,
                 "HostLost");
  expect_culprit(ranks.diagnose({{1, Ending::How::kHung, 0, std::nullopt, false}, exited(0, -6)}), 1,
                 "HangError");
}

TEST(Diagnose, ReadsSignalsAndCodes) {
  const auto label = [](int code) {
    return std::string(Ranks({"x\n"}).diagnose({exited(0, code)}).culprit.pattern->label);
  };
  EXPECT_EQ(label(137), "ProcessKilled");
  EXPECT_EQ(label(-7), "SharedMemory");
  EXPECT_EQ(label(135), "SharedMemory");
  EXPECT_EQ(label(-11), "SegmentationFault");
  EXPECT_EQ(label(132), "IllegalInstruction");
  EXPECT_EQ(label(134), "CoreDump");
  EXPECT_EQ(label(141), "BrokenPipe");
  EXPECT_EQ(label(127), "CommandNotFound");
  EXPECT_EQ(label(126), "PermissionError");
  EXPECT_EQ(label(152), "TimeLimit");
  EXPECT_EQ(label(153), "FileLimit");
  EXPECT_EQ(label(136), "ArithmeticError");
  EXPECT_EQ(label(3), "ExitCode");
}

TEST(Diagnose, SaysNothingOfAJobThatDidWell) {
  const Ranks ranks(
      {"Connection refused, retrying\niteration 1/ 2 | consumed samples: 8\niteration 2/ 2 | consumed "
       "samples: "
       "16\ntraining finished\n"});
  const Diagnosis diagnosis = ranks.diagnose({exited(0, 0)});
  EXPECT_FALSE(diagnosis.failed);
  EXPECT_TRUE(diagnosis.completed);
  ASSERT_EQ(diagnosis.others.size(), 1u);
  EXPECT_TRUE(diagnosis.others[0].survived);
  EXPECT_FALSE(Ranks({kOom}).diagnose({exited(0, 0)}).failed) << "it ended with code 0";
  EXPECT_FALSE(Ranks({""}).diagnose().failed);
}

TEST(Diagnose, ReadsALogThatRanksShare) {
  LogScan scan(2026);
  scan.feed(
      "[rank1]: Traceback (most recent call last):\n[rank1]:   File \"x.py\"\n[rank1]: "
      "torch.OutOfMemoryError: CUDA out of "
      "memory.\n[rank3]:[E1126 10:10:00.018 ProcessGroupNCCL.cpp:632] [Rank 3] Watchdog caught collective "
      "operation "
      "timeout\n[default2]: working\n");
  const Diagnosis diagnosis = diagnose({{{}, "worker-0", "host_0_worker-0.output", &scan}}, {});
  expect_culprit(diagnosis, 1, "OutOfMemoryError");
  EXPECT_EQ(who(diagnosis.culprit), "rank 1 on worker-0");
  EXPECT_EQ(diagnosis.culprit.log, "host_0_worker-0.output");
  EXPECT_EQ(diagnosis.culprit.line, 3);
  EXPECT_EQ(diagnosis.culprit.last_lines.size(), 3u);
}

TEST(Diagnose, BelievesTorchrunsReport) {
  LogScan scan(2026);
  scan.feed(
      "[rank0]: torch.distributed.DistBackendError: remote process exited or there was a network error\n"
      "torch.distributed.elastic.multiprocessing.errors.ChildFailedError: \n"
      "  time      : 2026-11-26_10:00:01\n  host      : worker-0\n  rank      : 1 (local_rank: 1)\n"
      "  exitcode  : -9 (pid: 71)\n  error_file: <N/A>\n  traceback : Signal 9 (SIGKILL) received by PID "
      "71\n");
  expect_culprit(diagnose({{{}, "worker-0", "host_0_worker-0.output", &scan}}, {}), 1, "ProcessKilled");
}

TEST(Report, IsTextAndJson) {
  const Diagnosis diagnosis = Ranks({kTimeout, kOom + "bad \xff byte\n"}).diagnose({exited(1, 1, 100)});
  const std::string text = to_text(diagnosis);
  EXPECT_TRUE(text.starts_with(
      "rank 1 on worker-0: OutOfMemoryError\n  The GPU's memory ran out.\n  rank1.log:2: torch.Out"))
      << text;
  EXPECT_NE(text.find("It ended with exit code 1."), std::string::npos);
  EXPECT_NE(text.find("What to do: Lower micro_batch_size"), std::string::npos);
  EXPECT_NE(text.find("  rank 0 on worker-0: NCCLTimeout, rank0.log:1: [E1126"), std::string::npos) << text;
  const auto json = nlohmann::json::parse(to_json(diagnosis));
  EXPECT_EQ(json["failed"], true);
  EXPECT_EQ(json["culprit"]["rank"], 1);
  EXPECT_EQ(json["culprit"]["label"], "OutOfMemoryError");
  EXPECT_EQ(json["culprit"]["line"], 2);
  EXPECT_EQ(json["culprit"]["ending"], "exit code 1");
  EXPECT_EQ(json["culprit"]["last_lines"].size(), 3u);
  EXPECT_EQ(json["others"][0]["label"], "NCCLTimeout");
}

TEST(Report, ExplainsLastLines) {
  const std::string text = explain({"Traceback (most recent call last):", "  File \"x.py\"",
                                    "OSError: [Errno 28] No space left on device"});
  EXPECT_TRUE(text.starts_with("StorageError: The disk is full. What to do: See `df -h`")) << text;
  EXPECT_EQ(text.find('\n'), std::string::npos);
  EXPECT_TRUE(explain({"[rank3]: torch.OutOfMemoryError: CUDA out of memory."})
                  .starts_with("rank 3: OutOfMemoryError: "));
  EXPECT_EQ(explain({"working", "done"}), "");
  EXPECT_EQ(explain({}), "");
  EXPECT_EQ(explain({"flagscale: error: data_path is not set; give data_path=…"}), "");
  EXPECT_EQ(explain({"Traceback (most recent call last):", "  File \"x.py\"", "ValueError: bad label"}), "");
}

// FlagScale's test_diagnostic.py, case by case.
std::string diagnostic_of(const std::string& text) {
  LogScan scan(2026);
  scan.feed(text);
  scan.flush();
  return diagnostic_text(0, "localhost", "host_0_localhost.output", scan);
}

TEST(DiagnosticFile, IsFlagScales) {
  const std::string report = diagnostic_of(
      "\n        [INFO] Starting training...\n        [ERROR] CUDA out of memory\n"
      "        Traceback (most recent call last):\n          File \"train.py\", line 100, in <module>\n"
      "            model.forward()\n"
      "        torch.distributed.elastic.rendezvous.api.RendezvousConnectionError: Connection failed\n"
      "        OutOfMemoryError: GPU memory exhausted\n        [ERROR] Training failed\n        ");
  EXPECT_TRUE(report.starts_with("Diagnostic Report for localhost (node 0)\nGenerated at 20")) << report;
  for (const char* label : {"OutOfMemoryError: ", "RendezvousConnectionError: ", "CodeError: "})
    EXPECT_NE(report.find(label), std::string::npos) << label << report;
  EXPECT_NE(report.find(" Check host_0_localhost.output line:3-8\n"), std::string::npos) << report;
}

TEST(DiagnosticFile, SaysThatThereIsNothing) {
  EXPECT_NE(diagnostic_of("").find("Log file is empty or does not exist"), std::string::npos);
  EXPECT_NE(diagnostic_of("[INFO] Training started\n[INFO] all is well\n")
                .find("No errors or unknown error detected"),
            std::string::npos);
}

TEST(DiagnosticFile, KnowsSeveralKindsInAnyCase) {
  const std::string report = diagnostic_of(
      "CUDA error: out of memory\nImportError: module not found\nPermission denied: cannot access file\n"
      "Connection timeout occurred\nProcess was killed\nRENDEZVOUS connection failed\n");
  for (const char* label : {"OutOfMemoryError", "ImportError", "PermissionError", "ConnectionTimeout",
                            "ProcessKilled", "RendezvousError"})
    EXPECT_NE(report.find(label), std::string::npos) << label << "\n" << report;
}

TEST(DiagnosticFile, IsWrittenWhereFlagScaleHasIt) {
  const TemporaryFolder folder;
  LogScan scan(2026);
  scan.feed("CUDA out of memory\n");
  const auto path =
      write_diagnostic_file(folder.path + "/logs/monitor", 1, "worker-1", "host_1_worker-1.output", scan);
  EXPECT_EQ(path, folder.path + "/logs/monitor/host_1_worker-1_diagnostic.txt");
  std::ifstream in(path);
  const std::string text((std::istreambuf_iterator<char>(in)), {});
  EXPECT_NE(text.find("Diagnostic Report for worker-1 (node 1)"), std::string::npos);
  EXPECT_NE(text.find("line:1\n    CUDA out of memory\n    What to do: "), std::string::npos) << text;
  folder.put("file", "");
  EXPECT_THROW(write_diagnostic_file(folder.path + "/file", 1, "w", "l", scan), Error);
}

TEST(RecordedEndings, AreThoseOfTheLastStart) {
  const TemporaryFolder folder;
  EXPECT_TRUE(recorded_endings(folder.path).empty());
  folder.put(
      "records/events.jsonl",
      "{\"time\":\"2026-11-26T18:00:00.000Z\",\"run\":1,\"event\":\"starting\"}\n"
      "{\"time\":\"2026-11-26T18:00:01.000Z\",\"event\":\"exited\",\"rank\":0,\"exit_code\":1,\"signal\":0}\n"
      "{\"time\":\"2026-11-26T18:00:02.000Z\",\"event\":\"restarting\"}\nhalf a li"
      "\n{\"event\":7}\n"
      "{\"time\":\"2026-11-26T18:00:09.500Z\",\"event\":\"exited\",\"rank\":1,\"exit_code\":137,\"signal\":9}"
      "\n"
      "{\"event\":\"failed rank\",\"rank\":1,\"text\":\"was killed by signal 9 (SIGKILL)\"}\n"
      "{\"time\":\"2026-11-26T18:00:10.000Z\",\"event\":\"exited\",\"rank\":0,\"exit_code\":137,\"signal\":9}"
      "\n");
  const auto endings = recorded_endings(folder.path);
  ASSERT_EQ(endings.size(), 2u);
  EXPECT_EQ(endings[0].rank, 1);
  EXPECT_EQ(endings[0].how, Ending::How::kSignal);
  EXPECT_FALSE(endings[0].by_us);
  EXPECT_TRUE(endings[1].by_us);
  EXPECT_EQ(*endings[1].time - *endings[0].time, 0.5);
  expect_culprit(Ranks({"working\n", "working\n"}).diagnose(endings), 1, "ProcessKilled");
  folder.put("records/events.jsonl",
             "{\"event\":\"failed rank\",\"rank\":2,\"text\":\"is lost: nothing was heard of its host for 10 "
             "s\"}\n");
  EXPECT_EQ(recorded_endings(folder.path)[0].how, Ending::How::kLost);
}

TEST(JobLogs, AreFoundWhereFlagScalePutsThem) {
  const TemporaryFolder folder;
  folder.put("logs/host_0_worker-0.output", "");
  folder.put("logs/host_1_10.0.0.2.output", "");
  folder.put("logs/scripts/host_0_worker-0_run.sh", "");
  folder.put("logs/details/host_0_worker-0/20261126/default_x/attempt_0/1/stderr.log", "");
  folder.put("serve_logs/prefill_0.log", "");
  folder.put("logs/launcher.log", "");  // tells what others said
  const auto logs = find_logs(folder.path);
  ASSERT_EQ(logs.size(), 3u);
  EXPECT_EQ(logs[0].host, "worker-0");
  EXPECT_EQ(logs[1].host, "10.0.0.2");
  EXPECT_EQ(logs[1].node, 1);
  EXPECT_EQ(logs[2].path.filename(), "prefill_0.log");
}

TEST(JobLogs, AreTorchrunsNewestAttemptWhereNothingElseIs) {
  const TemporaryFolder folder;
  for (const char* name : {"1/default_x/attempt_0/0", "2/default_y/attempt_0/0", "2/default_y/attempt_10/0",
                           "2/default_y/attempt_10/1", "2/default_y/attempt_9/0"})
    folder.put("details/host_0_worker-0/" + std::string(name) + "/stderr.log", "");
  const auto logs = find_logs(folder.path);
  ASSERT_EQ(logs.size(), 2u);
  EXPECT_NE(logs[0].path.string().find("/2/default_y/attempt_10/0/"), std::string::npos);
  EXPECT_EQ(logs[1].speaker.local_rank, 1);
}

TEST(JobLogs, AreAnyLogsOfAFolder) {
  const TemporaryFolder folder;
  EXPECT_THROW(find_logs(folder.path), Error);
  EXPECT_THROW(find_logs(folder.path + "/nothing"), Error);
  folder.put("rank_3.log", "");
  folder.put("notes.txt", "");
  const auto logs = find_logs(folder.path);
  ASSERT_EQ(logs.size(), 1u);
  EXPECT_EQ(logs[0].speaker.rank, 3);
}

}  // namespace
}  // namespace flagscale::launch
