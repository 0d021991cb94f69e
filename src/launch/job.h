#pragma once
// A job: what is started on which hosts. An adapter (launch/adapter) makes it from a configuration, a
// launcher (launch/launcher) carries it to its hosts, an agent on each host (launch/agent) starts and watches
// it, and a record (launch/record) keeps what became of it. Each of them knows this file, not one another.

#include <filesystem>
#include <map>
#include <string>
#include <vector>

namespace flagscale::launch {

// A program with its arguments: started by exec, so nothing in it is ever read by a shell.
struct Command {
  std::vector<std::string> argv;
  std::map<std::string, std::string> env;  // beside those that are inherited
  std::filesystem::path directory;         // where it starts; empty: where the launcher was started
};

struct Host {
  std::string name;  // "localhost": this machine, reached without ssh
  int slots = 0;     // devices; 0: not said
  std::string type;  // of its devices, as the hostfile has it; "" when it has none

  bool is_here() const { return name == "localhost"; }
};

// What one host starts: a foreign launcher such as torchrun, or this program itself.
struct NodeTask {
  int rank = 0;
  Host host;
  Command command;
  std::filesystem::path output;  // <log>/host_<rank>_<host>.output: its stdout and stderr
  std::vector<Command> prepare;  // run one after the other to their end, before the command; one that fails
                                 // fails the node
  bool follows = false;          // it only serves the others, and ends in order when these have ended well
};

// A file that a command reads. Written before anything starts, on every host that does not share the folder.
struct JobFile {
  std::filesystem::path path;
  std::string text;
};

struct Job {
  std::string name;    // experiment.exp_name
  std::string task;    // train, inference, serve, compress, rl
  std::string engine;  // "native", or the foreign engine: megatron, vllm, sglang, llama_cpp, verl, …
  std::filesystem::path experiment;  // experiment.exp_dir, absolute
  std::filesystem::path log;         // logs/, inference_logs/, serve_logs/ or compress_logs/ in it
  std::string container;             // that all of it runs in, one a host; "" for none
  std::string before_start;          // experiment.cmds: the user's own shell text, "" when there is none
  std::string after_stop;
  std::string waits_for;      // HOST:PORT of another node that has to answer before this one starts
  bool no_shared_fs = false;  // what its hosts write is not seen here
  int ssh_port = 22;
  int max_restarts = 0;
  bool mends_itself = false;  // its commands start ranks that fail again, up to max_restarts: what they end
                              // with is final, what becomes of them is not
  bool scripts = false;       // its hosts' parts are written down too, to be read and run by hand
  int port = 0;               // where a service answers; 0: it is none, or does not say
  int meeting_port = 0;       // where its ranks meet on the first host, if the configuration says so
  std::vector<std::filesystem::path> folders;  // made on every host before its command starts
  std::vector<JobFile> files;
  std::vector<NodeTask> nodes;  // by rank
};

}  // namespace flagscale::launch
