// Slurm: against a real one with two virtual hosts, started here; where there is none (slurmctld, slurmd,
// slurm-client), what needs it is skipped.

#include <gtest/gtest.h>

#include <fstream>

#include "base/error.h"
#include "launch/launcher/batch_system.h"
#include "launch/launcher/slurm_allocation.h"
#include "launch/launcher/slurm_test_support.h"

namespace flagscale::launch {
namespace {

using std::chrono::seconds;

BatchJob batch_job(const TemporaryFolder& folder, const std::string& script) {
  BatchJob job;
  job.name = "aquila #1 \"x\"";
  job.log = folder.path + "/logs";
  job.nodes = 2;
  job.command = {executable(folder, "my program's", script), "run", "a=$b", "c d"};
  job.env = {{"LAYOUT", R"({"a": "$HOME"})"}};
  return job;
}

TEST(SlurmScript, SaysWhatItAsksFor) {
  const TemporaryFolder folder;
  LauncherOptions options;
  options.slurm = {"gpu", "me", "high", "1-00:00:00", "", {"--exclusive", "--comment=two words"}};
  BatchJob job = batch_job(folder, "#!/bin/sh\n");
  job.devices = 8;
  const auto files = make_batch_system("slurm", options)->files(job);
  ASSERT_EQ(files.size(), 1u);
  EXPECT_EQ(files[0].path, folder.path + "/logs/scripts/slurm.sh");
  EXPECT_EQ(files[0].text, R"(#!/bin/bash
#SBATCH --job-name="aquila #1 \"x\""
#SBATCH --nodes="2"
#SBATCH --ntasks-per-node="1"
#SBATCH --output=")" + folder.path +
                               R"(/logs/slurm-%j.output"
#SBATCH --open-mode="append"
#SBATCH --signal="B:TERM@60"
#SBATCH --gpus-per-node="8"
#SBATCH --partition="gpu"
#SBATCH --account="me"
#SBATCH --qos="high"
#SBATCH --time="1-00:00:00"
#SBATCH "--exclusive"
#SBATCH "--comment=two words"

export LAYOUT='{"a": "$HOME"}'
exec ')" + folder.path + R"(/my program'\''s' run 'a=$b' 'c d'
)");
}

TEST(SlurmScript, ANewlineIsRefused) {
  const TemporaryFolder folder;
  BatchJob job = batch_job(folder, "#!/bin/sh\n");
  job.name = "a\n#SBATCH --nodes=99";
  EXPECT_THROW(make_batch_system("slurm", {})->files(job), Error);
}

TEST(SlurmAllocation, IsReadFromTheEnvironment) {
  std::map<std::string, std::string> set = {
      {"SLURM_JOB_ID", "7"}, {"SLURM_JOB_NODELIST", "n[01-02]"}, {"SLURM_GPUS_ON_NODE", "8"}};
  const auto hosts = [&] {
    return allocated_hosts([&](const char* name) {
      const auto it = set.find(name);
      return it == set.end() ? nullptr : it->second.c_str();
    });
  };
  ASSERT_TRUE(hosts());
  EXPECT_EQ(hosts()->size(), 2u);
  EXPECT_EQ((*hosts())[1].name, "n02");
  EXPECT_EQ((*hosts())[1].slots, 8);
  // A task of a step was started to be a part.
  set.insert({{"SLURM_STEP_ID", "0"}, {"SLURM_PROCID", "0"}, {"SLURM_NTASKS", "1"}, {"SLURM_LOCALID", "0"}});
  EXPECT_FALSE(hosts());
  set = {};
  EXPECT_FALSE(hosts());
}

class Slurm : public testing::Test {
 protected:
  static void TearDownTestSuite() { slurm.reset(); }
  void SetUp() override {
    if (!has_slurm()) GTEST_SKIP() << "no Slurm here: apt-get install slurmctld slurmd slurm-client";
    if (!slurm) slurm = std::make_unique<TestSlurm>();
    options.program = executable(folder, "agent", kScriptedAgent);
  }

