// Whole jobs on other hosts: agents under run_job(), brought there by launchers. This program is the agent
// too.

#include <gtest/gtest.h>

#include <cstring>

#include "launch/agent/agent.h"
#include "launch/launcher/namespace_test_support.h"
#include "launch/launcher/slurm_test_support.h"
#include "launch/run/job_test_support.h"

namespace flagscale::launch {
namespace {

class JobOnHosts : public RunningJobTest {
 protected:
  // The scripts' ranks, on these hosts.
  Job job_there(const std::vector<std::string>& hosts, const std::vector<std::string>& scripts) const {
    Job job = RunningJobTest::job(scripts);
    for (size_t i = 0; i < hosts.size(); ++i) {
      job.nodes[i].host.name = hosts[i];
      job.nodes[i].output = job.log / ("host_" + std::to_string(i) + "_" + hosts[i] + ".output");
    }
    return job;
  }
  Outcome run_by(const std::string& name, const LauncherOptions& options, const Job& job,
                 RunOptions how = quick()) {
    const auto launcher = make_launcher(name, options);
    launcher->prepare(job);
    how.open_link = [&](const NodeTask& task) { return launcher->open(task); };
    return RunningJobTest::run(job, how);
  }
};

class JobOnTwoHosts : public JobOnHosts {
 protected:
  void SetUp() override {
    if (!hosts.missing.empty()) GTEST_SKIP() << hosts.missing;
  }
  Job job(const std::vector<std::string>& scripts) const {
    Job job = job_there({hosts.a.address(), hosts.b.address()}, scripts);
    job.ssh_port = hosts.port;
    return job;
  }

  TestHosts hosts;
};

const std::string kWhere = "echo rank $RANK at $(ip -4 -o addr show eth0 | grep -o 'inet [0-9.]*'); ";

TEST_F(JobOnTwoHosts, EachRankRunsOnItsHost) {
  const Outcome outcome = run_by("ssh", hosts.options, job({kWhere, kWhere}));
  EXPECT_EQ(outcome.code, 0) << outcome.out;
  EXPECT_NE(outcome.out.find("rank 0 at inet " + hosts.a.address()), std::string::npos) << outcome.out;
  EXPECT_NE(outcome.out.find("rank 1 at inet " + hosts.b.address()), std::string::npos) << outcome.out;
  EXPECT_EQ(file("exp/logs/host_1_" + hosts.b.address() + ".output"),
            "rank 1 at inet " + hosts.b.address() + "\n");
}

TEST_F(JobOnTwoHosts, OneFailureEndsTheOther) {
  const auto begin = std::chrono::steady_clock::now();
  const Outcome outcome = run_by("ssh", hosts.options, job({"echo $$ >first; exec sleep 1000", "exit 9"}));
  EXPECT_EQ(outcome.code, 9) << outcome.out;
  EXPECT_NE(outcome.out.find(hosts.b.address()), std::string::npos) << outcome.out;
  EXPECT_LT(std::chrono::steady_clock::now() - begin, std::chrono::seconds(20));
  const int first = std::atoi(file("first").c_str());
  EXPECT_TRUE(first == 0 || soon([&] { return !is_there(first); }));
}

TEST_F(JobOnTwoHosts, ALostHostIsTheCulprit) {
  RunOptions how = quick();
  how.lost_after = 3;
  const Job job_ = job({"echo $$ >first; exec sleep 1000", "echo $$ >second; exec sleep 1000"});
  std::thread cable([&] {
    if (appears("first") && appears("second")) hosts.b.pull_the_cable();
  });
  const Outcome outcome = run_by("ssh", hosts.options, job_, how);
  cable.join();
  EXPECT_NE(outcome.code, 0);
  EXPECT_NE(outcome.out.find(hosts.b.address()), std::string::npos) << outcome.out;
  // Nothing is left, not even there: the agent hears nobody any more.
  EXPECT_TRUE(soon([&] { return !is_there(process_in("first")) && !is_there(process_in("second")); }, 20));
}

TEST_F(JobOnTwoHosts, NothingIsLeftWhenTheLauncherIsKilled) {
  const Job job_ = job({"echo $$ >first; exec sleep 1000", "echo $$ >second; exec sleep 1000"});
  const auto launcher = make_launcher("ssh", hosts.options);
  launcher->prepare(job_);
  RunOptions how = quick();
  how.open_link = [&](const NodeTask& task) { return launcher->open(task); };
  const pid_t pid = launch(job_, how);
  const int first = process_in("first"), second = process_in("second");
  ASSERT_GT(first, 0);
  ASSERT_GT(second, 0);
  kill(pid, SIGKILL);
  EXPECT_TRUE(soon([&] { return !is_there(first) && !is_there(second); }, 10));
}

TEST_F(JobOnHosts, ASlurmAllocationsHostsRunAJob) {
  if (!has_slurm()) GTEST_SKIP() << "no Slurm here: apt-get install slurmctld slurmd slurm-client";
  TestSlurm slurm;
  const Finished salloc = run_all({{{"salloc", "-N2", "--no-shell"}, {}, {}}}, std::chrono::seconds(30))[0];
  const size_t at = salloc.err.rfind("allocation ");
  ASSERT_NE(at, std::string::npos) << salloc.err;
  setenv("SLURM_JOB_ID",
         std::to_string(std::stoi(salloc.err.substr(at + std::strlen("allocation ")))).c_str(), 1);
  setenv("SLURM_JOB_NODELIST", "n[1-2]", 1);
  const std::string where = "echo rank $RANK at $SLURMD_NODENAME";
  const Outcome outcome = run_by("slurm", {}, job_there({"n1", "n2"}, {where, where}));
  EXPECT_EQ(outcome.code, 0) << outcome.out;
  EXPECT_EQ(file("exp/logs/host_0_n1.output"), "rank 0 at n1\n");
  EXPECT_EQ(file("exp/logs/host_1_n2.output"), "rank 1 at n2\n");
  unsetenv("SLURM_JOB_ID");
  unsetenv("SLURM_JOB_NODELIST");
}

}  // namespace
}  // namespace flagscale::launch

int main(int argc, char** argv) {
  if (argc == 3 && std::strcmp(argv[1], "agent") == 0) return flagscale::launch::run_agent(0, 1);
  testing::InitGoogleTest(&argc, argv);
  return RUN_ALL_TESTS();
}
