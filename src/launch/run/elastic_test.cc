// Jobs whose hosts come and go: nnodes as MIN:MAX.

#include <csignal>
#include <filesystem>
#include <set>
#include <sstream>

#include "launch/record/run_status.h"
#include "launch/run/control.h"
#include "launch/run/job_test_support.h"

namespace flagscale::launch {
namespace {

class ElasticJob : public RunningJobTest {
 protected:
  static constexpr const char* kWorks =
      "echo $RANK of $WORLD_SIZE on $HOST >> starts; echo $$ > rank_$HOST; "
      "while [ ! -e finish ]; do sleep 0.05; done";

  // Hosts that are this machine. One is down while there is a file of that name.
  RunOptions on(const std::vector<std::string>& hosts, int least, int most, double wait = 2) const {
    RunOptions options = quick();
    Elastic& elastic = options.elastic.emplace();
    for (const std::string& name : hosts) elastic.hosts.push_back({name, 1, ""});
    elastic.least = least, elastic.most = most, elastic.wait = wait;
    elastic.ranks = [this](const std::vector<Host>& there) {
      Job of_them = job(std::vector<std::string>(there.size(), kWorks));
      for (size_t i = 0; i < there.size(); ++i) {
        of_them.nodes[i].host = there[i];
        of_them.nodes[i].command.env.insert(
            {{"WORLD_SIZE", std::to_string(there.size())}, {"HOST", there[i].name}});
      }
      return of_them.nodes;
    };
    options.open_link = [this](const NodeTask& task) {
      if (std::filesystem::exists(path("down_" + task.host.name)))
        fail(ErrorKind::kResource, "nobody answers");
      return open_local_link();
    };
    return options;
  }

  pid_t start(const RunOptions& options) {
    Job elastic = job({});
    elastic.nodes = options.elastic->ranks(options.elastic->hosts);
    elastic.max_restarts = 3;
    return launch(elastic, options);
  }

  void down(const std::string& host) { temporary_.put("down_" + host, ""); }
  void up(const std::string& host) { std::filesystem::remove(path("down_" + host)); }
  void crash(const std::string& host) {
    down(host);
    for (const RankStatus& rank : query_job(path("exp")).ranks)
      if (rank.host == host) send_signal(rank.agent, SIGKILL);
  }
  void finish() { temporary_.put("finish", ""); }

  // Whether these ranks, and no others, start next.
  bool starts(const std::set<std::string>& ranks, double within = 10) {
    const auto lines = [&] {
      std::set<std::string> found;
      std::istringstream in(file("starts"));
      for (std::string line; std::getline(in, line);) found.insert(line);
      return found;
    };
    const bool started = soon([&] { return lines().size() >= ranks.size(); }, within) && lines() == ranks &&
                         soon([&] { return query_job(path("exp")).state == RunState::kRunning; });
    if (!started) ADD_FAILURE() << file("starts") << file("launcher");
    std::filesystem::remove(path("starts"));
    return started;
  }
};

TEST_F(ElasticJob, GoesOnWithTheHostsThatAreLeftAndTakesOneBackAtTheNextStart) {
  const pid_t launcher = start(on({"a", "b", "c"}, 2, 3));
  ASSERT_TRUE(starts({"0 of 3 on a", "1 of 3 on b", "2 of 3 on c"}));
  crash("b");
  ASSERT_TRUE(starts({"0 of 2 on a", "1 of 2 on c"}));
  EXPECT_EQ(query_job(path("exp")).ranks.size(), 2u);
  EXPECT_NE(file("launcher").find("2 of 3 hosts are there, 2 ranks start; not there: b (nobody answers)"),
            std::string::npos)
      << file("launcher");
  up("b");
  kill(process_in("rank_c"), SIGKILL);
  ASSERT_TRUE(starts({"0 of 3 on a", "1 of 3 on b", "2 of 3 on c"}));
  finish();
  EXPECT_EQ(wait_for(launcher), 0) << file("launcher");
  const RunStatus status = query_job(path("exp"));
  EXPECT_EQ(status.state, RunState::kCompleted);
  EXPECT_EQ(status.restarts, 2);
  EXPECT_EQ(status.ranks.size(), 3u);
}

TEST_F(ElasticJob, ASpareHostComesInAtOnce) {
  const pid_t launcher = start(on({"a", "b", "c", "d"}, 2, 3, 1000));
  ASSERT_TRUE(starts({"0 of 3 on a", "1 of 3 on b", "2 of 3 on c"}));
  crash("b");
  ASSERT_TRUE(starts({"0 of 3 on a", "1 of 3 on c", "2 of 3 on d"}));
  finish();
  EXPECT_EQ(wait_for(launcher), 0) << file("launcher");
}

TEST_F(ElasticJob, AHostThatComesBackWithinTheWaitIsUsed) {
  const pid_t launcher = start(on({"a", "b"}, 1, 2, 1000));
  ASSERT_TRUE(starts({"0 of 2 on a", "1 of 2 on b"}));
  crash("b");
  ASSERT_TRUE(soon([&] { return query_job(path("exp")).state == RunState::kRestarting; }));
  std::this_thread::sleep_for(std::chrono::milliseconds(200));
  EXPECT_EQ(file("starts"), "");
  up("b");
  ASSERT_TRUE(starts({"0 of 2 on a", "1 of 2 on b"}));
  finish();
  EXPECT_EQ(wait_for(launcher), 0) << file("launcher");
}

TEST_F(ElasticJob, TooFewHostsAreAnError) {
  down("b"), down("c");
  const pid_t launcher = start(on({"a", "b", "c"}, 2, 3, 1));
  EXPECT_EQ(wait_for(launcher), 1);
  EXPECT_EQ(file("launcher"),
            "flagscale: warning: 1 of at least 2 hosts are there after 1 s; not there: b (nobody answers), c "
            "(nobody answers)\n");
  EXPECT_EQ(query_job(path("exp")).state, RunState::kFailed);
}

TEST_F(ElasticJob, IsStoppedWhileItWaits) {
  down("b");
  const pid_t launcher = start(on({"a", "b"}, 2, 2, 1000));
  ASSERT_TRUE(soon([&] { return std::filesystem::exists(path("exp/records/runs.sqlite")); }));
  std::this_thread::sleep_for(std::chrono::milliseconds(300));
  kill(launcher, SIGTERM);
  EXPECT_EQ(wait_for(launcher), 143);
  EXPECT_EQ(query_job(path("exp")).state, RunState::kStopped);
}

}  // namespace
}  // namespace flagscale::launch
