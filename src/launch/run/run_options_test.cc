#include "launch/run/run_options.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/temporary_folder_test_support.h"

namespace flagscale::launch {
namespace {

RunOptions options_of(const std::string& yaml, const std::vector<std::string>& overrides = {}) {
  const TemporaryFolder folder;
  folder.put("job.yaml", yaml);
  return read_run_options(config::compose({folder.path, "job", overrides}), {"flagscale", "run"});
}

std::string refusal_of(const std::string& yaml) {
  try {
    options_of(yaml);
  } catch (const Error& error) {
    return error.what();
  }
  return "";
}

TEST(RunOptions, AreReadFromTheExperiment) {
  const RunOptions options = options_of(R"(
experiment:
  runner: {hang_detection_timeout: 900, lost_timeout: 4}
  supervision: {on_hang: restart, grace: 5, limits: {save: 0, step: 2.5}}
)");
  EXPECT_EQ(options.on_hang, OnHang::kRestart);
  EXPECT_EQ(options.grace, 5);
  EXPECT_EQ(options.lost_after, 4);
  EXPECT_EQ(options.limits.output, 900);
  EXPECT_EQ(options.limits.save, 0);
  EXPECT_EQ(options.limits.step, 2.5);
  EXPECT_EQ(options.limits.load, PhaseLimits{}.load);
}

TEST(RunOptions, SayWhereEachValueComesFrom) {
  const RunOptions options = options_of("experiment:\n  exp_name: a\n", {"experiment.exp_name=b"});
  EXPECT_NE(options.origin.config.find("exp_name: b"), std::string::npos);
  const auto origin = nlohmann::json::parse(options.origin.provenance);
  EXPECT_EQ(origin.at("experiment.exp_name"), "override 'experiment.exp_name=b'");
}

TEST(RunOptions, MistakesAreNamedWithTheirPlace) {
  EXPECT_NE(refusal_of("experiment:\n  supervision: {on_hnag: restart}\n")
                .find("job.yaml:2: experiment.supervision.on_hnag is no key; did you mean 'on_hang'?"),
            std::string::npos);
  EXPECT_NE(refusal_of("experiment: {supervision: {limits: {step: soon}}}").find("is 'soon': seconds"),
            std::string::npos);
  EXPECT_NE(refusal_of("experiment: {supervision: {on_hang: dance}}").find("report or restart"),
            std::string::npos);
  EXPECT_TRUE(
      refusal_of("experiment:\n  supervision:\n    limits: {steps: 1}\n")
          .ends_with("job.yaml:3: experiment.supervision.limits.steps is no key; did you mean 'step'? "
                     "experiment.supervision.limits has start, load, first_step, step, evaluation, save, "
                     "output"));
}

}  // namespace
}  // namespace flagscale::launch
