#pragma once
// What launchers read from a configuration, `experiment.runner`, beside what is in the Job.

#include <chrono>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

namespace flagscale::config {
class Node;
}

namespace flagscale::launch {

struct SlurmOptions {
  std::string partition, account, qos, time, gres;  // as sbatch takes them; "" is left to Slurm
  std::vector<std::string> arguments;               // more of sbatch's own, e.g. "--exclusive"
};

struct KubernetesOptions {
  std::string image;                                 // what nodes run; it has this program
  std::string program = "/usr/local/bin/flagscale";  // there
  std::string space = "default";                     // the namespace
  std::string kind = "Job";  // Job (indexed) or JobSet; for services over nodes also LeaderWorkerSet
  // A device profile, for the resource that a node asks for. "cpu": our own ranks share a pod's processors.
  std::string device;
  std::string resource;                    // its name where no profile has it
  std::string cpu, memory, shared_memory;  // quantities, e.g. "8", "64Gi"; "" asks for none
  std::string service_account;
  std::map<std::string, std::string> volumes;        // mount path -> name of a PersistentVolumeClaim
  std::map<std::string, std::string> node_selector;  // label -> value
};

struct LauncherOptions {
  std::string type = "ssh";          // the launcher
  std::filesystem::path program;     // this program, where hosts share it; this process's own file by default
  std::vector<std::string> command;  // what the user typed: a batch system runs it again in an allocation
  bool no_shared_fs = false;         // hosts get the program by checksum (program_transfer.h)
  std::filesystem::path archive;     // of ./dev pack, for that; "" is found beside the program
  std::string container;             // runner.docker: hosts run agents by `docker exec` in it
  std::filesystem::path root = "/";  // of this machine's files, where it is seen whether it is one itself
  std::vector<std::string>
      ssh_arguments;  // runner.ssh_arguments: more of ssh's own, e.g. "-F", "cluster.conf"
  std::chrono::seconds connect_time{10};   // runner.connect_timeout
  std::chrono::seconds lost_time{10};      // runner.lost_timeout: a host silent for so long is lost
  std::vector<std::string> mpi_arguments;  // runner.mpi_arguments: more of mpirun's own
  SlurmOptions slurm;
  KubernetesOptions kubernetes;
};

// From the mapping `experiment.runner`, resolved. Keys of others (hostfile, nnodes, backend, …) are passed
// over; Error{kConfig} naming the key for a wrong type, and for an unknown key under slurm or kubernetes.
LauncherOptions read_launcher_options(const config::Node& runner);

}  // namespace flagscale::launch
