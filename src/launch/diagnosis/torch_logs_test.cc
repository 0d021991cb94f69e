// Logs of real jobs whose rank 1 failed (tests/oracle/launch/failing_rank.py).

#include <gtest/gtest.h>

#include "launch/diagnosis/diagnose.h"
#include "launch/diagnosis/job_logs.h"
#include "launch/diagnosis/log_file.h"
#include "launch/diagnosis/report.h"

namespace flagscale::launch {
namespace {

void expect_rank_1(const std::string& way, const std::string& label, const std::string& text) {
  LogFile log(FLAGSCALE_SOURCE_DIR "/tests/golden/launch/torchrun/" + way + ".output");
  ASSERT_TRUE(log.read()) << way;
  log.end();
  const Diagnosis diagnosis = diagnose({{{}, "localhost", way, &log.scan()}}, {});
  ASSERT_TRUE(diagnosis.failed);
  EXPECT_EQ(who(diagnosis.culprit), "rank 1 on localhost") << to_text(diagnosis);
  EXPECT_EQ(diagnosis.culprit.pattern->label, label) << to_text(diagnosis);
  EXPECT_NE(diagnosis.culprit.text.find(text), std::string::npos) << to_text(diagnosis);
  std::string last;
  for (const std::string& line : diagnosis.culprit.last_lines) last += line + "\n";
  EXPECT_NE(last.find("rank 1 has done 2"), std::string::npos) << last;
  EXPECT_EQ(last.find("rank 2 has done"), std::string::npos) << last;
}

TEST(TorchLogs, NameTheRankThatFailedAndOfWhat) {
  expect_rank_1("killed", "ProcessKilled", "");
  expect_rank_1("segfault", "SegmentationFault", "");
  expect_rank_1("gpu_memory", "OutOfMemoryError", "torch.OutOfMemoryError: CUDA out of memory");
  expect_rank_1("host_memory", "HostOutOfMemory", "DefaultCPUAllocator");
  expect_rank_1("value", "CodeError", "ValueError: bad label in sample 71");
  expect_rank_1("exit", "ExitCode", "");
  expect_rank_1("hang", "Silent", "");
}

}  // namespace
}  // namespace flagscale::launch
