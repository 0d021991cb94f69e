#include "launch/launcher/options.h"

#include <gtest/gtest.h>

#include "base/error.h"
#include "config/yaml.h"

namespace flagscale::launch {
namespace {

LauncherOptions read_options(const std::string& yaml) {
  return read_launcher_options(*config::parse_yaml(yaml, "conf.yaml"));
}

std::string refused(const std::string& yaml) {
  try {
    read_options(yaml);
  } catch (const Error& error) {
    return error.what();
  }
  return "";
}

TEST(LauncherOptions, AreReadFromTheRunner) {
  const LauncherOptions options = read_options(R"(
type: slurm
hostfile: null
nnodes: 2
no_shared_fs: true
archive: /a/b.tar.gz
docker: box
ssh_arguments: [-F, cluster.conf]
lost_timeout: 5
slurm: {partition: gpu, time: "1:00:00", arguments: [--exclusive]}
kubernetes: {image: i, namespace: n, volumes: {/data: claim}, node_selector: {pool: a}}
)");
  EXPECT_EQ(options.type, "slurm");
  EXPECT_TRUE(options.no_shared_fs);
  EXPECT_EQ(options.archive, "/a/b.tar.gz");
  EXPECT_EQ(options.container, "box");
  EXPECT_EQ(options.ssh_arguments, std::vector<std::string>({"-F", "cluster.conf"}));
  EXPECT_EQ(options.lost_time, std::chrono::seconds(5));
  EXPECT_EQ(options.connect_time, std::chrono::seconds(10));
  EXPECT_EQ(options.slurm.partition, "gpu");
  EXPECT_EQ(options.slurm.time, "1:00:00");
  EXPECT_EQ(options.slurm.arguments, std::vector<std::string>({"--exclusive"}));
  EXPECT_EQ(options.kubernetes.space, "n");
  EXPECT_EQ(options.kubernetes.volumes.at("/data"), "claim");
  EXPECT_EQ(options.kubernetes.node_selector.at("pool"), "a");
}

TEST(LauncherOptions, WhatIsWrongIsNamed) {
  EXPECT_NE(refused("lost_timeout: soon").find("experiment.runner.lost_timeout"), std::string::npos);
  EXPECT_EQ(refused("lost_timeout: 0"),
            "conf.yaml:1: experiment.runner.lost_timeout is 0, expected 1 to 86400 seconds");
  EXPECT_NE(refused("slurm: {partitoin: gpu}").find("did you mean 'partition'?"), std::string::npos);
  EXPECT_NE(refused("kubernetes: [a]").find("experiment.runner.kubernetes is no mapping"), std::string::npos);
  EXPECT_NE(refused("kubernetes: {volumes: [a]}").find("experiment.runner.kubernetes.volumes is no mapping"),
            std::string::npos);
  EXPECT_EQ(refused("kubernetes: {volumes: {/data: [a, {b: 1}]}}")
                .find("conf.yaml:1: experiment.runner.kubernetes.volumes./data is ["),
            0u);
}

}  // namespace
}  // namespace flagscale::launch
