#include "launch/launcher/program_transfer.h"

#include <fnmatch.h>

#include <algorithm>
#include <sstream>

#include "base/error.h"
#include "launch/launcher/child.h"
#include "launch/launcher/this_program.h"

namespace flagscale::launch {

namespace fs = std::filesystem;

namespace {

constexpr const char* kHas = "flagscale-has ";

// Lines are joined: csh takes no newline within quotes.
constexpr const char* kPlace =
    "d=\"${XDG_CACHE_HOME:-$HOME/.cache}/flagscale/programs/$1\"; "
    "has() { [ -x \"$d/bin/flagscale\" ] && echo \"flagscale-has $d/bin/flagscale\"; }; ";
constexpr const char* kAskForProgram = "has || echo flagscale-needs";
// Two jobs may bring it at once: each unpacks aside, the first to move wins, and the other finds it there.
constexpr const char* kReceive =
    "has && exit 0; t=\"$d.$$\"; trap 'rm -rf \"$t\" \"$t.tar.gz\"' EXIT; "
    "mkdir -p \"$t\" && cat >\"$t.tar.gz\" && "
    "{ echo \"$1  $t.tar.gz\" | sha256sum -c - >/dev/null 2>&1 || "
    "{ echo \"what came is not what was sent (no sha256sum, or a full disk?)\" >&2; exit 1; }; } && "
    "tar -xzf \"$t.tar.gz\" -C \"$t\" --strip-components=1 && "
    "{ mv -T \"$t\" \"$d\" 2>/dev/null || true; } && has";

fs::path packed_beside(const fs::path& folder) {
  const std::string pattern = "flagscale-" FLAGSCALE_VERSION "-x86_64*.tar.gz";
  std::vector<fs::path> found;
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(folder, error))
    if (fnmatch(pattern.c_str(), entry.path().filename().c_str(), 0) == 0) found.push_back(entry.path());
  const auto time = [](const fs::path& a, const fs::path& b) {
    return fs::last_write_time(a) < fs::last_write_time(b);
  };
  const auto newest = std::max_element(found.begin(), found.end(), time);
  return newest == found.end() ? fs::path() : *newest;
}

fs::path pack_again(const fs::path& root, const fs::path& scratch) {
  const fs::path archive = scratch / "program.tar.gz";
  const Finished tar =
      run_all({{{"tar", "-C", root.parent_path(), "--sort=name", "--mtime=@0", "--owner=0", "--group=0",
                 "--numeric-owner", "-I", "gzip -n", "-cf", archive, root.filename()},
                {},
                {}}},
              {})[0];
  if (tar.exit_code != 0)
    fail(ErrorKind::kResource, "cannot pack {} for other hosts: {}", root.string(), tar.err);
  return archive;
}

}  // namespace

fs::path find_archive(const LauncherOptions& options, const fs::path& scratch) {
  if (!options.archive.empty()) {
    if (!fs::is_regular_file(options.archive))
      fail(ErrorKind::kNotFound, "experiment.runner.archive is {}, which is no file: ./dev pack makes it",
           options.archive.string());
    return options.archive;
  }
  const fs::path program = this_program(options), folder = program.parent_path();
  if (const fs::path archive = packed_beside(folder); !archive.empty()) {
    if (fs::last_write_time(archive) >= fs::last_write_time(program)) return archive;
    fail(ErrorKind::kNotFound, "{} is older than {}: ./dev pack makes it anew", archive.string(),
         program.string());
  }
  if (folder.filename() == "bin" && fs::is_directory(folder.parent_path() / "lib") &&
      fs::is_directory(folder.parent_path() / "share/flagscale"))
    return pack_again(folder.parent_path(), scratch);
  fail(ErrorKind::kNotFound,
       "hosts without a shared file system need this program as an archive, and there is none beside {}: "
       "./dev pack "
       "makes it, experiment.runner.archive names another place",
       program.string());
}

std::vector<std::string> ask_for_program(const std::string& checksum) {
  return {"sh", "-c", std::string(kPlace) + kAskForProgram, "sh", checksum};
}

std::vector<std::string> receive_program(const std::string& checksum) {
  return {"sh", "-c", std::string(kPlace) + kReceive, "sh", checksum};
}

std::string program_in_answer(const std::string& out) {
  std::istringstream lines(out);
  for (std::string line; std::getline(lines, line);)
    if (line.starts_with(kHas)) return line.substr(std::string_view(kHas).size());
  return {};
}

}  // namespace flagscale::launch
