#pragma once
// A diagnosis for people, for programs, and in the file where FlagScale has it.

#include <filesystem>
#include <string>

#include "launch/diagnosis/diagnose.h"

namespace flagscale::launch {

// Who is meant: "rank 1 on worker-1", "local rank 0 on worker-1", "worker-1", "the job".
std::string who(const Suspect& suspect);

// Some ten lines and the culprit's last lines.
std::string to_text(const Diagnosis& diagnosis);

// What a failed rank's last lines mean, in one line for people: "OutOfMemoryError: The GPU's memory ran out.
// What to do: …"; "" where they say no more than themselves.
std::string explain(const std::vector<std::string>& last_lines);

// {"failed", "completed", "culprit": {"rank", "host", "label", "meaning", "hint", "log", "line", "text",
// "ending", "last_lines", …} or null, "others": […]}
std::string to_json(const Diagnosis& diagnosis);

// Writes what a log said so far to <folder>/host_<rank>_<host>_diagnostic.txt, FlagScale's logs/monitor/
// file, in its format and with each line's text and hint added; the file is replaced whole. log: the name to
// call the log by. Lines that the job survived say so. Returns its path. Error{kResource} when it cannot be
// written.
std::filesystem::path write_diagnostic_file(const std::filesystem::path& folder, int rank,
                                            const std::string& host, const std::string& log,
                                            const LogScan& scan);

// The same text, without a file.
std::string diagnostic_text(int rank, const std::string& host, const std::string& log, const LogScan& scan);

}  // namespace flagscale::launch
