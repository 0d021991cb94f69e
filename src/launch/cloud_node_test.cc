#include "launch/cloud_node.h"

#include <unistd.h>

#include <cstdlib>

#include "launch/job_test_support.h"
#include "launch/placement.h"

namespace flagscale::launch {
namespace {

class CloudNodes : public JobTest {
 protected:
  void TearDown() override {
    for (const std::string& name : set_) unsetenv(name.c_str());
  }
  void with(const std::string& name, const std::string& value) {
    setenv(name.c_str(), value.c_str(), 1);
    set_.push_back(name);
  }
  Experiment experiment(const std::string& runner, const std::string& task = "serve") {
    configure("experiment: {exp_dir: ., task: {type: " + task + "}, runner: {type: cloud, " + runner + "}}");
    return Experiment(config::compose({folder_.path + "/conf", "config", {}}));
  }
  CloudNode node(const std::string& runner, const std::string& task = "serve") {
    return cloud_node(experiment(runner, task));
  }
  std::string refused(const std::string& runner, const std::string& task = "serve") {
    try {
      node(runner, task);
    } catch (const Error& error) {
      return error.what();
    }
    return "";
  }
  static std::string own_host() {
    char name[256] = {};
    gethostname(name, sizeof name - 1);
    return name;
  }

  std::vector<std::string> set_;
};

TEST_F(CloudNodes, AirsSaysEverything) {
  with("AIRS_SWITCH", "1");
  with("AIRS_SIZE", "3");
  with("AIRS_HOSTFILE_PATH", folder_.put("hosts", "leader\n# a comment\n" + own_host() + "\nthird\n"));
  with("AIRS_ACCELERATOR_NUM", "8");
  const CloudNode found = node("hostfile: null", "train");
  EXPECT_EQ(found.rank, 1);
  EXPECT_EQ(found.nodes, 3);
  EXPECT_EQ(found.devices, 8);
  EXPECT_EQ(found.master, "leader");
  EXPECT_EQ(found.port, 29500);
  EXPECT_EQ(node("master_addr: other, nnodes: 2", "train").master, "other");  // what is written counts
}

TEST_F(CloudNodes, ALeaderWorkerSetSaysEverything) {
  with("LWS_GROUP_SIZE", "2");
  with("LWS_WORKER_INDEX", "1");
  with("LWS_LEADER_ADDRESS", "set-0.set.default");
  with("AIRS_ACCELERATOR_NUM", "4");
  const CloudNode found = node("nnodes: '${oc.env:LWS_GROUP_SIZE}', master_port: 7396");
  EXPECT_EQ(found.rank, 1);
  EXPECT_EQ(found.nodes, 2);
  EXPECT_EQ(found.devices, 4);
  EXPECT_EQ(found.master, "set-0.set.default");
  const Placement placement = placement_of(experiment("master_port: 7396, nproc_per_node: 8"));
  EXPECT_EQ(placement.port, 7396);
  EXPECT_EQ(placement.places.at(0).host.slots, 4);
  EXPECT_EQ(placement.places[0].host.type, "gpu");
  EXPECT_EQ(placement.places[0].processes, 4);
}

// FlagScale's rule: the leader is the node that has the address.
TEST_F(CloudNodes, AServicesLeaderIsKnownByItsName) {
  EXPECT_EQ(node("nnodes: 2, master_addr: " + own_host()).rank, 0);
  EXPECT_EQ(node("nnodes: 2, master_addr: " + own_host() + ".group.default").rank, 0);
  EXPECT_EQ(node("nnodes: 2, master_addr: 127.0.0.1").rank, 0);
  EXPECT_EQ(node("nnodes: 2, master_addr: 192.0.2.1").rank, 1);
  EXPECT_EQ(node("nnodes: 2, master_addr: leader-0.group.default").rank, 1);
  EXPECT_EQ(node("nnodes: 2, master_addr: leader, node_rank: 0").rank, 0);
}

TEST_F(CloudNodes, WhatIsNotSaidIsNamed) {
  EXPECT_EQ(node("hostfile: null").nodes, 1);
  EXPECT_EQ(node("hostfile: null").port, 0);
  EXPECT_EQ(refused("nnodes: 2"),
            "required value experiment.runner.master_addr is not set: 2 nodes meet there");
  EXPECT_EQ(refused("nnodes: 2, master_addr: a", "train"),
            "required value experiment.runner.node_rank is not set: which of the 2 nodes this is, from 0");
  EXPECT_NE(refused("nnodes: 2, master_addr: a, node_rank: 2").find("node_rank is 2, expected one of 0 to 1"),
            std::string::npos);
}

}  // namespace
}  // namespace flagscale::launch
