#include "launch/launcher/rank_from_environment.h"

#include <gtest/gtest.h>

#include <map>

#include "base/error.h"
#include "base/temporary_folder_test_support.h"

namespace flagscale::launch {
namespace {

using Set = std::map<std::string, std::string>;

std::optional<RankInEnvironment> rank_of(const Set& set) {
  return rank_from_environment([&](const char* name) {
    const auto it = set.find(name);
    return it == set.end() ? nullptr : it->second.c_str();
  });
}

std::string refusal(const Set& set) {
  try {
    rank_of(set);
  } catch (const Error& error) {
    return error.what();
  }
  return "";
}

Set changed(Set set, const Set& changes) {  // a change to "" takes the variable away
  for (const auto& [name, value] : changes) {
    set.erase(name);
    if (!value.empty()) set[name] = value;
  }
  return set;
}

const Set kTorchrun = {{"RANK", "5"},        {"WORLD_SIZE", "8"},
                       {"LOCAL_RANK", "1"},  {"LOCAL_WORLD_SIZE", "4"},
                       {"MASTER_ADDR", "a"}, {"MASTER_PORT", "29500"}};
const Set kMpi = {{"OMPI_COMM_WORLD_RANK", "3"},
                  {"OMPI_COMM_WORLD_SIZE", "4"},
                  {"OMPI_COMM_WORLD_LOCAL_RANK", "1"},
                  {"OMPI_COMM_WORLD_LOCAL_SIZE", "2"}};
const Set kSlurm = {
    {"SLURM_PROCID", "2"},       {"SLURM_STEP_NUM_TASKS", "3"}, {"SLURM_NTASKS", "9"},
    {"SLURM_LOCALID", "0"},      {"SLURM_STEP_ID", "0"},        {"SLURM_STEP_NODELIST", "n[1-3]"},
    {"SLURM_GPUS_ON_NODE", "8"}, {"SLURM_NODEID", "2"},         {"SLURM_STEP_TASKS_PER_NODE", "1(x3)"}};
const Set kLws = {{"LWS_LEADER_ADDRESS", "x-0.x.ns"},
                  {"LWS_GROUP_SIZE", "2"},
                  {"LWS_WORKER_INDEX", "1"},
                  {"AIRS_ACCELERATOR_NUM", "8"}};

TEST(RankFromEnvironment, NobodySaysAnything) {
  EXPECT_FALSE(rank_of({}));
  EXPECT_FALSE(rank_of({{"MASTER_ADDR", "a"}, {"MASTER_PORT", "1"}}));
  EXPECT_FALSE(rank_of({{"WORLD_SIZE", "4"}}));
  EXPECT_FALSE(rank_of({{"RANK", ""}}));  // set to nothing is not set
}

TEST(RankFromEnvironment, Torchrun) {
  const auto rank = rank_of(kTorchrun);
  ASSERT_TRUE(rank);
  EXPECT_EQ(rank->launcher, "torchrun");
  EXPECT_EQ(rank->rank, 5);
  EXPECT_EQ(rank->world_size, 8);
  EXPECT_EQ(rank->local_rank, 1);
  EXPECT_EQ(rank->local_size, 4);
  EXPECT_EQ(rank->master_addr, "a");
  EXPECT_EQ(rank->master_port, 29500);
  EXPECT_FALSE(rank->whole_host);
  EXPECT_TRUE(rank_of({{"RANK", "0"}, {"WORLD_SIZE", "1"}}));  // alone: nothing else is needed
}

TEST(RankFromEnvironment, OpenMpi) {
  const auto rank = rank_of(kMpi);
  ASSERT_TRUE(rank);
  EXPECT_EQ(rank->launcher, "Open MPI");
  EXPECT_EQ(rank->rank, 3);
  EXPECT_EQ(rank->world_size, 4);
  EXPECT_EQ(rank->local_rank, 1);
  EXPECT_EQ(rank->local_size, 2);
}

TEST(RankFromEnvironment, Slurm) {
  const auto rank = rank_of(kSlurm);
  ASSERT_TRUE(rank);
  EXPECT_EQ(rank->launcher, "Slurm");
  EXPECT_EQ(rank->rank, 2);
  EXPECT_EQ(rank->world_size, 3);
  EXPECT_EQ(rank->hosts, std::vector<std::string>({"n1", "n2", "n3"}));
  EXPECT_EQ(rank->master_addr, "n1");
  EXPECT_EQ(rank->devices, 8);
  EXPECT_EQ(rank->local_size, 1);
  EXPECT_TRUE(rank->whole_host);
  // A batch script is no task, nor is an interactive shell.
  EXPECT_FALSE(rank_of(changed(kSlurm, {{"SLURM_STEP_ID", ""}})));
  EXPECT_FALSE(rank_of(changed(kSlurm, {{"SLURM_STEP_ID", "4294967291"}})));
}

TEST(RankFromEnvironment, TheInnermostLauncherCounts) {
  Set set = kSlurm;
  set.insert(kMpi.begin(), kMpi.end());
  EXPECT_EQ(rank_of(set)->launcher, "Open MPI");
  set.insert(kTorchrun.begin(), kTorchrun.end());
  EXPECT_EQ(rank_of(set)->launcher, "torchrun");
}

TEST(RankFromEnvironment, LeaderWorkerSetAndManifests) {
  const auto lws = rank_of(kLws);
  ASSERT_TRUE(lws);
  EXPECT_EQ(lws->rank, 1);
  EXPECT_EQ(lws->world_size, 2);
  EXPECT_EQ(lws->master_addr, "x-0.x.ns");
  EXPECT_EQ(lws->devices, 8);
  EXPECT_TRUE(lws->whole_host);
  const auto job = rank_of({{"FLAGSCALE_NODE_RANK", "1"}, {"FLAGSCALE_NODES", "2"}});
  ASSERT_TRUE(job);
  EXPECT_EQ(job->launcher, "Kubernetes");
  EXPECT_EQ(job->rank, 1);
}

TEST(RankFromEnvironment, Airs) {
  const TemporaryFolder folder;
  const std::string hosts = folder.put("hosts", "# none\n203.0.113.7\n127.0.0.1\n");
  const Set set = {{"AIRS_SWITCH", "True"},
                   {"AIRS_SIZE", "2"},
                   {"AIRS_HOSTFILE_PATH", hosts},
                   {"AIRS_ACCELERATOR_COUNT", "8"},
                   {"AIRS_ACCELERATOR_MODEL", "Iluvatar_BI-V150"}};
  const auto rank = rank_of(set);
  ASSERT_TRUE(rank);
  EXPECT_EQ(rank->rank, 1);
  EXPECT_EQ(rank->world_size, 2);
  EXPECT_EQ(rank->devices, 16);
  EXPECT_EQ(rank->master_addr, "203.0.113.7");
  EXPECT_EQ(rank_of(changed(set, {{"AIRS_ACCELERATOR_MODEL", "A800"}}))->devices, 8);
  EXPECT_NE(refusal(changed(set, {{"AIRS_SIZE", "3"}})).find("has 2 hosts"), std::string::npos);
  EXPECT_NE(refusal(changed(set, {{"AIRS_HOSTFILE_PATH", ""}})).find("not AIRS_HOSTFILE_PATH"),
            std::string::npos);
  const std::string others = folder.put("others", "203.0.113.7\n203.0.113.8\n");
  EXPECT_NE(refusal(changed(set, {{"AIRS_HOSTFILE_PATH", others}})).find("none of the hosts"),
            std::string::npos);
}

TEST(RankFromEnvironment, HalfSetVariablesAreNamed) {
  const std::string torchrun = refusal(changed(kTorchrun, {{"WORLD_SIZE", ""}}));
  EXPECT_EQ(
      torchrun,
      "RANK set, but not WORLD_SIZE: torchrun sets them together; set all of them, or unset RANK to start "
      "without a launcher");
  EXPECT_NE(refusal(changed(kTorchrun, {{"LOCAL_RANK", ""}})).find("not LOCAL_RANK"), std::string::npos);
  EXPECT_NE(refusal(changed(kTorchrun, {{"MASTER_PORT", ""}})).find("not MASTER_PORT"), std::string::npos);
  EXPECT_NE(refusal(changed(kTorchrun, {{"RANK", ""}})).find("not RANK"), std::string::npos);
  EXPECT_NE(
      refusal(changed(kMpi, {{"OMPI_COMM_WORLD_LOCAL_RANK", ""}})).find("not OMPI_COMM_WORLD_LOCAL_RANK"),
      std::string::npos);
  EXPECT_NE(refusal(changed(kSlurm, {{"SLURM_PROCID", ""}})).find("not SLURM_PROCID"), std::string::npos);
  EXPECT_NE(refusal(changed(kLws, {{"LWS_WORKER_INDEX", ""}})).find("not LWS_WORKER_INDEX"),
            std::string::npos);
}

TEST(RankFromEnvironment, ContradictionsAreNamed) {
  EXPECT_EQ(refusal(changed(kTorchrun, {{"RANK", "8"}})),
            "RANK=8 and WORLD_SIZE=8 contradict one another: ranks are counted from 0");
  EXPECT_NE(refusal(changed(kTorchrun, {{"LOCAL_RANK", "4"}})).find("LOCAL_WORLD_SIZE=4"), std::string::npos);
  EXPECT_NE(refusal(changed(kTorchrun, {{"RANK", "one"}})).find("RANK=one"), std::string::npos);
  EXPECT_NE(refusal(changed(kTorchrun, {{"RANK", "-1"}})).find("RANK=-1"), std::string::npos);
  EXPECT_NE(refusal(changed(kTorchrun, {{"MASTER_PORT", "99999"}})).find("0 to 65535"), std::string::npos);
  EXPECT_NE(refusal(changed(kMpi, {{"OMPI_COMM_WORLD_RANK", "4"}})).find("contradict"), std::string::npos);
  EXPECT_NE(refusal(changed(kSlurm, {{"SLURM_PROCID", "3"}})).find("contradict"), std::string::npos);
  EXPECT_NE(refusal(changed(kLws, {{"LWS_WORKER_INDEX", "2"}})).find("contradict"), std::string::npos);
}

}  // namespace
}  // namespace flagscale::launch
