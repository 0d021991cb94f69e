#pragma once
// What a job leaves to be read: FlagScale's layout below the log folder, and its commands as text.

#include <string>

#include "launch/job.h"

namespace flagscale::launch {

// A command as a shell would take it. For reading, and for copying by hand: nothing is started from it.
std::string shell_text(const Command& command);

// One host's part as a script that does the same: folders, environment, the user's own text, the command.
std::string run_script(const Job& job, const NodeTask& task);

// [{"host", "rank", "env", "argv", "directory", "output"}, …], one a host, "prepare" where there
// is some, and "container" where it runs in one.
std::string to_json(const Job& job);

// Where the launcher's machine has what a rank says, if hosts share no file system: there each host's file is
// named as FlagScale names it, alike. Else its own file.
std::filesystem::path copied_output(const std::filesystem::path& output, int rank, const std::string& host);
// Of the two the one that is here.
std::filesystem::path output_here(const std::filesystem::path& output, int rank, const std::string& host);

// Writes job.files, and <log>/scripts/host_<rank>_<host>_run.sh. Throws Error{kResource} naming the file.
void write_job_files(const Job& job);

}  // namespace flagscale::launch
