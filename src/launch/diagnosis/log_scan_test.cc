#include "launch/diagnosis/log_scan.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <random>

#include "base/temporary_folder_test_support.h"
#include "launch/diagnosis/log_file.h"
#include "launch/diagnosis/time_stamp.h"

namespace flagscale::launch {
namespace {

std::unique_ptr<LogScan> scan(std::string_view text) {
  auto result = std::make_unique<LogScan>(2026);
  result->feed(text);
  result->flush();
  return result;
}

std::vector<std::string> labels(const LogScan& log) {
  std::vector<std::string> result;
  for (const Finding& finding : log.findings()) result.push_back(finding.pattern->label);
  return result;
}

using Labels = std::vector<std::string>;

const std::string kTraining =
    "[2026-11-26 10:00:00] using world size: 2\n"
    "[rank1]: Traceback (most recent call last):\n"
    "[rank0]: waiting\n"
    "[rank1]:   File \"train.py\", line 71, in <module>\n"
    "[rank1]:     raise Exception(\"no space left on device\")\n"
    "[rank1]: torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB.\n"
    "[rank0]:[E1126 10:10:00.018 ProcessGroupNCCL.cpp:632] [Rank 0] Watchdog caught collective operation "
    "timeout: "
    "WorkNCCL(SeqNum=1711)\n";

TEST(LogScan, NamesLinesAndSpeakers) {
  const auto log = scan(kTraining);
  const auto findings = log->findings();
  ASSERT_EQ(labels(*log), (Labels{"CodeError", "OutOfMemoryError", "NCCLTimeout"}));
  EXPECT_EQ(findings[0].line, 2);
  EXPECT_EQ(findings[0].text, "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB.");
  EXPECT_EQ(findings[1].line, 6);
  EXPECT_TRUE(findings[1].raised);
  EXPECT_EQ(findings[1].speaker.rank, 1);
  EXPECT_EQ(findings[2].speaker.rank, 0);
  EXPECT_NEAR(*findings[2].time - *findings[1].time, 600.018, 1e-3);
  EXPECT_EQ(log->last_lines({0, -1}).back().substr(0, 6), "[E1126");
  EXPECT_EQ(log->last_lines({}).size(), 7u);
}

TEST(LogScan, TakesMarksOfRanksAlone) {
  EXPECT_EQ(take_speaker("[rank12]: x").speaker, (Speaker{12, -1}));
  EXPECT_EQ(take_speaker("[default3]:[rank7]: x").speaker, (Speaker{7, 3}));
  EXPECT_EQ(take_speaker("(Worker rank=5 pid=71) x").speaker, (Speaker{5, -1}));
  for (const char* line :
       {"[step 3]: x", "[iter70000]: x", "[2026-11-26]: x", "[rank]: x", "[rank3] x", "[]: x", "["})
    EXPECT_EQ(take_speaker(line).text, line);
}

TEST(LogScan, FindsTheSameHoweverTheBytesAreCut) {
  const auto whole = scan(kTraining);
  std::mt19937 random(3);
  for (int round = 0; round < 200; ++round) {
    LogScan log(2026);
    for (size_t at = 0; at < kTraining.size();) {
      const size_t size = 1 + random() % 40;
      log.feed(std::string_view(kTraining).substr(at, size));
      at += size;
    }
    log.flush();
    const auto findings = log.findings(), expected = whole->findings();
    ASSERT_EQ(findings.size(), expected.size());
    for (size_t i = 0; i < findings.size(); ++i) {
      EXPECT_EQ(findings[i].text, expected[i].text);
      EXPECT_EQ(findings[i].line, expected[i].line);
      EXPECT_EQ(findings[i].count, expected[i].count);
    }
  }
}

// FlagScale counts lines of the first chunk in the second one too, and so passes over its errors.
TEST(LogScan, FindsWhatALaterAndShorterChunkSays) {
  LogScan log(2026);
  for (int i = 0; i < 100; ++i) log.feed("waiting\n");
  EXPECT_TRUE(log.findings().empty());
  log.feed("CUDA out of memory\n");
  ASSERT_EQ(labels(log), Labels{"OutOfMemoryError"});
  EXPECT_EQ(log.findings()[0].line, 101);
}

TEST(LogScan, IsNotCalmedByCompleted) {
  const auto log = scan("CUDA out of memory\nEpoch 1/100 completed\n");
  EXPECT_EQ(labels(*log), (Labels{"OutOfMemoryError", "Completed"}));
  EXPECT_FALSE(log->findings()[0].survived);
  EXPECT_EQ(labels(*scan("no exception was seen, completed\n")), Labels{"Completed"});
}

TEST(LogScan, KnowsThatTheJobGotOn) {
  const std::string error = "Connection refused\n",
                    progress = "iteration 3/ 9 | consumed samples: 24 | lm loss: 3.1\n";
  EXPECT_FALSE(scan(error + progress)->findings()[0].survived) << "another rank's line may be late";
  EXPECT_TRUE(scan(error + progress + progress)->findings()[0].survived);
  const auto again = scan(error + progress + progress + "waits\n" + error);
  EXPECT_FALSE(again->findings()[0].survived);
  EXPECT_EQ(again->findings()[0].line, 5);
  EXPECT_EQ(again->findings()[0].first, 1);
  EXPECT_EQ(again->findings()[0].count, 2);
  EXPECT_FALSE(scan("NVRM: Xid (PCI:0000:3b:00): 48\n" + progress + progress)->findings()[0].survived);
  // A file has the runs before it too.
  EXPECT_TRUE(scan(error + "using world size: 8, data-parallel size: 8\n")->findings()[0].survived);
}

TEST(LogScan, ReadsTracebacksBehindALoggersPrefix) {
  const auto log = scan(
      "(EngineCore_0 pid=71) ERROR 11-26 16:56:11 [core.py:718] Traceback (most recent call last):\n"
      "(EngineCore_0 pid=71) ERROR 11-26 16:56:11 [core.py:718]   File \"core.py\", line 691, in f\n"
      "(EngineCore_0 pid=71) ERROR 11-26 16:56:11 [core.py:718]     raise Exception(\"permission denied\")\n"
      "(EngineCore_0 pid=71) ERROR 11-26 16:56:11 [core.py:718] ValueError: No available memory for the "
      "cache "
      "blocks.\n");
  EXPECT_EQ(labels(*log), (Labels{"CodeError", "CacheTooSmall"}));
}

TEST(LogScan, GivesATracebackItsExceptionsRole) {
  const auto role_of = [](const std::string& exception) {
    return scan("Traceback (most recent call last):\n  File \"x.py\", line 1\n" + exception + "\n")
        ->findings()[0]
        .role;
  };
  EXPECT_EQ(role_of("ValueError: bad label"), Role::kCrash);
  EXPECT_EQ(role_of("torch.distributed.DistBackendError: NCCL error, remote process exited"),
            Role::kConsequence);
  EXPECT_EQ(scan("Traceback (most recent call last):\n  File \"x.py\"")->findings()[0].role, Role::kCrash);
}

TEST(LogScan, ReadsProgressBarsAndColours) {
  const auto log = scan(
      "  1%|#  | 1/99\r  2%|#  | 2/99\x1b[0m\r\x1b[31mCUDA out \x1b[1mof memory\x1b[0m\r\nPermission "
      "denied\n");
  EXPECT_EQ(labels(*log), (Labels{"OutOfMemoryError", "PermissionError"}));
  EXPECT_EQ(log->findings()[0].line, 1);
  EXPECT_EQ(log->findings()[1].line, 2);
}

TEST(LogScan, ReadsLinesOfAnyLength) {
  std::string line(1 << 20, 'x');
  line += " CUDA out of memory " + std::string(1 << 18, '\0') + "\nPermission denied\n";
  const auto log = scan(line);
  EXPECT_EQ(labels(*log), (Labels{"OutOfMemoryError", "PermissionError"}));
  EXPECT_EQ(log->findings()[1].line, 2);
  EXPECT_LE(log->findings()[0].text.size(), 500u);
}

TEST(LogScan, ReadsTorchrunsReport) {
  const auto log = scan(
      "torch.distributed.elastic.multiprocessing.errors.ChildFailedError: \n"
      "train.py FAILED\nFailures:\n[1]:\n"
      "  time      : 2026-11-26_10:00:09\n  host      : worker-1\n  rank      : 3 (local_rank: 1)\n"
      "  exitcode  : -6 (pid: 72)\n  error_file: <N/A>\n  traceback : Signal 6 (SIGABRT) received by PID 72\n"
      "Root Cause (first observed failure):\n[0]:\n"
      "  time      : 2026-11-26_10:00:01\n  host      : worker-0\n  rank      : 1 (local_rank: 1)\n"
      "  exitcode  : -9 (pid: 71)\n  error_file: <N/A>\n  traceback : Signal 9 (SIGKILL) received by PID "
      "71\n");
  EXPECT_EQ(labels(*log), Labels{"ChildFailed"}) << "the table's own words are no findings";
  ASSERT_EQ(log->endings().size(), 2u);
  EXPECT_EQ(log->endings()[1].rank, 1);
  EXPECT_EQ(log->endings()[1].how, Ending::How::kSignal);
  EXPECT_EQ(log->endings()[1].code, 9);
  EXPECT_EQ(*log->endings()[0].time - *log->endings()[1].time, 8);
}

TEST(TimeStamp, ReadsWhatLogsWrite) {
  const double expected = *time_stamp("2026-11-26T16:56:11Z", 0);
  EXPECT_EQ(expected, 1795712171.0);
  for (const char* line :
       {"[2026-11-26 16:56:11] iteration", "2026/11/26 16:56:11 x", "2026-11-27T00:56:11+08:00",
        "E1126 16:56:11 x", "[rank3]:[W1126 16:56:11 x", "INFO 11-26 16:56:11 [core.py:71]",
        "Nov 26 16:56:11 worker-1 kernel: x", "[Thu Nov 26 16:56:11 2026] Out of memory"})
    EXPECT_EQ(time_stamp(line, 2026), expected) << line;
  EXPECT_NEAR(*time_stamp("2026-11-26 16:56:11,250 INFO", 0), expected + 0.25, 1e-6);
  for (const char* line :
       {"16:56:11 x", "elapsed 00:01:02", "2026-13-26 16:56:11", "", ":::", "1:2:3", "ETA 11:22"})
    EXPECT_FALSE(time_stamp(line, 2026)) << line;
}

// FlagScale's test_log_collector.py: what is new since the last look, files that are not there, files
// replaced.
TEST(LogFile, ReadsWhatIsNew) {
  const TemporaryFolder folder;
  const std::string path = folder.put("host_0_localhost.output", "Initial log content\nLine 2\nLine 3\n");
  LogFile log(path);
  EXPECT_TRUE(log.read());
  EXPECT_EQ(log.offset(), 34u);
  EXPECT_FALSE(log.read());
  std::ofstream(path, std::ios::app) << "CUDA out of";
  EXPECT_TRUE(log.read());
  EXPECT_TRUE(log.scan().findings().empty());
  std::ofstream(path, std::ios::app) << " memory\n";
  EXPECT_TRUE(log.read());
  ASSERT_EQ(log.scan().findings().size(), 1u);
  EXPECT_EQ(log.scan().findings()[0].line, 4);
}

TEST(LogFile, WaitsForAFileThatIsNotThereYet) {
  const TemporaryFolder folder;
  LogFile log(folder.path + "/host_0_localhost.output");
  EXPECT_FALSE(log.read());
  folder.put("host_0_localhost.output", "");
  EXPECT_FALSE(log.read());
  folder.put("host_0_localhost.output", "Permission denied");
  EXPECT_TRUE(log.read());
  EXPECT_TRUE(log.scan().findings().empty()) << "the line may go on";
  log.end();
  EXPECT_EQ(log.scan().findings().size(), 1u);
}

TEST(LogFile, ReadsAFileThatBecameShorterFromItsStart) {
  const TemporaryFolder folder;
  const std::string path = folder.put("log", "a longer text than what follows\nConnection refused\n");
  LogFile log(path);
  log.read();
  folder.put("log", "Permission denied\n");
  EXPECT_TRUE(log.read());
  EXPECT_EQ(log.scan().findings().size(), 2u);
}

TEST(LogFile, LeavesEarlierRunsOut) {
  const TemporaryFolder folder;
  const std::string before = "Connection refused\n";
  LogFile log(folder.put("log", before + "Permission denied\n"), before.size());
  log.read();
  EXPECT_EQ(labels(log.scan()), Labels{"PermissionError"});
}

}  // namespace
}  // namespace flagscale::launch
