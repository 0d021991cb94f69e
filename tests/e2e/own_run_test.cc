// What `flagscale run` does itself, in the foreground and with one process: it is on record as any job, and
// looked after from another terminal, and the terminal, the exit code and what is trained are as without.

#include <fcntl.h>
#include <pty.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <functional>
#include <nlohmann/json.hpp>
#include <optional>
#include <sstream>
#include <thread>

#include "tests/e2e/server_process.h"
#include "tests/e2e/workshop.h"

namespace flagscale::e2e {
namespace {

namespace fs = std::filesystem;
using Words = std::vector<std::string>;

class OwnRun : public Workshop {
 protected:
  static Words forever(const std::string& name) {
    return training(name, {"train.model.train_iters=1000000", "train.system.logging.log_interval=1",
                           "train.system.checkpoint.save_interval=1000000", "train.model.eval_iters=0"});
  }
  static Words with(Words words, const std::string& more) {
    words.push_back(more);
    return words;
  }
  static std::string log_of(const std::string& name) {
    return contents(name + "/logs/host_0_localhost.output");
  }
  // Of `flagscale run` with action=query.
  static nlohmann::json query(const Words& words) {
    const Result result = run(with(with(words, "action=query"), "--json"), folder_);
    EXPECT_EQ(result.code, 0) << result.err;
    return nlohmann::json::parse(result.out, nullptr, false);
  }
  static void wait_for(Child& child, const std::function<bool()>& there) {
    while (child.running() && !there()) std::this_thread::sleep_for(std::chrono::milliseconds(5));
    EXPECT_TRUE(child.running()) << child.wait().err;
  }
  static void wait_for_iterations(Child& child, const std::string& name) {
    wait_for(child, [&] { return log_of(name).find("iteration") != std::string::npos; });
  }
  // Each line of `printed` stands in the log, but for what a signal's handler answers whoever sent it.
  static void expect_all_in(const std::string& log, const std::string& printed) {
    std::istringstream in(printed);
    for (std::string line; std::getline(in, line);)
      EXPECT_TRUE(line.starts_with("stopping after this ") || log.find(line + "\n") != std::string::npos)
          << "not in the log: " << line;
  }
};

TEST_F(OwnRun, IsAskedAboutFollowedAndStoppedFromElsewhere) {
  const Words words = forever("plain");
  Child child(program(words), {.folder = folder_}), decoy(program(forever("decoy")), {.folder = folder_});
  wait_for_iterations(child, "plain");
  wait_for_iterations(decoy, "decoy");
  wait_for(child, [&] { return query(words).contains("metrics"); });
  const nlohmann::json run_now = query(words);
  EXPECT_EQ(run_now["state"], "running");
  EXPECT_EQ(run_now["engine"], "native");
  EXPECT_EQ(run_now["ranks"].size(), 1u);
  EXPECT_EQ(run_now["ranks"][0]["pid"], run_now["launcher"]["pid"]);
  EXPECT_EQ(run_now["ranks"][0]["phase"], "step");
  EXPECT_GT(run_now["metrics"]["tokens_per_second"], 0);
  EXPECT_EQ(contents("plain/logs/pids/host_0_localhost.pid"), run_now["launcher"]["pid"].dump() + "\n");
  EXPECT_TRUE(run(with(words, "action=query"), folder_).out.starts_with("aquila running, for "));
  EXPECT_NE(run({"ps"}, folder_).out.find((folder_ / "plain").string() + "\n"), std::string::npos);
  EXPECT_NE(run({"logs", "plain", "-n", "1"}, folder_).out.find(" iteration "), std::string::npos);

  const Result second = run(words, folder_);
  EXPECT_EQ(second.code, 1);
  EXPECT_NE(second.err.find("is running already (run 1, launcher "), std::string::npos) << second.err;
  EXPECT_EQ(second.out, "");

  Child attached(program({"attach", "plain"}), {.folder = folder_}),
      followed(program({"logs", "plain", "-f"}), {.folder = folder_});
  const Result stop = run(with(words, "action=stop"), folder_);
  EXPECT_EQ(stop.code, 0) << stop.err;
  EXPECT_TRUE(stop.out.starts_with("aquila stopped (exit code 130), after ")) << stop.out;
  const Result stopped = child.wait();
  EXPECT_EQ(stopped.code, 130);
  const std::string last = "which is saved; the same command goes on from it\n";
  EXPECT_TRUE(stopped.err.ends_with(last)) << stopped.err;
  EXPECT_TRUE(log_of("plain").ends_with(last)) << log_of("plain");
  expect_all_in(log_of("plain"), stopped.out + stopped.err);
  EXPECT_FALSE(fs::exists(folder_ / "plain/logs/pids/host_0_localhost.pid"));
  EXPECT_EQ(attached.wait().code, 130);
  EXPECT_EQ(followed.wait().out, log_of("plain"));
  EXPECT_TRUE(decoy.running()) << decoy.wait().err;
  EXPECT_EQ(query(words)["state"], "stopped");
}

TEST_F(OwnRun, StoppedAtOnceIsAStoppedOne) {
  const Words words = forever("at_once");
  Child child(program(words), {.folder = folder_});
  wait_for_iterations(child, "at_once");
  const Result stop = run({"stop", "at_once", "--now"}, folder_);
  EXPECT_TRUE(stop.out.starts_with("aquila stopped (exit code ")) << stop.out << stop.err;
  EXPECT_GE(child.wait().code, 130);
}

TEST_F(OwnRun, ThatIsKilledHasFailedAndGoesOn) {
  const auto until = [](const std::string& iterations) {
    return training("killed", {"train.model.train_iters=" + iterations, "train.model.eval_iters=0",
                               "train.system.checkpoint.save_interval=5"});
  };
  Child child(program(until("1000000")), {.folder = folder_});
  wait_for_iterations(child, "killed");
  wait_for(child, [] { return fs::exists(folder_ / "killed/checkpoints/iter_0000005"); });
  child.signal(SIGKILL);
  const std::string printed = child.wait().out;
  expect_all_in(log_of("killed"), printed.substr(0, printed.rfind('\n') + 1));
  const nlohmann::json killed = query(until("1000000"));
  EXPECT_EQ(killed["state"], "failed");
  EXPECT_EQ(killed["culprit"], "it was killed");
  EXPECT_EQ(run({"attach", "killed"}, folder_).code, 1);
  const Result again = run(with(until("1000000"), "+train.model.exit_interval=1"), folder_);
  EXPECT_EQ(again.code, 0) << again.err;
  EXPECT_NE(again.err.find("loaded killed/checkpoints/iter_"), std::string::npos) << again.err;
  const nlohmann::json whole = query(until("1000000"));
  EXPECT_EQ(whole["state"], "completed");
  EXPECT_EQ(whole["run"], 2);
  EXPECT_EQ(whole["exit_code"], 0);
}

TEST_F(OwnRun, ThatFailsSaysWhyAndWhatIsRefusedLeavesNothing) {
  const Words fails = training("fails", {"data_path=nothing_there"});
  const Result failed = run(fails, folder_);
  EXPECT_EQ(failed.code, 1);
  const nlohmann::json record = query(fails);
  EXPECT_EQ(record["state"], "failed");
  EXPECT_EQ(record["exit_code"], 1);
  EXPECT_EQ("flagscale: error: " + record["culprit"].get<std::string>() + "\n",
            failed.err.substr(failed.err.find("flagscale: error: ")));
  EXPECT_TRUE(log_of("fails").ends_with(failed.err.substr(failed.err.find("flagscale: error: "))));
  EXPECT_TRUE(fs::exists(folder_ / "fails/logs/monitor/host_0_localhost_diagnostic.txt"));

  const Result refused = run(training("refused", {"+train.model.num_layer=2"}), folder_);
  EXPECT_EQ(refused.code, 2);
  EXPECT_NE(refused.err.find("did you mean 'num_layers'?"), std::string::npos) << refused.err;
  EXPECT_FALSE(fs::exists(folder_ / "refused"));
  must(training("tested", {"action=test"}));
  EXPECT_FALSE(fs::exists(folder_ / "tested/records"));
}

// What a terminal shows is not what a log is for.
TEST_F(OwnRun, HasTheTerminalToItself) {
  const Words words = program(
      training("terminal", {"train.model.train_iters=600", "train.system.logging.log_interval=200",
                            "train.model.eval_iters=0", "train.system.checkpoint.save_interval=1000000"}));
  std::vector<char*> arguments;
  for (const std::string& word : words) arguments.push_back(const_cast<char*>(word.c_str()));
  arguments.push_back(nullptr);
  int terminal = -1;
  const pid_t child = forkpty(&terminal, nullptr, nullptr, nullptr);
  ASSERT_GE(child, 0);
  if (child == 0) {
    setenv("FLAGSCALE_THREADS", "1", 1);
    if (chdir(folder_.c_str()) == 0) execv(arguments[0], arguments.data());
    _exit(127);
  }
  std::string shown;
  char buffer[4096];
  for (ssize_t got; (got = ::read(terminal, buffer, sizeof buffer)) > 0;)
    shown.append(buffer, static_cast<size_t>(got));
  close(terminal);
  int status = 0;
  waitpid(child, &status, 0);
  EXPECT_EQ(status, 0) << shown;
  EXPECT_NE(shown.find("\rtrain  ["), std::string::npos) << shown;
  EXPECT_EQ(log_of("terminal").find('\r'), std::string::npos) << log_of("terminal");
  EXPECT_EQ(losses(log_of("terminal")).size(), 3u) << log_of("terminal");
  EXPECT_EQ(losses(log_of("terminal")), losses(shown));
}

class OwnTasks : public OwnRun {
 protected:
  static void SetUpTestSuite() {
    Workshop::SetUpTestSuite();
    must(training("served", {"train.model.train_iters=10", "train.model.eval_iters=0"}));
    write("conf/inference.yaml",
          "experiment: {exp_name: asked, exp_dir: asked, task: {type: inference}}\n"
          "inference:\n  llm: {model: served/checkpoints}\n"
          "  generate: {prompts: [\"#include <\"], sampling: {max_tokens: 8, temperature: 0}}\n");
    write("conf/serve.yaml",
          "experiment: {exp_name: service, exp_dir: service, task: {type: serve}}\n"
          "serve:\n- engine_args: {model: served/checkpoints, port: 0, host: 127.0.0.1}\n");
  }
  static Words task(const std::string& name) {
    return {"run", "--config-path", "conf", "--config-name", name};
  }
};

TEST_F(OwnTasks, AServiceThatDrainsIsStopped) {
  const Words words = task("serve");
  for (const bool by_signal : {true, false}) {
    ServerProcess server(words, folder_, true);
    ASSERT_NE(server.port(), 0) << server.ready_line();
    EXPECT_EQ(query(words)["state"], "running");
    EXPECT_NE(contents("service/serve_logs/host_0_localhost.output").find(server.ready_line()),
              std::string::npos);
    EXPECT_NE(run(words, folder_).err.find("is running already"), std::string::npos);
    std::optional<Child> stop;
    if (by_signal)
      server.signal(SIGTERM);
    else
      stop.emplace(program(with(words, "action=stop")), Setting{.folder = folder_});
    EXPECT_EQ(server.wait(), 0);
    if (stop) {
      EXPECT_TRUE(stop->wait().out.starts_with("service stopped, after "));
    }
    EXPECT_EQ(query(words)["state"], "stopped");
    EXPECT_EQ(query(words)["exit_code"], 0);
  }
}

TEST_F(OwnTasks, AnswersAreInTheLog) {
  const Result result = must(task("inference"));
  EXPECT_EQ(query(task("inference"))["state"], "completed");
  expect_all_in(contents("asked/inference_logs/host_0_localhost.output"), result.out + result.err);
}

// As in a container without a place to write.
TEST_F(OwnTasks, AreDoneWhereNoRecordCanBeKept) {
  const Result whole = must(task("inference"));
  fs::create_directory(folder_ / "locked");
  fs::permissions(folder_ / "locked", fs::perms(0555));
  const Setting other{.folder = folder_, .environment = {"XDG_STATE_HOME=/dev/null"}, .nobody = true};
  FLAGSCALE_NEED_ANOTHER_USER(other);
  const Result result = run(with(task("inference"), "experiment.exp_dir=locked/asked"), other);
  EXPECT_EQ(result.code, 0) << result.err;
  EXPECT_EQ(result.out, whole.out);
  EXPECT_NE(result.err.find("locked/asked/records: Permission denied: this run has no record"),
            std::string::npos)
      << result.err;
  EXPECT_EQ(std::count(result.err.begin(), result.err.end(), '\n'),
            1 + std::count(whole.err.begin(), whole.err.end(), '\n'))
      << result.err;
}

}  // namespace
}  // namespace flagscale::e2e