  // Runs `inside` as if it were started in an allocation of both hosts.
  template <class Inside>
  void in_an_allocation(const Inside& inside) {
    const Finished salloc = run_all({{{"salloc", "-N2", "--no-shell"}, {}, {}}}, seconds(30))[0];
    const std::string sign = "allocation ";
    const size_t at = salloc.err.rfind(sign);
    ASSERT_NE(at, std::string::npos) << salloc.err;
    const std::string id = std::to_string(std::stoi(salloc.err.substr(at + sign.size())));
    setenv("SLURM_JOB_ID", id.c_str(), 1);
    setenv("SLURM_JOB_NODELIST", "n[1-2]", 1);
    inside();
    unsetenv("SLURM_JOB_ID");
    unsetenv("SLURM_JOB_NODELIST");
    run_all({{{"scancel", id}, {}, {}}}, seconds(10));
  }

  int followed(const BatchSystem& system, const BatchJob& job, const std::string& id) {
    return follow(
        system, job, id, [&](const BatchState& state) { states += state.text + "\n"; },
        [&](std::string_view text) { output += text; });
  }

  static inline std::unique_ptr<TestSlurm> slurm;
  TemporaryFolder folder;
  LauncherOptions options;
  std::string states, output;
};

TEST_F(Slurm, EachHostOfTheAllocationRunsItsNode) {
  options.program =
      executable(folder, "agent", "#!/bin/sh\nread -r what\necho $SLURMD_NODENAME got $what\nexit $what\n");
  in_an_allocation([&] {
    const auto hosts = allocated_hosts();
    ASSERT_TRUE(hosts);
    const Job job = job_on({(*hosts)[0].name, (*hosts)[1].name});
    const auto launcher = make_launcher("slurm", options);
    launcher->prepare(job);
    OpenNode first(*launcher, job.nodes[0], "5"), second(*launcher, job.nodes[1], "6");
    EXPECT_EQ(first.read_until(), "n1 got 5\n");
    EXPECT_EQ(second.read_until(), "n2 got 6\n");
    EXPECT_EQ(first.exit_code(), 5);
    EXPECT_EQ(second.exit_code(), 6);
  });
}

TEST_F(Slurm, BytesComeThroughAtOnceAndAsTheyAre) {
  options.program = executable(folder, "agent", "#!/bin/sh\nprintf 'no newline'\nexec cat\n");
  in_an_allocation([&] {
    const Job job = job_on({"n2"});
    const auto launcher = make_launcher("slurm", options);
    launcher->prepare(job);
    std::string bytes = "\n";
    for (int c = 0; c < 256; ++c) bytes += static_cast<char>(c);
    OpenNode node(*launcher, job.nodes[0], bytes);
    EXPECT_EQ(node.read_until("\xff\n"), "no newline" + bytes + "\n");
    node.end_stdin();
    node.read_until();
    EXPECT_EQ(node.exit_code(), 0);
  });
}

TEST_F(Slurm, TheEndOfStdinReachesTheOtherSide) {
  in_an_allocation(
      [&] { expect_the_end_of_stdin_arrives(*make_launcher("slurm", options), job_on({"n1"})); });
}

TEST_F(Slurm, AForeignHostIsRefused) {
  in_an_allocation([&] {
    EXPECT_EQ(refusal(*make_launcher("slurm", options), job_on({"n1", "n9"})),
              "host n9 is not in this Slurm allocation (n[1-2])");
  });
  EXPECT_NE(refusal(*make_launcher("slurm", options), job_on({"n1"})).find("this is no Slurm allocation"),
            std::string::npos);
}

TEST_F(Slurm, AMissingProgramIsNamed) {
  options.program = folder.path + "/none";
  in_an_allocation([&] {
    const Job job = job_on({"n1"});
    const auto launcher = make_launcher("slurm", options);
    launcher->prepare(job);
    OpenNode node(*launcher, job.nodes[0], "0");
    node.read_until();
    EXPECT_NE(node.exit_code(), 0);
    EXPECT_EQ(node.explanation(), "host n1: " + folder.path +
                                      "/none is not there: Slurm's hosts need this program at the same path");
  });
}

TEST_F(Slurm, ABatchJobRunsToItsEnd) {
  const BatchJob job = batch_job(
      folder, "#!/bin/sh\necho \"$1|$2|$3|$LAYOUT|$SLURM_JOB_NAME|$SLURM_NNODES\"\nsleep 2\nexit 5\n");
  const auto system = make_batch_system("slurm", options);
  const std::string id = system->submit(job);
  EXPECT_EQ(followed(*system, job, id), 5);
  EXPECT_EQ(output, "run|a=$b|c d|{\"a\": \"$HOME\"}|aquila #1 \"x\"|2\n");
  EXPECT_NE(states.find("RUNNING on n[1-2]\n"), std::string::npos) << states;
  EXPECT_NE(states.find("FAILED"), std::string::npos) << states;
}

TEST_F(Slurm, AJobThatRunsIsToldToStop) {
  const BatchJob job = batch_job(
      folder,
      "#!/bin/sh\ntrap 'echo stopped in order; exit 3' TERM\necho here\nwhile :; do sleep 0.1; done\n");
  const auto system = make_batch_system("slurm", options);
  const std::string id = system->submit(job);
  size_t place = 0;
  ASSERT_TRUE(comes_true([&] { return !system->output(job, id, place).empty(); }));
  system->cancel(id);
  EXPECT_EQ(followed(*system, job, id), 3);
  EXPECT_TRUE(output.ends_with("stopped in order\n")) << output;
}

TEST_F(Slurm, AJobThatWaitsIsCancelled) {
  in_an_allocation([&] {
    BatchJob job = batch_job(folder, "#!/bin/sh\n");
    options.slurm.arguments = {"--exclusive"};
    const auto system = make_batch_system("slurm", options);
    const std::string id = system->submit(job);
    const BatchState state = system->state(id);
    EXPECT_EQ(state.phase, BatchState::Phase::kWaiting) << state.text;
    system->cancel(id);
    EXPECT_EQ(followed(*system, job, id), 1);
    EXPECT_NE(states.find("CANCELLED"), std::string::npos) << states;
  });
}

TEST_F(Slurm, SlurmsOwnReasonIsShown) {
  options.slurm.partition = "none";
  const BatchJob job = batch_job(folder, "#!/bin/sh\n");
  try {
    make_batch_system("slurm", options)->submit(job);
    FAIL();
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what())
                  .find("sbatch refuses " + folder.path + "/logs/scripts/slurm.sh: sbatch: error: "),
              std::string::npos)
        << error.what();
    EXPECT_NE(std::string(error.what()).find("partition"), std::string::npos) << error.what();
  }
}

