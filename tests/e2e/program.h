#pragma once
// Runs the program that was built, as a shell would.

#include <string>
#include <vector>

namespace flagscale::e2e {

struct Result {
  int code = -1;  // exit status; 128 + signal when killed
  std::string out, err;
};

// The words after `flagscale`, each passed as it is: no shell. The working folder is `folder` where given.
Result run(const std::vector<std::string>& words, const std::string& folder = "");

// A bash command line, with the program's folder in PATH.
Result shell(const std::string& command, const std::string& folder = "");

}  // namespace flagscale::e2e
