#include "launch/diagnosis/ending.h"

#include <fmt/format.h>
#include <string.h>

#include <csignal>

#include "launch/diagnosis/line_match.h"

namespace flagscale::launch {

namespace {

using enum Role;

constexpr Pattern kExitCode{"", "ExitCode", "The process ended with a code that is not 0.",
                            "Its last lines should say why.", kAftermath};
constexpr Pattern kAborted{"", "CoreDump", "The process was aborted (SIGABRT).",
                           "Its last lines should say why.", kAftermath};
constexpr Pattern kNotExecutable{
    "", "PermissionError", "The program may not be executed.",
    "See `ls -l` of it (chmod +x), and whether its file system is mounted noexec.", kCause};
constexpr Pattern kHostLost{
    "", "HostLost", "The host no longer answers.",
    "Look at its power, its network and its kernel's log; take it out of the hostfile, or let "
    "the run go on with fewer hosts (nnodes: min:max).",
    kCause};
constexpr Pattern kHung{"", "HangError", "The rank runs and does not get on.",
                        "Its stacks say where it waits; the others wait for it in a collective.", kCrash};
constexpr Pattern kProcessorTime{"", "TimeLimit", "The limit on processor time ended the process (SIGXCPU).",
                                 "See `ulimit -t` and the scheduler's limits.", kCause};
constexpr Pattern kFloatingPoint{"", "ArithmeticError", "The process divided an integer by zero (SIGFPE).",
                                 "Its core shows where: `coredumpctl gdb`.", kCause};

// What the table says of a line like it.
const Pattern* of_line(const char* line) { return find_pattern(line); }

const Pattern* of_signal(int number) {
  switch (number) {
    case SIGKILL:
      return of_line("killed by signal");
    case SIGSEGV:
      return of_line("segmentation fault");
    case SIGBUS:
      return of_line("bus error");
    case SIGILL:
      return of_line("illegal instruction");
    case SIGINT:
      return of_line("SIGINT");
    case SIGTERM:
    case SIGHUP:
      return of_line("SIGTERM");
    case SIGPIPE:
      return of_line("broken pipe");
    case SIGXFSZ:
      return of_line("file too large");
    case SIGABRT:
      return &kAborted;
    case SIGXCPU:
      return &kProcessorTime;
    case SIGFPE:
      return &kFloatingPoint;
    default:
      return of_line("terminated by signal");
  }
}

const Pattern* of_code(int code) {
  if (code == 0) return nullptr;
  if (code == 126) return &kNotExecutable;
  return code == 127 ? of_line("command not found") : &kExitCode;
}

}  // namespace

Ending exited(int rank, int code, std::optional<double> time) {
  const int number = code < 0 ? -code : code - 128;
  if (number > 0 && number < 65) return {rank, Ending::How::kSignal, number, time, false, -1};
  return {rank, Ending::How::kExited, code, time, false, -1};
}

const Pattern* find_ending(const Ending& ending) {
  switch (ending.how) {
    case Ending::How::kExited:
      return of_code(ending.code);
    case Ending::How::kSignal:
      return of_signal(ending.code);
    case Ending::How::kLost:
      return &kHostLost;
    case Ending::How::kHung:
      return &kHung;
  }
  return nullptr;
}

std::string describe(const Ending& ending) {
  switch (ending.how) {
    case Ending::How::kExited:
      return fmt::format("exit code {}", ending.code);
    case Ending::How::kSignal: {
      const char* name = sigabbrev_np(ending.code);
      return name ? fmt::format("signal {} (SIG{})", ending.code, name)
                  : fmt::format("signal {}", ending.code);
    }
    case Ending::How::kLost:
      return "host lost";
    case Ending::How::kHung:
      return "hung";
  }
  return "";
}

}  // namespace flagscale::launch
