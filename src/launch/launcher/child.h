#pragma once
// A child process in a session of its own (so that a terminal's Ctrl-C reaches the launcher alone), with
// pipes for stdin, stdout and stderr that never block this process.

#include <sys/types.h>

#include <chrono>
#include <string>
#include <vector>

#include "launch/job.h"

namespace flagscale::launch {

class Child {
 public:
  // Starts the command, looking argv[0] up in PATH; its environment is this process's with command.env over
  // it. Its stdin is a pipe that write() fills, or the file `input`. Error{kNotFound} when there is no such
  // program, Error{kResource} when it cannot be started.
  explicit Child(const Command& command, const std::filesystem::path& input = {});
  ~Child();  // kills it where it still runs, with its session, and reaps it
  Child(Child&& other) noexcept;
  Child& operator=(Child&&) = delete;

  void write(std::string_view text);  // to its stdin, as it takes it
  void close_stdin();                 // when all is written
  void signal(int number) const;      // to it alone; nothing once it has ended

  // Whole lines, without newlines, that it has written since the last call; at its end the last, unfinished
  // one too. A line of more than a mebibyte comes in pieces.
  std::vector<std::string> lines_out() { return take(out_); }
  std::vector<std::string> lines_err() { return take(err_); }

  // It has exited and both of its pipes are at their end, or were left open for half a second by what it
  // started.
  bool ended() const { return ended_; }
  int exit_code() const { return exit_code_; }  // 128 + signal where a signal ended it

 private:
  friend void poll_children(const std::vector<Child*>& children, std::chrono::milliseconds time);
  struct Stream {
    int fd = -1;
    std::string text;  // not taken yet
  };
  std::vector<std::string> take(Stream& stream) const;
  void read_from(Stream& stream);
  void feed();
  void collect();  // after poll: what has changed

  pid_t pid_ = -1;
  int pidfd_ = -1, stdin_ = -1;  // pidfd: -1 where the kernel has none
  Stream out_, err_;
  std::string unwritten_;
  size_t written_ = 0;  // of unwritten_
  bool close_when_written_ = false, exited_ = false, ended_ = false;
  int exit_code_ = 0;
  std::chrono::steady_clock::time_point exit_time_;
};

// Moves what can be moved between this process and the children, waiting up to `time` for the first of them
// to write, take input or end.
void poll_children(const std::vector<Child*>& children, std::chrono::milliseconds time);

// Runs commands side by side to their ends, each with the file `input`, or nothing, on its stdin. `time` ends
// those that still run, with exit code 128 + SIGKILL; zero: no limit.
struct Finished {
  int exit_code = 0;
  std::string out, err;
};
std::vector<Finished> run_all(const std::vector<Command>& commands, std::chrono::milliseconds time,
                              const std::filesystem::path& input = {});

}  // namespace flagscale::launch
