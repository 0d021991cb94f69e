// What an agent is made of: frames, messages, exec, heartbeats.

#include "launch/agent/agent.h"

#include <execinfo.h>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmath>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <map>
#include <thread>
#include <utility>
#include <vector>

#include "base/error.h"
#include "base/heartbeat.h"
#include "base/temporary_folder_test_support.h"
#include "launch/agent/cgroup.h"
#include "launch/agent/frames.h"
#include "launch/agent/heartbeats.h"
#include "launch/agent/messages.h"
#include "launch/agent/process.h"
#include "launch/agent/spawn.h"
#include "launch/agent/stacks.h"
#include "launch/agent/symbols.h"

namespace flagscale::launch {
namespace {

testing::AssertionResult holds(const std::string& text, const std::string& part) {
  if (text.find(part) != std::string::npos) return testing::AssertionSuccess();
  return testing::AssertionFailure() << "no «" << part << "» in: " << text;
}

struct PipeEnds {
  int ends[2] = {-1, -1};
  PipeEnds() { EXPECT_EQ(pipe(ends), 0); }
  ~PipeEnds() { close(ends[0]), close(ends[1]); }
  std::string contents() const {
    char buffer[65536];
    const ssize_t got = read(ends[0], buffer, sizeof buffer);
    return {buffer, static_cast<size_t>(std::max<ssize_t>(got, 0))};
  }
};

TEST(Process, ANumberUsedAgainIsAnotherProcess) {
  const ProcessId self = process_id(getpid());
  EXPECT_TRUE(runs(self));
  EXPECT_FALSE(runs({self.pid, self.start + 1}));
  EXPECT_FALSE(send_signal({self.pid, self.start + 1}, SIGKILL));
  EXPECT_TRUE(send_signal(self, 0));
  EXPECT_FALSE(runs(process_id(0)));
}

TEST(Process, AZombieDoesNotRun) {
  const pid_t child = fork();
  if (child == 0) _exit(0);
  siginfo_t ended;
  waitid(P_PID, static_cast<id_t>(child), &ended, WEXITED | WNOWAIT);
  EXPECT_FALSE(runs(process_id(child)));
  EXPECT_TRUE(descendants(getpid()).empty());
  waitpid(child, nullptr, 0);
}

TEST(Process, EndsAreDescribedAsAShellCountsThem) {
  EXPECT_EQ(describe(ExitStatus{3, 0}), "exited with code 3");
  EXPECT_EQ(describe(ExitStatus{137, 9}), "was killed by signal 9 (SIGKILL)");
}

TEST(Frames, ComeOutAsTheyWentInWhateverThePieces) {
  PipeEnds pipe;
  FrameWriter writer(pipe.ends[1]);
  writer.message("{}");
  writer.output(FrameKind::kErr, std::string("\x01"
                                             "fs:\0 text",
                                             10));
  writer.output(FrameKind::kOut, "");
  ASSERT_TRUE(writer.flush());
  const std::string bytes = "Welcome to host b\n" + pipe.contents();
  FrameReader reader;
  std::vector<Frame> frames;
  for (const char byte : bytes) {
    reader.feed({&byte, 1});
    for (Frame frame; reader.next(frame);) frames.push_back(frame);
  }
  ASSERT_EQ(frames.size(), 3u);
  EXPECT_EQ(frames[0].bytes, "{}");
  EXPECT_EQ(frames[1].kind, FrameKind::kErr);
  EXPECT_EQ(frames[1].bytes, std::string("\x01"
                                         "fs:\0 text",
                                         10));
  EXPECT_EQ(reader.greeting(), "Welcome to host b\n");
}

TEST(Frames, WhatIsNoneIsSaidToBeNone) {
  FrameReader reader;
  reader.feed(
      "\x01"
      "fs:m0000000z{}");
  Frame frame;
  EXPECT_THROW(reader.next(frame), Error);
}

TEST(Frames, ASlowReaderMissesOutputAndIsToldHowMuch) {
  PipeEnds pipe;
  FrameWriter writer(pipe.ends[1]);
  const std::string block(1 << 20, 'x');
  for (int i = 0; i < 12; ++i) writer.output(FrameKind::kOut, block);
  writer.message("{\"late\":1}");
  FrameReader reader;
  size_t output = 0;
  std::string note, message;
  const auto read_all = [&] {
    while (writer.waits()) {
      writer.flush();
      reader.feed(pipe.contents());
    }
    for (Frame frame; reader.next(frame);) {
      if (frame.kind == FrameKind::kMessage) message = frame.bytes;
      if (frame.bytes[0] == 'x') output += frame.bytes.size();
      if (frame.bytes[0] == '\n') note = frame.bytes;
    }
  };
  read_all();
  EXPECT_LT(output, 12 * block.size());
  EXPECT_EQ(message, "{\"late\":1}");
  writer.output(FrameKind::kOut, "xafter");
  read_all();
  EXPECT_TRUE(holds(note, std::to_string(12 * block.size() - output + 6) + " bytes"));
}

TEST(Messages, KeepEveryWordOfACommand) {
  Order order{.kind = Order::Kind::kStart};
  order.task.rank = 3;
  order.task.host = {"b", 8, "A100"};
  order.task.command.argv = {"torchrun", "--json", "{\"a\": \"$HOME 'x'\"}", "", "two\nlines"};
  order.task.command.env = {{"A", "1=2"}};
  order.before_start = "source x";
  order.apart = true, order.lost_after = 2.5;
  const Order read = read_order(to_json(order));
  EXPECT_EQ(read.task.command.argv, order.task.command.argv);
  EXPECT_EQ(read.task.command.env, order.task.command.env);
  EXPECT_EQ(read.task.host.type, "A100");
  EXPECT_EQ(read.before_start, "source x");
  EXPECT_EQ(read.lost_after, 2.5);
  order.task.command.argv = {"\xff"};
  EXPECT_THROW(to_json(order), Error);
  EXPECT_THROW(read_order("{\"kind\": \"dance\"}"), Error);
  EXPECT_THROW(read_order("no JSON"), Error);
}

// What a command prints, and how it ends.
std::pair<std::string, ExitStatus> output_of(const Command& command, const SpawnOptions& options = {}) {
  const Spawned spawned = spawn(command, options);
  int status = 0;
  waitpid(spawned.pid, &status, 0);
  char buffer[65536];
  const ssize_t got = read(spawned.out, buffer, sizeof buffer);
  close(spawned.out);
  return {std::string(buffer, static_cast<size_t>(std::max<ssize_t>(got, 0))), exit_status(status)};
}

// The order and the news that nobody waits for it any more may come in one piece.
TEST(Agent, StartsNothingForALauncherThatHasGone) {
  const TemporaryFolder temporary;
  const std::filesystem::path folder = temporary.path;
  PipeEnds orders, reports;
  Order order{.kind = Order::Kind::kStart};
  order.task.command.argv = {"sh", "-c", "touch started; exec sleep 60"};
  order.task.command.directory = folder;
  order.task.output = folder / "output";
  FrameWriter launcher(orders.ends[1]);
  launcher.message(to_json(order));
  ASSERT_TRUE(launcher.flush());
  close(std::exchange(orders.ends[1], -1));
  const auto begin = std::chrono::steady_clock::now();
  const pid_t agent = fork();
  if (agent == 0) _exit(run_agent(orders.ends[0], reports.ends[1]));
  waitpid(agent, nullptr, 0);
  EXPECT_LT(std::chrono::steady_clock::now() - begin, std::chrono::seconds(30))
      << "it waited for the command";
  EXPECT_FALSE(std::filesystem::exists(folder / "started"));
}

TEST(Spawn, WordsReachTheProgramAsTheyAreThroughTheUsersShellToo) {
  TemporaryFolder folder;
  Command command;
  command.argv = {"printf", "[%s]", "{\"a\": 1}", "$HOME", "`id`", "a  b", "\"", ""};
  command.directory = folder.path;
  const std::string expected = "[{\"a\": 1}][$HOME][`id`][a  b][\"][]";
  EXPECT_EQ(output_of(command).first, expected);
  EXPECT_EQ(output_of(command, {.before_start = "true # it's \"quoted\""}).first, expected);
}

TEST(Spawn, BeforeStartSharesItsShellAndTheCommandsVariablesWin) {
  Command command;
  command.argv = {"bash", "-c", "echo $FROM_SHELL $BOTH $SEEN"};
  command.env = {{"BOTH", "configured"}};
  const SpawnOptions options{.before_start = "export FROM_SHELL=yes SEEN=$BOTH BOTH=shell"};
  EXPECT_EQ(output_of(command, options).first, "yes configured configured\n");
  EXPECT_EQ(output_of(command, {.before_start = "exit 7"}).second.code, 7);
}

TEST(Spawn, SaysWhatCannotBeStarted) {
  const auto complaint = [](const Command& command) {
    try {
      spawn(command, {});
    } catch (const Error& error) {
      return std::string(error.what());
    }
    return std::string();
  };
  EXPECT_EQ(complaint({.argv = {"no-such-program"}, .env = {}, .directory = {}}),
            "cannot start no-such-program: there is no such program in PATH");
  EXPECT_EQ(complaint({.argv = {"ls"}, .env = {}, .directory = "/no/such/folder"}),
            "cannot start ls in /no/such/folder: No such file or directory");
  TemporaryFolder folder;
  const std::string file = folder.put("text", "echo a shell has read this\n");
  EXPECT_EQ(complaint({.argv = {file}, .env = {}, .directory = {}}),
            "cannot start " + file + ": Permission denied");
  chmod(file.c_str(), 0755);
  EXPECT_EQ(complaint({.argv = {file}, .env = {}, .directory = {}}),
            "cannot start " + file + ": Exec format error");
}

TEST(Heartbeats, AreReadAsTheProgramWritesThem) {
  TemporaryFolder folder;
  const pid_t child = fork();
  if (child == 0) {
    setenv("FLAGSCALE_HEARTBEATS", folder.path.c_str(), 1);
    setenv("RANK", "5", 1);
    beat(Phase::kFirstStep);
    report_metrics(std::vector<Metric>{{"lm_loss", 2.5}, {"grad_norm", std::nan("")}});
    beat(Phase::kStep, 12);
    _exit(0);
  }
  waitpid(child, nullptr, 0);
  const auto beat = parse_beat("rank_5", [&] {
    std::ifstream in(folder.path + "/rank_5");
    return std::string{std::istreambuf_iterator<char>(in), {}};
  }());
  ASSERT_TRUE(beat);
  EXPECT_EQ(beat->phase, "step");
  EXPECT_EQ(beat->iteration, 12);
  EXPECT_EQ(beat->pid, child);
  EXPECT_EQ(beat->beats, 2);
  EXPECT_EQ(beat->metrics.at("lm_loss"), 2.5);
  EXPECT_TRUE(std::isnan(beat->metrics.at("grad_norm")));
}

TEST(Heartbeats, HalfALineIsNone) {
  EXPECT_FALSE(parse_beat("r", "step 1 2 3"));
  EXPECT_FALSE(parse_beat("r", "step 1\n"));
  EXPECT_FALSE(parse_beat("r", "dance 1 2 3 0\n"));
  EXPECT_FALSE(parse_beat("r", ""));
  EXPECT_TRUE(parse_beat("r", "step 1 2 3 0\nleft over of a longer line"));
  EXPECT_EQ(parse_beat("r", "step 1 2 3 0 a=1 b= =2 c c=x\nd=3")->metrics,
            (std::map<std::string, double>{{"a", 1}}));
}

TEST(Heartbeats, AreNewsOnce) {
  TemporaryFolder folder;
  Heartbeats beats(folder.path + "/beats");
  std::ofstream(beats.folder() / "rank_0") << "save 7 100 1 0\n";
  EXPECT_EQ(beats.news().size(), 1u);
  EXPECT_EQ(beats.news().size(), 0u);
  std::ofstream(beats.folder() / "rank_0") << "save 7 100 2 0\n";
  EXPECT_EQ(beats.news().size(), 1u);
  EXPECT_EQ(beats.all().at(0).iteration, 7);
}

TEST(Stacks, NameEveryThreadAndWhatItWaitsFor) {
  const pid_t child = fork();
  if (child == 0) {
    pause();
    _exit(0);
  }
  usleep(20'000);
  const std::string text = kernel_stacks({process_id(child)});
  kill(child, SIGKILL);
  waitpid(child, nullptr, 0);
  EXPECT_TRUE(holds(text, "process " + std::to_string(child)));
  EXPECT_TRUE(holds(text, "thread " + std::to_string(child)));
  EXPECT_TRUE(holds(text, "S (sleeping)"));
}

TEST(Stacks, AddressesGetTheirFunctionsNames) {
  const auto caller = []() __attribute__((noinline)) { return __builtin_return_address(0); };
  void* const frame = caller();
  PipeEnds pipe;
  backtrace_symbols_fd(&frame, 1, pipe.ends[1]);
  std::string printed = pipe.contents();
  if (printed[0] != '/')
    printed =
        std::string(std::filesystem::read_symlink("/proc/self/exe")) + printed.substr(printed.find('('));
  const std::string named = with_function_names("a thread\n" + printed + "/no/program(+0x10)[0x10]\n");
  EXPECT_TRUE(holds(named, "Stacks_AddressesGetTheirFunctionsNames_Test::TestBody()"));
  EXPECT_TRUE(holds(named, "a thread\n"));
  EXPECT_TRUE(holds(named, "\n/no/program(+0x10)[0x10]\n"));
}

// Every thread of it, and it goes on.
TEST(Stacks, OurOwnProgramPrintsThemWhenAsked) {
  TemporaryFolder folder;
  PipeEnds err;
  const pid_t child = fork();
  if (child == 0) {
    dup2(err.ends[1], STDERR_FILENO);
    setenv("FLAGSCALE_HEARTBEATS", folder.path.c_str(), 1);
    unsetenv("RANK");
    install_stack_signal();
    std::thread other([] {
      for (;;) pause();
    });
    beat(Phase::kStep, 1);
    for (;;) pause();
  }
  const auto asked = [&] {
    std::ifstream in(folder.path + "/rank_0");
    return parse_beat("rank_0", std::string{std::istreambuf_iterator<char>(in), {}});
  };
  while (!asked()) usleep(1000);
  ASSERT_GT(asked()->stack_signal, 0);
  fcntl(err.ends[0], F_SETFL, O_NONBLOCK);
  std::string said;
  const auto stacks = [&] {
    size_t count = 0;
    for (size_t at = 0; (at = said.find("flagscale: stack of thread", at)) != std::string::npos; ++at)
      ++count;
    return count;
  };
  for (size_t round = 1; round <= 2; ++round) {
    ask_for_stacks(child, asked()->stack_signal);
    for (int waits = 0; stacks() < 2 * round && waits < 5000; ++waits) usleep(1000), said += err.contents();
  }
  EXPECT_TRUE(runs(process_id(child)));
  kill(child, SIGKILL);
  waitpid(child, nullptr, 0);
  EXPECT_EQ(stacks(), 4u) << said;
  EXPECT_TRUE(holds(said, "flagscale: stack of thread " + std::to_string(child) + "\n"));
}

}  // namespace
}  // namespace flagscale::launch
