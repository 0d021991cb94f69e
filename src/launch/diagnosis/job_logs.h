#pragma once
// The logs of a job, where FlagScale and torchrun put them.

#include <filesystem>
#include <string>
#include <vector>

#include "launch/diagnosis/speaker.h"

namespace flagscale::launch {

struct JobLog {
  std::filesystem::path path;
  std::string host;  // of host_<node>_<host>.output; "": not known
  int node = -1;     // the same
  Speaker speaker;   // of rank3.log, or attempt_0/3/stderr.log
};

// What a log's path says of it.
JobLog read_log_name(const std::filesystem::path& path);

// A file is itself. A folder, of an experiment or of its logs: the hosts' outputs and engines' logs in it and
// in logs/, inference_logs/, serve_logs/ and compress_logs/; without any, torchrun's newest attempts; else
// the files
// *.log, *.out, *.err and *.output in it. Sorted. Error{kNotFound} if nothing is there.
std::vector<JobLog> find_logs(const std::filesystem::path& file_or_folder);

}  // namespace flagscale::launch
