// The ranks' output files as `flagscale logs` and `attach` print them.

#include "launch/run/read_logs.h"

#include "launch/run/control.h"
#include "launch/run/job_test_support.h"

namespace flagscale::launch {
namespace {

class ReadLogs : public RunningJobTest {
 protected:
  std::string printed(const LogOptions& options) const {
    std::FILE* out = std::tmpfile();
    print_logs(query_job(path("exp")), options, out);
    std::string text(static_cast<size_t>(std::ftell(out)), ' ');
    EXPECT_EQ(std::fseek(out, 0, SEEK_SET), 0);
    EXPECT_EQ(std::fread(text.data(), 1, text.size(), out), text.size());
    std::fclose(out);
    return text;
  }
};

TEST_F(ReadLogs, OfOneRankTheyAreAsTheyAre) {
  run(job({"seq 5; printf end"}));
  EXPECT_EQ(printed({}), "1\n2\n3\n4\n5\nend");
  EXPECT_EQ(printed({.rank = {}, .lines = 2}), "5\nend");
  EXPECT_EQ(printed({.rank = {}, .lines = 0}), "");
  EXPECT_EQ(printed({.rank = {}, .lines = 100}), "1\n2\n3\n4\n5\nend");
}

TEST_F(ReadLogs, OfSeveralEachLineHasItsRank) {
  run(job({"echo a", "echo b; printf c"}));
  EXPECT_EQ(printed({}), "[0] a\n[1] b\n[1] c\n");
  EXPECT_EQ(printed({.rank = 1, .lines = 1}), "c");
  EXPECT_THROW(printed({.rank = 7}), Error);
}

TEST_F(ReadLogs, OfHostsWithoutACommonFileSystemThereIsACopy) {
  Job apart = job({"echo a; sleep 0.2; echo CUDA out of memory; exit 1"});
  apart.no_shared_fs = true, apart.container = "box";
  apart.nodes[0].output = apart.log / "host.output";
  run(apart);
  EXPECT_EQ(file("exp/logs/host.output"), file("exp/logs/host_0_localhost.output"));
  std::filesystem::remove(path("exp/logs/host.output"));
  EXPECT_EQ(printed({}), "a\nCUDA out of memory\n");
  EXPECT_NE(file("exp/logs/monitor/host_0_localhost_diagnostic.txt").find("OutOfMemoryError"),
            std::string::npos);
}

TEST_F(ReadLogs, AreFollowedToTheEndOfTheJob) {
  const pid_t launcher = launch(job({"echo begun; while [ ! -e finish ]; do sleep 0.05; done; echo last"}));
  ASSERT_TRUE(appears("exp/logs/host_0_localhost.output"));
  std::thread finish([&] {
    std::this_thread::sleep_for(std::chrono::milliseconds(300));
    std::ofstream(path("finish")) << "now";
  });
  EXPECT_EQ(printed({.rank = {}, .lines = -1, .follow = true}), "begun\nlast\n");
  finish.join();
  EXPECT_EQ(wait_for(launcher), 0);
}

}  // namespace
}  // namespace flagscale::launch
