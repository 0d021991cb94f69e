#include "launch/placement.h"

#include <fstream>
#include <set>

#include "launch/job_test_support.h"

namespace flagscale::launch {
namespace {

class PlacementTest : public JobTest {
 protected:
  Placement place(const Words& overrides) const {
    config::ComposeRequest request{folder_.path + "/conf", "config", overrides};
    const config::Composed composed = config::compose(request);
    return placement_of(Experiment(composed));
  }
  Experiment read(const std::string& experiment, const Words& overrides) {
    configure("experiment: " + experiment);
    return Experiment(config::compose({folder_.path + "/conf", "config", overrides}));
  }
  Placement place(const std::string& experiment, const Words& overrides = {}) {
    configure("experiment: " + experiment);
    return place(overrides);
  }
  std::vector<int> processes(const std::string& experiment, const Words& overrides = {}) {
    std::vector<int> counts;
    for (const Place& one : place(experiment, overrides).places) counts.push_back(one.processes);
    return counts;
  }
  std::string said_;

  std::string refused(const std::string& experiment, const Words& overrides = {}) {
    try {
      place(experiment, overrides);
    } catch (const Error& error) {
      return error.what();
    }
    return "";
  }
};

TEST_F(PlacementTest, WithoutAHostfileThisMachine) {
  const Placement placement = place("{runner: {}}");
  ASSERT_EQ(placement.places.size(), 1u);
  EXPECT_EQ(placement.places[0].host.name, "localhost");
  EXPECT_EQ(placement.places[0].processes, 1);
  EXPECT_EQ(placement.nodes, 1);
  EXPECT_EQ(placement.master, "localhost");
  EXPECT_GT(placement.port, 0);
  EXPECT_EQ(place("{runner: {nnodes: 4, nproc_per_node: 8}}").nodes, 1);
}

TEST_F(PlacementTest, DevicesOfThisMachineAreTheMost) {
  configure("experiment: {runner: {nproc_per_node: 8}}");
  const auto on = [&](bool planning, const std::vector<std::string>& more = {}) {
    const Experiment experiment(config::compose({folder_.path + "/conf", "config", more}), {}, planning);
    testing::internal::CaptureStderr();
    DevicesHere two;
    two.profile.name = "ascend", two.profile.tool = "npu-smi", two.count = 2;
    const int processes = placement_of(experiment, two).places.at(0).processes;
    said_ = testing::internal::GetCapturedStderr();
    return processes;
  };
  EXPECT_EQ(on(false), 2);
  EXPECT_NE(
      said_.find("nproc_per_node is 8, but this machine has 2 ascend devices (npu-smi shows them): 2 run\n"),
      std::string::npos)
      << said_;
  EXPECT_EQ(on(true), 8);  // a plan may be for another machine
  EXPECT_NE(said_.find("2 would run here\n"), std::string::npos) << said_;
  EXPECT_EQ(on(false, {"experiment.runner.nproc_per_node=2"}), 2);
  EXPECT_EQ(on(false, {"experiment.runner.nproc_per_node=null"}), 1);
  EXPECT_EQ(said_, "");
  EXPECT_EQ(on(false, {"+" + hostfile("elsewhere slots=8\n")}), 8);
}

TEST_F(PlacementTest, WithoutDevicesOneProcessUnlessTheyAreForProcessors) {
  configure("experiment: {runner: {nproc_per_node: 8}}\ntrain: {system: {distributed_backend: nccl}}");
  const auto on = [&](bool planning, const std::vector<std::string>& more = {}) {
    const Experiment experiment(config::compose({folder_.path + "/conf", "config", more}), {}, planning);
    testing::internal::CaptureStderr();
    const int processes = placement_of(experiment, DevicesHere{}).places.at(0).processes;
    said_ = testing::internal::GetCapturedStderr();
    return processes;
  };
  EXPECT_EQ(on(false), 1);
  EXPECT_NE(
      said_.find("nproc_per_node: 8 processes are asked for, but this machine has no device of a vendor "
                 "in devices/*.yaml: 1 runs. "),
      std::string::npos)
      << said_;
  EXPECT_EQ(on(true), 8);
  EXPECT_NE(said_.find("1 would run here. "), std::string::npos) << said_;
  EXPECT_EQ(on(false, {"train.system.distributed_backend=gloo"}), 8);
  EXPECT_EQ(on(false, {"experiment.runner.nproc_per_node=1"}), 1);
  EXPECT_EQ(on(false, {"experiment.runner.nproc_per_node=null"}), 1);
  EXPECT_EQ(on(false, {"+" + hostfile("elsewhere slots=8\n")}), 8);
  EXPECT_EQ(said_, "");
}

// The least of what is known.
TEST_F(PlacementTest, FreePortsAreNotThoseThatConnectionsAreGiven) {
  int first = 0, last = 0;
  std::ifstream("/proc/sys/net/ipv4/ip_local_port_range") >> first >> last;
  if (first <= 21000) GTEST_SKIP() << "here connections are given ports from " << first << " on";
  std::set<int> ports;
  for (int i = 0; i < 20; ++i) {
    const int port = free_port();
    EXPECT_TRUE(port >= 1024 && port < first) << port;
    ports.insert(port);
  }
  EXPECT_GT(ports.size(), 15u) << "each call for itself: two jobs do not choose the same";
}

TEST_F(PlacementTest, ProcessesAreTheLeastOfSlotsWantedAndVisible) {
  EXPECT_EQ(processes("{runner: {nproc_per_node: 8}}"), (std::vector{8}));
  EXPECT_EQ(processes("{runner: {nproc_per_node: '8'}}"), (std::vector{8}));
  EXPECT_EQ(processes("{runner: {}, envs: {CUDA_VISIBLE_DEVICES: '0,1,2'}}"), (std::vector{3}));
  EXPECT_EQ(processes("{runner: {nproc_per_node: 2}, envs: {CUDA_VISIBLE_DEVICES: '0,1,2'}}"),
            (std::vector{2}));
  EXPECT_EQ(processes("{runner: {nproc_per_node: 8}, envs: {CUDA_VISIBLE_DEVICES: '0,1,2'}}"),
            (std::vector{3}));
  EXPECT_EQ(processes("{runner: {nproc_per_node: 8}, envs: {CUDA_VISIBLE_DEVICES: 3}}"), (std::vector{1}));
  EXPECT_EQ(processes("{runner: {}, envs: {ASCEND_RT_VISIBLE_DEVICES: '0,1'}}"), (std::vector{2}));
  EXPECT_EQ(processes("{runner: {}, envs: {CUDA_VISIBLE_DEVICES: ''}}"), (std::vector{1}));
  const std::string hosts = hostfile("a slots=8\nb slots=4\n");
  EXPECT_EQ(processes("{runner: {hostfile: null}}", {hosts}), (std::vector{8, 4}));
  EXPECT_EQ(processes("{runner: {hostfile: null, nproc_per_node: 6}}", {hosts}), (std::vector{6, 4}));
  EXPECT_EQ(processes("{runner: {hostfile: null, nproc_per_node: 6}, envs: {CUDA_VISIBLE_DEVICES: '0,1'}}",
                      {hosts}),
            (std::vector{2, 2}));
}

TEST_F(PlacementTest, LoweringIsTold) {
  testing::internal::CaptureStderr();
  processes("{runner: {hostfile: null, nproc_per_node: 8}}", {hostfile("a slots=8\nb slots=4\n")});
  const std::string said = testing::internal::GetCapturedStderr();
  EXPECT_NE(said.find("nproc_per_node is 8, but on b the hostfile has slots=4: 4 run there"),
            std::string::npos)
      << said;
  EXPECT_EQ(said.find("on a "), std::string::npos) << said;
}

// Not nproc_per_node, which nobody has given.
TEST_F(PlacementTest, LoweringSaysWhoseCountIsLowered) {
  testing::internal::CaptureStderr();
  processes("{runner: {hostfile: null}, envs: {CUDA_VISIBLE_DEVICES: 3}}", {hostfile("a slots=8 x\n")});
  const std::string said = testing::internal::GetCapturedStderr();
  EXPECT_NE(said.find("the hostfile has slots=8, but on a the environment shows 1 device: 1 runs there"),
            std::string::npos)
      << said;
  EXPECT_EQ(said.find("'x' is not read"), said.rfind("'x' is not read")) << "read once: " << said;
}

TEST_F(PlacementTest, NodesAreTheLeastOfHostfileAndWanted) {
  const std::string hosts = hostfile("a slots=8\nb slots=8\nc slots=8\n");
  EXPECT_EQ(place("{runner: {hostfile: null}}", {hosts}).nodes, 3);
  EXPECT_EQ(place("{runner: {hostfile: null, nnodes: 2}}", {hosts}).nodes, 2);
  EXPECT_EQ(place("{runner: {hostfile: null, nnodes: 9}}", {hosts}).nodes, 3);
  EXPECT_EQ(place("{runner: {hostfile: null, nnodes: '2:3'}}", {hosts}).nodes, 2);
  EXPECT_EQ(place("{runner: {hostfile: null, nnodes: 2}}", {hosts}).places[1].host.name, "b");
  for (const char* wrong : {"0", "'2:1'", "':2'", "'1:2:3'", "two", "1.5"})
    EXPECT_NE(
        refused(std::string("{runner: {hostfile: null, nnodes: ") + wrong + "}}", {hosts}).find("nnodes"),
        std::string::npos)
        << wrong;
}

TEST_F(PlacementTest, ARangeOfNodesIsOfAllThatAreNamed) {
  const std::string hosts = hostfile("a slots=2\nb slots=2\nc slots=2\n");
  const auto elastic = [&](const std::string& nodes) {
    return elastic_hosts(read("{runner: {hostfile: null, nnodes: " + nodes + "}}", {hosts}));
  };
  EXPECT_FALSE(elastic("2"));
  ASSERT_TRUE(elastic("'1:2'"));
  EXPECT_EQ(elastic("'1:2'")->list.size(), 3u);
  EXPECT_EQ(elastic("'1:2'")->most, 2);
  EXPECT_EQ(elastic("'2:9'")->least, 2);
  EXPECT_EQ(elastic("'2:9'")->most, 3);
  EXPECT_THROW(elastic("'4:9'"), Error);
  EXPECT_THROW(elastic("'2:1'"), Error);
  const Experiment given = read("{runner: {hostfile: null, nnodes: '1:3', master_addr: 10.0.0.1}}", {hosts});
  const std::vector<Host> all = elastic_hosts(given)->list;
  EXPECT_EQ(placement_on(given, all).master, "10.0.0.1");
  EXPECT_EQ(placement_on(given, {all[1], all[2]}).master, "b") << "the first one is not there";
  EXPECT_EQ(placement_on(given, {all[1], all[2]}).nodes, 2);
}

TEST_F(PlacementTest, TheFirstHostIsTheMaster) {
  const std::string hosts = hostfile("a slots=8\nb slots=8\n");
  EXPECT_EQ(place("{runner: {hostfile: null}}", {hosts}).master, "a");
  const Placement given =
      place("{runner: {hostfile: null, master_addr: 10.0.0.1, master_port: 29501}}", {hosts});
  EXPECT_EQ(given.master, "10.0.0.1");
  EXPECT_EQ(given.port, 29501);
  EXPECT_NE(refused("{runner: {master_port: 70000}}").find("master_port is 70000"), std::string::npos);
  EXPECT_NE(refused("{runner: {hostfile: /nowhere/hosts}}").find("there is no hostfile /nowhere/hosts"),
            std::string::npos);
}

// Node over device type over what is for all.
TEST_F(PlacementTest, PrecedenceOfEnvironments) {
  const Placement placement = place(
      "{runner: {hostfile: null}, envs: {ALL: 1, TYPE: all, NODE: all, GONE: x, FLAG: true, RATE: 1e-5, "
      "device_type_specific: {A800: {TYPE: a800, NODE: a800}, mlu590: {TYPE: mlu, MLU_VISIBLE_DEVICES: "
      "'0,1'}}, "
      "node_specific: {a: {NODE: a, GONE: null}, z: {NODE: z}}}}",
      {hostfile("a slots=8 type=A800\nb slots=8 type=mlu590\nc slots=8 type=other\n")});
  using Map = std::map<std::string, std::string>;
  EXPECT_EQ(placement.places[0].env,
            (Map{{"ALL", "1"}, {"TYPE", "a800"}, {"NODE", "a"}, {"FLAG", "True"}, {"RATE", "1e-05"}}));
  EXPECT_EQ(placement.places[1].env, (Map{{"ALL", "1"},
                                          {"TYPE", "mlu"},
                                          {"NODE", "all"},
                                          {"GONE", "x"},
                                          {"FLAG", "True"},
                                          {"RATE", "1e-05"},
                                          {"MLU_VISIBLE_DEVICES", "0,1"}}));
  EXPECT_EQ(placement.places[2].env.at("TYPE"), "all");
  EXPECT_EQ(placement.places[0].processes, 8);
  EXPECT_EQ(placement.places[1].processes, 2);
  EXPECT_EQ(placement.places[1].host.type, "mlu590");
}

// FlagScale writes the whole mapping into the environment of a run without hostfile.
TEST_F(PlacementTest, WhatIsForOtherHostsIsInNoEnvironment) {
  const Placement placement = place(
      "{runner: {}, envs: {A: 1, device_type_specific: {A800: {A: 2}}, node_specific: {b: {A: 3}}, "
      "nodes_envs: {c: {A: 4}}}}");
  EXPECT_EQ(placement.places[0].env, (std::map<std::string, std::string>{{"A", "1"}}));
  EXPECT_NE(refused("{runner: {}, envs: {A: [1]}}").find("experiment.envs.A must be one value, got list"),
            std::string::npos);
}

TEST_F(PlacementTest, ServesOwnPlaceOfNodesEnvironments) {
  const Placement placement = place("{runner: {hostfile: null}, envs: {A: 1, nodes_envs: {b: {A: 2}}}}",
                                    {hostfile("a slots=1\nb slots=1\n")});
  EXPECT_EQ(placement.places[0].env.at("A"), "1");
  EXPECT_EQ(placement.places[1].env.at("A"), "2");
}

TEST_F(PlacementTest, InTheCloudEachNodeStartsItsOwnPart) {
  const Placement placement =
      place("{runner: {type: cloud, nnodes: 4, node_rank: 2, master_addr: head, master_port: 7000}}");
  EXPECT_EQ(placement.nodes, 4);
  ASSERT_EQ(placement.places.size(), 1u);
  EXPECT_EQ(placement.places[0].rank, 2);
  EXPECT_EQ(placement.master, "head");
  EXPECT_NE(refused("{runner: {type: cloud, nnodes: 2, node_rank: 2, master_addr: a}}")
                .find("expected one of 0 to 1"),
            std::string::npos);
  EXPECT_NE(refused("{runner: {type: cloud, nnodes: 2}}").find("master_addr is not set"), std::string::npos);
}

}  // namespace
}  // namespace flagscale::launch
