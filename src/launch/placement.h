#pragma once
// Which hosts a job runs on, with how many processes and in which environment.

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "launch/experiment.h"
#include "launch/job.h"
#include "launch/launcher/device_profile.h"

namespace flagscale::launch {

// One host's part of a job.
struct Place {
  int rank = 0;
  Host host;
  std::map<std::string, std::string> env;  // experiment.envs, as they hold on this host
  int processes = 1;                       // one a device
  config::NodePtr
      settings;  // the top level's device_type_specific and node_specific, as they hold on this host
};

struct Placement {
  std::vector<Place> places;  // by rank
  int nodes = 1;              // of the whole job
  bool cloud = false;         // this machine's part alone is here: others start theirs
  std::string master;         // host name and port where the nodes meet
  int port = 0;
};

// experiment.runner's hosts: with runner.type=slurm those of the allocation around, else those of the
// hostfile, as many as nnodes says ("min:max": min), else this machine. Throws as read_hostfile() does.
struct Hosts {
  std::vector<Host> list;
  std::string fewer;  // a warning where nnodes says more; else ""
};
Hosts hosts_of(const Experiment& experiment);

// experiment.runner.nnodes: "2", or "2:4", of which FlagScale takes the least. Throws Error{kConfig}.
int64_t least_nodes(const Experiment& experiment, int64_t otherwise);

// nnodes as "min:max": how many of the hosts that are named a training of our own may start on, those that
// are there. None where it is one number.
struct ElasticHosts {
  std::vector<Host> list;
  int least = 1, most = 1;  // max is no more than there are
};
std::optional<ElasticHosts> elastic_hosts(const Experiment& experiment);

// Those hosts with what each has. With runner.type=cloud this machine alone, as cloud_node.h finds it.
// Processes are the least of slots, nproc_per_node and the devices that the environment shows, and 1 when
// none of them is known; on this machine no more than `devices`, those of a foreign engine's vendor that it
// has (0: none of any vendor, then one process), where that is given: a plan, which may be for another
// machine, only warns. Precedence in the
// environment: node over device type over what is for all. Throws Error as read_hostfile() does, and
// Error{kConfig}.
Placement placement_of(const Experiment& experiment, const std::optional<DevicesHere>& devices = {});

// The same of these hosts. master_addr is the address of the first host that is named: without that one the
// nodes meet at another.
Placement placement_on(const Experiment& experiment, const std::vector<Host>& hosts,
                       const std::optional<DevicesHere>& devices = {});

// A port that is free on this machine now.
int free_port();

// experiment.runner.master_port, where ranks meet on the first host; 0 where it is not said.
int given_port(const Experiment& experiment);

// Where a service answers, as FlagScale has it: cli_args.port, deploy.port, the first entry's
// engine_args.port, 8000.
int service_port(const Experiment& experiment);

}  // namespace flagscale::launch
