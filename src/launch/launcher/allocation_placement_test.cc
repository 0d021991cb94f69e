// What a job is placed on inside of a Slurm allocation.

#include <gtest/gtest.h>

#include <cstdlib>

#include "base/temporary_folder_test_support.h"
#include "config/compose.h"
#include "launch/placement.h"

namespace flagscale::launch {
namespace {

class AllocationPlacement : public testing::Test {
 protected:
  void SetUp() override {
    setenv("SLURM_JOB_ID", "7", 1);
    setenv("SLURM_JOB_NODELIST", "n[1-3]", 1);
    setenv("SLURM_GPUS_ON_NODE", "4", 1);
  }
  void TearDown() override {
    for (const char* name : {"SLURM_JOB_ID", "SLURM_JOB_NODELIST", "SLURM_GPUS_ON_NODE"}) unsetenv(name);
  }
  Placement placed(const std::string& runner) const {
    folder_.put("conf/job.yaml",
                "experiment: {exp_name: a, exp_dir: b, task: {type: train}, runner: " + runner + "}\n");
    return placement_of(
        Experiment(config::compose({folder_.path + "/conf", "job", {}}), folder_.path + "/conf"));
  }
  TemporaryFolder folder_;
};

TEST_F(AllocationPlacement, ItsHostsRunIt) {
  const Placement placement = placed("{type: slurm}");
  ASSERT_EQ(placement.places.size(), 3u);
  EXPECT_EQ(placement.nodes, 3);
  EXPECT_EQ(placement.places[2].host.name, "n3");
  EXPECT_EQ(placement.places[2].rank, 2);
  EXPECT_EQ(placement.places[2].processes, 4);
  EXPECT_EQ(placement.master, "n1");
}

TEST_F(AllocationPlacement, AsManyAsAreWanted) {
  EXPECT_EQ(placed("{type: slurm, nnodes: 2}").places.size(), 2u);
  EXPECT_EQ(placed("{type: slurm, nnodes: '1:3'}").places.size(), 1u);
  EXPECT_EQ(placed("{type: slurm, nnodes: 8}").places.size(), 3u);
  EXPECT_EQ(placed("{type: slurm, nproc_per_node: 2}").places[0].processes, 2);
}

TEST_F(AllocationPlacement, AnotherTypeHasItsOwn) {
  EXPECT_EQ(placed("{}").places[0].host.name, "localhost");
}

}  // namespace
}  // namespace flagscale::launch
