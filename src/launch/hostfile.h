#pragma once
// FlagScale's hostfile: a host a line, "NAME slots=N [type=T]", with # comments and blank lines.

#include <string>
#include <vector>

#include "launch/job.h"

namespace flagscale::launch {

// The hosts in the file's order; the first one is the master. Either all have a type or none has.
// Throws Error{kNotFound} when there is no such file; Error{kConfig} naming file, line and the fix for a line
// that is no host, a host named twice, some hosts with a type and some without, and a file without hosts.
std::vector<Host> read_hostfile(const std::string& path);

}  // namespace flagscale::launch
