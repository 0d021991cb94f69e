#pragma once
// For tests: a Slurm of their own, a controller and two virtual hosts n1 and n2 (slurmd -N) on free ports,
// without munge and without anything of this machine's Slurm.

#include <pwd.h>

#include <cstdlib>

#include "launch/launcher/sshd_test_support.h"

namespace flagscale::launch {

inline bool has_slurm() {
  for (const char* program : {"slurmctld", "slurmd", "srun"}) {
    bool found = false;
    for (const char* folder : {"/usr/sbin/", "/usr/bin/", "/usr/local/sbin/", "/usr/local/bin/"})
      found |= access((std::string(folder) + program).c_str(), X_OK) == 0;
    if (!found) return false;
  }
  return true;
}

class TestSlurm {
 public:
  TestSlurm() {
    const std::string user = getpwuid(geteuid())->pw_name, port = std::to_string(free_port());
    std::string config =
        "ClusterName=test\nSlurmctldHost=localhost(127.0.0.1)\nSlurmctldPort=" + port +
        "\nSlurmUser=" + user + "\nSlurmdUser=" + user +
        "\nAuthType=auth/none\nCredType=cred/none\nMpiDefault=none\n"
        "ProctrackType=proctrack/linuxproc\nTaskPlugin=task/none\nSelectType=select/cons_tres\n"
        "SelectTypeParameters=CR_Core\nAccountingStorageType=accounting_storage/none\n"
        "SwitchType=switch/"
        "none\nSlurmdParameters=config_overrides\nReturnToService=2\nKillWait=2\nInactiveLimit="
        "0\nStateSaveLocation=" +
        folder.path + "/state\nSlurmdSpoolDir=" + folder.path + "/%n\nSlurmctldPidFile=" + folder.path +
        "/ctld.pid\nSlurmdPidFile=" + folder.path + "/%n.pid\nSlurmctldLogFile=" + folder.path +
        "/ctld.log\nSlurmdLogFile=" + folder.path + "/%n.log\n";
    for (const char* name : {"state", "n1", "n2"})
      std::filesystem::create_directory(folder.path + "/" + name);
    for (const char* name : {"n1", "n2"})
      config += std::string("NodeName=") + name +
                " NodeHostname=localhost NodeAddr=127.0.0.1 CPUs=4 Port=" + std::to_string(free_port()) +
                "\n";
    config += "PartitionName=main Nodes=n1,n2 Default=YES MaxTime=INFINITE State=UP\n";
    setenv("SLURM_CONF", folder.put("slurm.conf", config).c_str(), 1);
    const auto daemon = [&](const std::vector<std::string>& words) {
      Started started = start_child({words, {}, {}});
      for (int* fd : {&started.out, &started.err}) close(std::exchange(*fd, -1));  // they have logs
      daemons_.push_back(started);
    };
    daemon({"slurmctld", "-D"});
    for (const char* name : {"n1", "n2"}) daemon({"slurmd", "-D", "-N", name});
    const Command hello{{"srun", "--quiet", "-N2", "true"}, {}, {}};
    if (!comes_true([&] { return run_all({hello}, std::chrono::seconds(10))[0].exit_code == 0; },
                    std::chrono::seconds(40))) {
      const auto info =
          run_all({{{"sinfo", "-N", "-l"}, {}, {}}, {{"tail", "-n5", folder.path + "/ctld.log"}, {}, {}}},
                  std::chrono::seconds(5));
      end();
      throw std::runtime_error("Slurm does not start: " + info[0].out + info[1].out);
    }
  }
  ~TestSlurm() { end(); }

  TemporaryFolder folder;

 private:
  void end() {
    run_all({{{"scancel", "--me"}, {}, {}}}, std::chrono::seconds(5));
    for (const Started& daemon : daemons_) {
      kill(daemon.pid, SIGTERM);
      comes_true([&] { return waitpid(daemon.pid, nullptr, WNOHANG) == daemon.pid; },
                 std::chrono::seconds(5));
      kill(-daemon.pid, SIGKILL);
      close(daemon.in);
    }
    daemons_.clear();
    unsetenv("SLURM_CONF");
  }

  std::vector<Started> daemons_;
};

}  // namespace flagscale::launch
