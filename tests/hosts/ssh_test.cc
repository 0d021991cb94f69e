// A training over two hosts: one reached by ssh, with a real sshd, and this one.

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

}  // namespace
}  // namespace flagscale::e2e
