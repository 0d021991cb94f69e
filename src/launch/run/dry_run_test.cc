#include "launch/run/dry_run.h"

#include <filesystem>

#include "launch/record/run_status.h"
#include "launch/run/job_test_support.h"

namespace flagscale::launch {
namespace {

class DryRun : public RunningJobTest {
 protected:
  // Waits until it is told to, and reads its file only then.
  Job waiting(const std::string& text) const {
    Job waits = job({"while [ ! -e go ]; do sleep 0.02; done; cat exp/logs/scripts/conf.yaml"});
    waits.scripts = true;
    waits.files = {{waits.log / "scripts/conf.yaml", text}};
    waits.nodes[0].command.env["FROM"] = text;
    return waits;
  }
  std::string script() const { return file("exp/logs/scripts/host_0_localhost_run.sh"); }
};

TEST_F(DryRun, TouchesNothingOfTheRunThatIsThere) {
  const pid_t launcher = launch(waiting("the run"));
  ASSERT_TRUE(soon([&] {
    const auto run = last_run(path("exp"));
    return run && run->state == RunState::kRunning;
  }));
  const std::string before = script();
  ASSERT_NE(before.find("export FROM='the run'"), std::string::npos) << before;
  EXPECT_EQ(write_dry_run(waiting("a dry run")), RunState::kRunning);
  EXPECT_EQ(file("exp/logs/scripts/conf.yaml"), "the run");
  EXPECT_EQ(script(), before);
  temporary_.put("go", "");
  EXPECT_EQ(wait_for(launcher), 0);
  EXPECT_EQ(file("exp/logs/host_0_localhost.output"), "the run");
}

TEST_F(DryRun, WritesWhereNothingRuns) {
  EXPECT_EQ(write_dry_run(waiting("first")), std::nullopt);
  EXPECT_EQ(file("exp/logs/scripts/conf.yaml"), "first");
  EXPECT_FALSE(std::filesystem::exists(path("exp/records"))) << "it is no run";
  temporary_.put("go", "");
  EXPECT_EQ(run(waiting("second")).code, 0);
  EXPECT_EQ(write_dry_run(waiting("third")), std::nullopt) << "the run is over";
  EXPECT_EQ(file("exp/logs/scripts/conf.yaml"), "third");
  EXPECT_NE(script().find("export FROM=third"), std::string::npos) << script();
}

}  // namespace
}  // namespace flagscale::launch
