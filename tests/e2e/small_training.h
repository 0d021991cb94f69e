#pragma once
// A training of seconds with all that a run which goes on must find again: ramp-up, a schedule, spikes that
// are skipped, dropped data, evaluation.

#include <filesystem>
#include <map>
#include <string>
#include <vector>

namespace flagscale::e2e {

// Writes the configuration, <folder>/<name>.yaml; a run writes to `out` in its working folder.
void write_small_training(const std::filesystem::path& folder, const std::string& name);

// Log lines of iterations and validations, without what differs from run to run.
std::vector<std::string> log_lines(const std::string& text);

// Bytes of the files of the newest checkpoint in <run>/out, by folder and name.
std::map<std::string, std::string> newest_checkpoint(const std::filesystem::path& run);

}  // namespace flagscale::e2e
