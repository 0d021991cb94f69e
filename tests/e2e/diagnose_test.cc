// `flagscale diagnose`: from an experiment's folder, files, or a pipe to the rank that failed first.

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "base/temporary_folder_test_support.h"
#include "tests/e2e/program.h"

namespace flagscale::e2e {
namespace {

const std::string kLogs = FLAGSCALE_SOURCE_DIR "/tests/golden/launch/torchrun/";

std::string contents(const std::string& file) {
  std::ifstream in(file, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

TEST(DiagnoseCommand, FindsTheLogsOfAnExperiment) {
  const TemporaryFolder folder;
  folder.put("aquila/logs/host_0_localhost.output", contents(kLogs + "gpu_memory.output"));
  const Result result = run({"diagnose", "aquila"}, folder.path);
  EXPECT_EQ(result.code, 0) << result.err;
  EXPECT_TRUE(result.out.starts_with("rank 1 on localhost: OutOfMemoryError\n")) << result.out;
  EXPECT_NE(result.out.find("\n  aquila/logs/host_0_localhost.output:"), std::string::npos) << result.out;
  EXPECT_NE(result.out.find("\nWhat to do: "), std::string::npos) << result.out;
}

TEST(DiagnoseCommand, PrintsJson) {
  const Result result = run({"diagnose", kLogs + "killed.output", "--json"});
  ASSERT_EQ(result.code, 0) << result.err;
  const auto json = nlohmann::json::parse(result.out);
  EXPECT_EQ(json["culprit"]["rank"], 1);
  EXPECT_EQ(json["culprit"]["label"], "ProcessKilled");
  EXPECT_EQ(json["culprit"]["ending"], "signal 9 (SIGKILL)");
}

TEST(DiagnoseCommand, TakesEndingsAndPipes) {
  const TemporaryFolder folder;
  folder.put("rank0.log", "Connection reset by peer\n");
  folder.put("rank1.log", "working\n");
  const Result named = run({"diagnose", "rank0.log", "rank1.log", "--exit", "1=137"}, folder.path);
  EXPECT_TRUE(named.out.starts_with("rank 1: ProcessKilled\n")) << named.out << named.err;
  const Result piped = shell("printf 'bash: torchrun: command not found' | flagscale diagnose -");
  EXPECT_TRUE(piped.out.starts_with("the job: CommandNotFound\n")) << piped.out << piped.err;
  EXPECT_EQ(shell("echo all is well | flagscale diagnose -").out, "Nothing shows a failure.\n");
}

TEST(DiagnoseCommand, RefusesWhatIsNoLog) {
  const TemporaryFolder folder;
  const auto refused = [&](const std::vector<std::string>& words, int code, const std::string& says) {
    const Result result = run(words, folder.path);
    EXPECT_EQ(result.code, code) << result.err;
    EXPECT_NE(result.err.find(says), std::string::npos) << result.err;
  };
  refused({"diagnose", "nothing"}, 1, "nothing: there is no such file or folder");
  refused({"diagnose", "."}, 1, "no logs are here");
  refused({"diagnose", "-", "--exit", "one=9"}, 2, "expected RANK=CODE");
  refused({"diagnose"}, 2, "paths is required");
}

}  // namespace
}  // namespace flagscale::e2e
