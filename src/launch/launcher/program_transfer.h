#pragma once
// A host without a shared file system gets this program: the archive of `./dev pack`, named by its checksum,
// once, into
// ~/.cache/flagscale/programs/<sha256> there (XDG_CACHE_HOME is kept to). What a host needs for it: sh, tar,
// gzip, sha256sum.

#include <string>
#include <vector>

#include "launch/launcher/options.h"

namespace flagscale::launch {

// The archive: options.archive; else the one that ./dev pack left beside the program; else, where the program
// runs from an unpacked archive, that folder packed again into `scratch`, to the same bytes each time.
// Error{kNotFound} saying how to make one.
std::filesystem::path find_archive(const LauncherOptions& options, const std::filesystem::path& scratch);

// Commands for a host, as words. The first prints "flagscale-has PROGRAM" or "flagscale-needs"; the second
// reads the archive from stdin, checks it, unpacks it aside and moves it into place, then prints the same.
std::vector<std::string> ask_for_program(const std::string& checksum);
std::vector<std::string> receive_program(const std::string& checksum);

// PROGRAM of "flagscale-has PROGRAM" in what a host printed (its shell may greet too); "" where it has none.
std::string program_in_answer(const std::string& out);

}  // namespace flagscale::launch