// What srun really sets, read by rank_from_environment().
TEST_F(Slurm, TheRankThatSrunGives) {
  const Finished env = run_all(
      {{{"srun", "--quiet", "-N2", "--ntasks-per-node=2", "--label", "sh", "-c", "env | grep ^SLURM_"},
        {},
        {}}},
      seconds(30))[0];
  std::map<std::string, std::map<std::string, std::string>> tasks;
  for (const std::string& line : lines_of(env.out)) {
    const size_t colon = line.find(": "), equal = line.find('=');
    tasks[line.substr(0, colon)][line.substr(colon + 2, equal - colon - 2)] = line.substr(equal + 1);
  }
  ASSERT_EQ(tasks.size(), 4u) << env.err;
  for (const auto& [label, set] : tasks) {
    const auto rank = rank_from_environment([&](const char* name) {
      const auto it = set.find(name);
      return it == set.end() ? nullptr : it->second.c_str();
    });
    ASSERT_TRUE(rank);
    EXPECT_EQ(rank->rank, std::stoi(label));
    EXPECT_EQ(rank->world_size, 4);
    EXPECT_EQ(rank->local_size, 2);
    EXPECT_LT(rank->local_rank, 2);
    EXPECT_EQ(rank->hosts, std::vector<std::string>({"n1", "n2"}));
    EXPECT_EQ(rank->master_addr, "n1");
    EXPECT_FALSE(rank->whole_host);
  }
}

}  // namespace
}  // namespace flagscale::launch
