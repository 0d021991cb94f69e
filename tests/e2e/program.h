#pragma once
// Runs the program that was built, as a shell would.

#include <chrono>
#include <cstdint>
#include <cstdio>
#include <string>
#include <vector>

namespace flagscale::e2e {

struct Result {
  int code = -1;  // exit status; 128 + signal when killed
  std::string out, err;
  int64_t peak_kib = 0;  // most resident memory, file pages included
  double cpu_seconds = 0;
};

// How a process is set up before the program starts.
struct Setting {
  std::string folder = {};                    // working folder; empty: as it is
  std::vector<std::string> environment = {};  // NAME=value, beside this process's
  uint64_t file_limit = 0;                    // bytes that a file may have (RLIMIT_FSIZE); 0: as it is
  bool nobody = false;                        // as another user, where this one is root
};

// A process that runs. stdout and stderr go to files, so that neither can fill a pipe and block.
class Child {
 public:
  explicit Child(const std::vector<std::string>& words,
                 const Setting& setting = {});  // words[0] is looked up in PATH
  ~Child();                                     // kills what still runs
  Child(const Child&) = delete;
  Child& operator=(const Child&) = delete;

  bool running();
  void signal(int number) const;
  Result wait();
  // The same; what has not ended by then is asked for its threads' stacks (base/heartbeat.h) and killed. Its
  // err says so at the end.
  Result wait(std::chrono::seconds limit);
  std::string said() const;  // on stdout, until now

 private:
  void collect(bool block);
  int pid_ = -1;
  bool ended_ = false;
  std::FILE *out_, *err_;
  Result result_;
};

// `flagscale` and `words`, each passed as it is: no shell.
std::vector<std::string> program(const std::vector<std::string>& words);

Result run(const std::vector<std::string>& words, const std::string& folder = "");
Result run(const std::vector<std::string>& words, const Setting& setting);

// In a test: skips it where the user of this setting cannot reach the program, as below /root.
#define FLAGSCALE_NEED_ANOTHER_USER(setting) \
  if (run({"--version"}, setting).code != 0) GTEST_SKIP() << "another user cannot run the program here"

// A bash command line, with the program's folder in PATH.
Result shell(const std::string& command, const std::string& folder = "");

}  // namespace flagscale::e2e
