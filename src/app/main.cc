// The `flagscale` program: collects the registered commands, parses, runs one, and maps errors to messages
// and exit codes.

#include <fmt/core.h>

#include <CLI/CLI.hpp>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <iostream>
#include <new>

#include "app/command.h"
#include "app/numbers.h"
#include "app/suggest.h"
#include "base/does_not_fit.h"
#include "base/heartbeat.h"
#include "base/interrupt.h"
#include "base/progress.h"

namespace flagscale {
namespace {

constexpr const char* kExamples = R"(Examples:
  flagscale data train-tokenizer --input book.txt --vocab-size 8192 --output tokenizer
  flagscale data preprocess --input book.txt --plain-text --tokenizer tokenizer --output-prefix book
  flagscale train aquila data_path=book_text_document tokenizer_path=tokenizer
  flagscale generate MODEL --prompt "In the beginning" --max-tokens 64
  flagscale chat MODEL
  flagscale serve MODEL --port 8000
  flagscale config explain train.model.rotary_base

Every command has --help with its own examples.
Exit codes: 0 done; 1 failed (files, memory, network, what is not supported); 2 a mistake in
the command line or the configuration; 3 it does not fit in the memory that is free, and
nothing was begun; 130 stopped by Ctrl-C. A job's own code is that of the rank that failed
first.)";

// Behind what was printed: a pipe has that only once it is flushed.
int complain(const char* message, int code) {
  std::fflush(stdout);
  std::cout.flush();
  Progress::clear_line();
  fmt::print(stderr, "flagscale: error: {}\n", message);
  return code;
}

// 0, where all of the output could be written.
int finish() {
  const bool whole = std::fflush(stdout) == 0 && !std::ferror(stdout) && std::cout.flush().good();
  const int reason = errno;
  return whole ? 0 : complain(fmt::format("cannot write the output: {}", std::strerror(reason)).c_str(), 1);
}

// CLI11 answers --help and --version by exceptions too: those print to std::cout and return 0.
int report_parse_error(const CLI::App& app, const CLI::ParseError& error, int argc, char** argv) {
  if (error.get_exit_code() == 0) {
    app.exit(error);
    return finish();
  }
  const Suggestion suggestion = suggest(app, {argv + 1, argv + argc});
  const std::string message = suggestion.message.empty() ? error.what() : suggestion.message;
  return complain(fmt::format("{}\nRun `{} --help` for what it takes.", message, suggestion.command).c_str(),
                  2);
}

void build(CLI::App& app) {
  app.set_version_flag("-v,--version", "flagscale " FLAGSCALE_VERSION);
  app.require_subcommand(1);
  app.footer(kExamples);
  const auto& commands = Registry<Command>::instance();
  for (const std::string& name : commands.names()) {
    const Command* command = commands.find(name);
    command->setup(*app.add_subcommand(name, command->summary));
  }
  check_numbers(app);
}

int run(int argc, char** argv) {
  CLI::App app{"Configures, trains and runs large language models: one native program.", "flagscale"};
  try {
    build(app);
    if (argc == 1) {
      fmt::print("{}", app.help());
      return finish();
    }
    app.parse(argc, argv);
    return finish();
  } catch (const ExitCode& end) {
    const int code = finish();
    return end.code != 0 ? end.code : code;
  } catch (const CLI::ParseError& error) {
    return report_parse_error(app, error, argc, argv);
  } catch (const DoesNotFit& error) {
    return complain(error.what(), kDoesNotFit);
  } catch (const Error& error) {
    return complain(error.what(), exit_code(error.kind()));
  } catch (const std::bad_alloc&) {
    return complain("out of memory", 1);
  } catch (const std::filesystem::filesystem_error& error) {
    return complain(fmt::format("{}: {}", error.path1().string(), error.code().message()).c_str(), 1);
  } catch (const std::exception& error) {
    return complain(error.what(), 1);
  }
}

}  // namespace
}  // namespace flagscale

int main(int argc, char** argv) {
  flagscale::install_interrupt_handler();
  flagscale::install_stack_signal();
  std::signal(SIGXFSZ, SIG_IGN);  // a file beyond `ulimit -f` is an error of write(), like a full disk
  return flagscale::run(argc, argv);
}
