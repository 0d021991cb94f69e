// Open MPI's own mpirun; where there is none (openmpi-bin), what needs it is skipped.

#include <gtest/gtest.h>

#include <map>

#include "base/error.h"
#include "launch/launcher/child.h"
#include "launch/launcher/launcher_test_support.h"
#include "launch/launcher/rank_from_environment.h"

namespace flagscale::launch {
namespace {

std::string host_name() {
  char name[256] = {};
  gethostname(name, sizeof name - 1);
  return name;
}

class OpenMpi : public testing::Test {
 protected:
  void SetUp() override {
    if (run_all({{{"sh", "-c", "command -v mpirun"}, {}, {}}}, {})[0].exit_code != 0)
      GTEST_SKIP() << "no mpirun here: apt-get install openmpi-bin";
    options.program = executable(folder, "agent", kScriptedAgent);
  }

  TemporaryFolder folder;
  LauncherOptions options;
  Job job = job_on({host_name(), host_name()});
};

TEST_F(OpenMpi, StartsNodes) {
  const auto launcher = make_launcher("openmpi", options);
  launcher->prepare(job);
  OpenNode first(*launcher, job.nodes[0], "5"), second(*launcher, job.nodes[1], "wait");
  EXPECT_EQ(first.read_until(), "agent agent - got 5\n");
  EXPECT_EQ(first.exit_code(), 5);
  second.read_until("got wait\n");
  second.end_stdin();
  EXPECT_EQ(second.read_until(), "agent agent - got wait\nbye\n");
  EXPECT_EQ(second.exit_code(), 7);
}

TEST_F(OpenMpi, BytesComeThroughAsTheyAre) {
  options.program = executable(folder, "agent", "#!/bin/sh\nprintf 'no newline'\nexec cat\n");
  const auto launcher = make_launcher("openmpi", options);
  launcher->prepare(job);
  std::string bytes = "\n";
  for (int c = 0; c < 256; ++c) bytes += static_cast<char>(c);
  OpenNode node(*launcher, job.nodes[0], bytes);
  EXPECT_EQ(node.read_until("\xff\n"), "no newline" + bytes + "\n");
}

TEST_F(OpenMpi, WhatIsNotThereIsNamed) {
  options.program = folder.path + "/none";
  EXPECT_EQ(refusal(*make_launcher("openmpi", options), job),
            "host " + host_name() + ": " + folder.path +
                "/none is not there: mpirun's hosts need this program at the same path");
}

TEST_F(OpenMpi, AHostThatIsNotReachedIsNamed) {
  options.mpi_arguments = {"--mca", "plm_rsh_args", "-o BatchMode=yes -o ConnectTimeout=3"};
  const std::string line = refusal(*make_launcher("openmpi", options), job_on({"no-such-host.invalid"}));
  EXPECT_TRUE(line.starts_with("host no-such-host.invalid: mpirun")) << line;
  EXPECT_EQ(line.find('\n'), std::string::npos) << line;
}

TEST_F(OpenMpi, AnArgumentThatItDoesNotKnowIsNamed) {
  options.mpi_arguments = {"--nope"};
  const std::string line = refusal(*make_launcher("openmpi", options), job_on({"localhost"}));
  EXPECT_NE(line.find("--nope"), std::string::npos) << line;
  EXPECT_EQ(line.find("is not there"), std::string::npos) << line;
}

// What mpirun really sets, read by rank_from_environment().
TEST_F(OpenMpi, TheRankThatMpirunGives) {
  const Finished env = run_all({{{"mpirun", "--oversubscribe", "-np", "3", "sh", "-c",
                                  "echo \"$(env | grep ^OMPI_COMM_ | tr '\\n' ';')\""},
                                 {{"OMPI_ALLOW_RUN_AS_ROOT", "1"}, {"OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1"}},
                                 {}}},
                               std::chrono::seconds(60))[0];
  std::vector<bool> seen(3);
  for (const std::string& line : lines_of(env.out)) {
    std::map<std::string, std::string> set;
    for (size_t begin = 0, end; (end = line.find(';', begin)) != std::string::npos; begin = end + 1) {
      const std::string one = line.substr(begin, end - begin);
      set[one.substr(0, one.find('='))] = one.substr(one.find('=') + 1);
    }
    const auto rank = rank_from_environment([&](const char* name) {
      const auto it = set.find(name);
      return it == set.end() ? nullptr : it->second.c_str();
    });
    ASSERT_TRUE(rank) << line;
    EXPECT_EQ(rank->world_size, 3);
    EXPECT_EQ(rank->local_size, 3);
    EXPECT_EQ(rank->local_rank, rank->rank);
    seen.at(static_cast<size_t>(rank->rank)) = true;
  }
  EXPECT_EQ(seen, std::vector<bool>(3, true)) << env.err;
}

}  // namespace
}  // namespace flagscale::launch
