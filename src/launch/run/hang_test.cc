// Ranks that no longer get on.

#include <filesystem>

#include "launch/run/control.h"
#include "launch/run/job_test_support.h"

namespace flagscale::launch {
namespace {

class Hang : public RunningJobTest {
 protected:
  static RunOptions impatient() {
    RunOptions options = quick();
    options.limits.step = 0.7;
    return options;
  }
  std::string report() const {
    for (const auto& entry : std::filesystem::directory_iterator(path("exp/logs"))) {
      const std::string name = entry.path().filename();
      if (name.starts_with("hang_")) return file("exp/logs/" + name);
    }
    return "";
  }
};

constexpr const char* kBeats = R"(
  i=0; beat() { i=$((i + 1)); echo "$1 $2 $$ $i 0" > $FLAGSCALE_HEARTBEATS/rank_$RANK; }
  )";

TEST_F(Hang, IsReportedWithEveryRanksStackAndEndsWhenItGetsOn) {
  const std::string hangs = std::string(kBeats) + R"(
    beat step 1; sleep 0.3; beat step 2; echo $$ > hung; while [ ! -e go_on ]; do sleep 0.05; done
    beat step 3; echo $$ > on; while [ ! -e finish ]; do beat step 4; sleep 0.1; done)";
  const std::string works = std::string(kBeats) + "while [ ! -e finish ]; do beat step 1; sleep 0.1; done";
  const pid_t launcher = launch(job({works, hangs}), impatient());
  const int pid = process_in("hung");
  ASSERT_TRUE(soon([&] { return query_job(path("exp")).state == RunState::kHung; })) << file("launcher");
  ASSERT_TRUE(soon([&] { return file("launcher").find("every rank's stack is in") != std::string::npos; }));
  EXPECT_NE(report().find("rank 1 on localhost: no heartbeat"), std::string::npos) << report();
  EXPECT_NE(report().find("in phase step, iteration 2"), std::string::npos) << report();
  EXPECT_NE(report().find("== rank 0 on localhost\nprocess "), std::string::npos) << report();
  EXPECT_NE(report().find("process " + std::to_string(pid)), std::string::npos) << report();
  EXPECT_TRUE(is_there(pid)) << "a report ends nothing";
  std::ofstream(path("go_on")) << "now\n";
  EXPECT_TRUE(soon([&] { return query_job(path("exp")).state == RunState::kRunning; }));
  std::ofstream(path("finish")) << "now\n";
  EXPECT_EQ(wait_for(launcher), 0);
}

TEST_F(Hang, IsEndedAndStartedAgainWhereThatIsAskedFor) {
  RunOptions options = impatient();
  options.on_hang = OnHang::kRestart;
  Job stuck = job({std::string(kBeats) + R"(
    beat first_step 0; [ ! -e tried ] || exit 0
    beat step 1; echo yes > tried; trap '' TERM; while :; do sleep 1; done)"});
  stuck.max_restarts = 1;
  const Outcome outcome = run(stuck, options);
  EXPECT_EQ(outcome.code, 0) << outcome.out;
  EXPECT_EQ(query_job(path("exp")).restarts, 1);
}

TEST_F(Hang, ALongSaveIsNone) {
  const Outcome outcome =
      run(job({std::string(kBeats) + "beat step 1; beat save 1; sleep 1.5"}), impatient());
  EXPECT_EQ(outcome.code, 0);
  EXPECT_EQ(report(), "");
}

TEST_F(Hang, WhatARankMeasuresIsOnRecord) {
  const std::string script = R"(
    echo "step 3 $$ 1 0 lm_loss=2.5 speed=nan broken= =1 word" > $FLAGSCALE_HEARTBEATS/rank_0; sleep 0.6
    echo "step 9 $$ 2 0 lm_loss=1.25 speed=7e3" > $FLAGSCALE_HEARTBEATS/rank_0)";
  EXPECT_EQ(run(job({script})).code, 0);
  const RunStatus status = query_job(path("exp"));
  EXPECT_EQ(status.measured, 9);
  EXPECT_EQ(status.metrics, (std::map<std::string, double>{{"lm_loss", 1.25}, {"speed", 7000}}));
  EXPECT_NE(to_json(status).find(R"("metrics":{"iteration":9,"lm_loss":1.25,"speed":7000.0})"),
            std::string::npos)
      << to_json(status);
  EXPECT_NE(describe(status).find(", lm loss 1.2500"), std::string::npos) << describe(status);
  const std::string events = file("exp/records/events.jsonl");
  EXPECT_NE(events.find(R"("rank":0,"iteration":3,"lm_loss":2.5,"speed":null})"), std::string::npos)
      << events;
  EXPECT_NE(events.find(R"("rank":0,"iteration":9,"lm_loss":1.25,"speed":7000.0})"), std::string::npos)
      << events;
}

TEST_F(Hang, ProgressIsOnRecord) {
  EXPECT_EQ(run(job({std::string(kBeats) + "beat evaluation 42; sleep 0.6"})).code, 0);
  const RunStatus status = query_job(path("exp"));
  EXPECT_EQ(status.ranks.at(0).phase, "evaluation");
  EXPECT_EQ(status.ranks.at(0).iteration, 42);
}

}  // namespace
}  // namespace flagscale::launch
