#include "tests/e2e/program.h"

#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <filesystem>

namespace flagscale::e2e {

namespace {

std::string contents(FILE* file) {
  std::string text;
  std::rewind(file);
  char buffer[4096];
  for (size_t n; (n = std::fread(buffer, 1, sizeof buffer, file)) > 0;) text.append(buffer, n);
  std::fclose(file);
  return text;
}

// stdout and stderr go to files, so that neither can fill a pipe and block.
Result execute(const std::vector<std::string>& words, const std::string& folder) {
  FILE* out = std::tmpfile();
  FILE* err = std::tmpfile();
  if (!out || !err) return {-1, "", "no temporary file"};
  std::vector<char*> arguments;
  for (const std::string& word : words) arguments.push_back(const_cast<char*>(word.c_str()));
  arguments.push_back(nullptr);
  const pid_t child = fork();
  if (child == 0) {
    if (!folder.empty() && chdir(folder.c_str()) != 0) _exit(126);
    const int null = open("/dev/null", O_RDONLY);
    dup2(null, STDIN_FILENO);
    dup2(fileno(out), STDOUT_FILENO);
    dup2(fileno(err), STDERR_FILENO);
    execvp(arguments[0], arguments.data());
    _exit(127);
  }
  int status = 0;
  waitpid(child, &status, 0);
  const int code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  return {code, contents(out), contents(err)};
}

}  // namespace

Result run(const std::vector<std::string>& words, const std::string& folder) {
  std::vector<std::string> all{FLAGSCALE_PROGRAM};
  all.insert(all.end(), words.begin(), words.end());
  return execute(all, folder);
}

Result shell(const std::string& command, const std::string& folder) {
  const std::string bin = std::filesystem::path(FLAGSCALE_PROGRAM).parent_path();
  return execute({"bash", "-c", "PATH=" + bin + ":$PATH\n" + command}, folder);
}

}  // namespace flagscale::e2e
