// Trainings over several hosts: those that are reached by ssh, each with a real sshd, and this one.

#include <fstream>
#include <iterator>
#include <memory>
#include <thread>
#include <utility>

#include "launch/launcher/sshd_test_support.h"
#include "tests/e2e/workshop.h"

namespace flagscale::e2e {
namespace {

class OnSsh : public Workshop {};

TEST_F(OnSsh, TwoHostsTrainAsOne) {
  if (launch::sshd_program().empty()) GTEST_SKIP() << "there is no sshd here (openssh-server)";
  const launch::TestSshd sshd;
  const auto words = [](const std::string& name, std::vector<std::string> more) {
    more.insert(more.end(), {"train.model.train_iters=5", "train.model.global_batch_size=4",
                             "train.model.micro_batch_size=2", "train.system.logging.log_interval=1"});
    return training(name, more);
  };
  const Result one = must(words("one", {}));
  write("hosts", "127.0.0.1 slots=1\nlocalhost slots=1\n");
  const Result two = must(words("two", {"++experiment.runner.hostfile=hosts",
                                        "++experiment.runner.ssh_port=" + std::to_string(sshd.port),
                                        "++experiment.runner.ssh_arguments=[-F," + sshd.config + "]"}));
  const auto alone = losses(one.out), together = losses(two.out);
  ASSERT_EQ(alone.size(), 5u) << one.out;
  ASSERT_EQ(together.size(), 5u) << two.out << two.err;
  for (size_t i = 0; i < 5; ++i) EXPECT_NEAR(together[i], alone[i], 2e-6 * alone[i]);
}

// The process that reached the hosts leaves, and the one that follows them keeps its connections.
TEST_F(OnSsh, ATrainingInTheBackgroundGoesOn) {
  if (launch::sshd_program().empty()) GTEST_SKIP() << "there is no sshd here (openssh-server)";
  const launch::TestSshd sshd;
  write("hosts", "127.0.0.1 slots=1\nlocalhost slots=1\n");
  const auto words = [&](const std::string& last) {
    return training("behind", {"train.model.train_iters=100", "train.model.global_batch_size=4",
                               "train.model.micro_batch_size=2", "++experiment.runner.hostfile=hosts",
                               "++experiment.runner.ssh_port=" + std::to_string(sshd.port),
                               "++experiment.runner.ssh_arguments=[-F," + sshd.config + "]", last});
  };
  const auto said = must(words("--detach"));
  EXPECT_NE((said.out + said.err).find("runs in the background"), std::string::npos) << said.err;
  std::string state;
  for (int i = 0; i < 600 && (state.empty() || state.find("aquila running") == 0); ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(100));
    state = must(words("action=query")).out;
  }
  EXPECT_EQ(state.find("aquila completed"), 0u) << state;
}

// Hosts at 127.0.0.1, 127.0.0.2 and here; the second one breaks down on the way.
TEST_F(OnSsh, ATrainingGoesOnWithoutAHostThatIsLost) {
  if (launch::sshd_program().empty()) GTEST_SKIP() << "there is no sshd here (openssh-server)";
  const launch::TestSshd first;
  launch::TestSshd second("127.0.0.2", {}, first.port);
  std::string config;
  for (const auto& [address, sshd] :
       {std::pair{"127.0.0.1", &first}, {"127.0.0.2", &std::as_const(second)}}) {
    std::ifstream in(sshd->config);
    std::string one{std::istreambuf_iterator<char>(in), {}};
    config += one.replace(one.find('*'), 1, address);
  }
  write("ssh_config", config);
  write("hosts", "127.0.0.1 slots=1\n127.0.0.2 slots=1\nlocalhost slots=1\n");
  const auto words = [](const std::string& name, std::vector<std::string> more) {
    more.insert(more.end(), {"train.model.train_iters=60", "train.model.global_batch_size=6",
                             "train.model.micro_batch_size=1", "train.system.logging.log_interval=1",
                             "train.system.checkpoint.save_interval=5"});
    return training(name, more);
  };
  const Result one = must(words("alone", {}));
  Child child(
      program(words("elastic",
                    {"++experiment.runner.hostfile=hosts", "++experiment.runner.nnodes=2:3",
                     "++experiment.runner.elastic_wait=2", "++experiment.runner.max_restarts=1",
                     "++experiment.runner.ssh_port=" + std::to_string(first.port),
                     "++experiment.runner.ssh_arguments=[-F," + (folder_ / "ssh_config").string() + "]"})),
      {.folder = folder_});
  while (child.running() && !std::filesystem::exists(folder_ / "elastic/checkpoints/iter_0000005"))
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  second.end();
  const Result result = child.wait();
  ASSERT_EQ(result.code, 0) << result.out << result.err;
  for (const char* said : {"3 ranks have met", "2 ranks have met", "rank 1 on 127.0.0.2",
                           "2 of 3 hosts are there, 2 ranks start; not there: 127.0.0.2"})
    EXPECT_NE((result.out + result.err).find(said), std::string::npos) << said << result.out << result.err;
  const auto alone = losses(one.out), together = losses(result.out);
  ASSERT_EQ(alone.size(), 60u) << one.out;
  ASSERT_GE(together.size(), 60u) << result.out;
  EXPECT_NEAR(together.back(), alone.back(), 1e-4 * alone.back()) << "the global batch is the same";
}

// What does not divide the global batch is left out.
TEST_F(OnSsh, AsManyRanksTrainAsShareTheBatchEvenly) {
  write("here", "localhost slots=3\n");
  const Result result =
      run(training("even", {"++experiment.runner.hostfile=here", "++experiment.runner.nnodes=1:1",
                            "train.model.train_iters=2", "train.model.global_batch_size=4",
                            "train.model.micro_batch_size=1"}),
          folder_);
  EXPECT_EQ(result.code, 0) << result.err;
  EXPECT_NE(result.err.find("2 of 3 ranks train: more would not share the global batch of 4"),
            std::string::npos)
      << result.err;
  EXPECT_NE((result.out + result.err).find("2 ranks have met"), std::string::npos) << result.err;
}

}  // namespace
}  // namespace flagscale::e2e
