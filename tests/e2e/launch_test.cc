// What `flagscale run --engine yaml action=dryrun --json` prints: on our own cases, and on FlagScale's
// examples beside what its runner writes.
#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <regex>
#include <set>
#include <tuple>

#include "base/temporary_folder_test_support.h"
#include "tests/e2e/program.h"

namespace flagscale::e2e {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::json;
using Words = std::vector<std::string>;

const fs::path kLaunchGolden = FLAGSCALE_SOURCE_DIR "/tests/golden/launch";

Json read(const fs::path& file) { return Json::parse(std::ifstream(file)); }

std::string replaced(std::string text, const std::string& from, const std::string& to) {
  for (size_t at = text.find(from); at != std::string::npos; at = text.find(from, at + to.size()))
    text.replace(at, from.size(), to);
  return text;
}

// A golden configuration on the engine that it names.
Words foreign(const std::string& config, const std::string& exp_dir, const Words& more) {
  Words words{"run",      "--config-path", (kLaunchGolden / "conf").string(), "--config-name", config,
              "--engine", "yaml",          "experiment.exp_dir=" + exp_dir};
  words.insert(words.end(), more.begin(), more.end());
  return words;
}

Result dry_run(const Json& test, const std::string& folder) {
  Words words = foreign(test["config"], folder, {"--json", "action=dryrun"});
  for (const auto& one : test["overrides"])
    words.push_back(replaced(one, "<golden>", kLaunchGolden.string()));
  return run(words, folder);
}

// The program's own words, then each flag with its values, in no order.
std::pair<Words, std::multiset<Words>> groups(const Words& argv) {
  const auto flag = [](const std::string& word) { return word.starts_with("--"); };
  auto at = std::find_if(argv.begin(), argv.end(), flag);
  std::pair<Words, std::multiset<Words>> result{{argv.begin(), at}, {}};
  while (at != argv.end()) {
    const auto next = std::find_if(at + 1, argv.end(), flag);
    result.second.insert({at, next});
    at = next;
  }
  return result;
}

TEST(Launch, OurOwnCases) {
  const Json golden = read(kLaunchGolden / "cases.json");
  for (const Json& test : golden["commands"]) {
    SCOPED_TRACE(test["name"].get<std::string>());
    const TemporaryFolder folder;
    const Result result = dry_run(test, folder.path);
    ASSERT_EQ(result.code, 0) << result.err;
    const Json got = Json::parse(result.out), &want = test["commands"];
    ASSERT_EQ(got.size(), want.size());
    for (size_t i = 0; i < want.size(); ++i) {
      EXPECT_EQ(got[i]["host"], want[i]["host"]);
      EXPECT_EQ(got[i]["rank"], i);
      for (const auto& [key, value] : want[i]["env"].items())
        EXPECT_EQ(got[i]["env"].value(key, "(absent)"), value.get<std::string>()) << key;
      Words argv;
      for (const auto& word : got[i]["argv"])
        argv.push_back(std::regex_replace(replaced(word, folder.path, "<exp>"),
                                          std::regex("(details/host_\\d+_\\w+)/[^/]+$"), "$1/<time>"));
      EXPECT_EQ(groups(argv), groups(want[i]["argv"].get<Words>()));
      const std::string logs = fs::path(got[i]["output"].get<std::string>()).parent_path().string();
      EXPECT_TRUE(
          fs::exists(fs::path(logs) / "scripts" /
                     ("host_" + std::to_string(i) + "_" + want[i]["host"].get<std::string>() + "_run.sh")));
    }
  }
  for (const Json& test : golden["refused"]) {
    const TemporaryFolder folder;
    const Result result = dry_run(test, folder.path);
    EXPECT_NE(result.code, 0) << test["name"];
    EXPECT_NE(result.err.find(test["error"]), std::string::npos) << test["name"] << ": " << result.err;
    EXPECT_EQ(result.out, "");
  }
}

// A script for reading does what the job would do: here every word of a command, through a shell.
TEST(Launch, TheScriptForReadingSaysTheSame) {
  const TemporaryFolder folder;
  folder.put("bin/torchrun", "#!/bin/bash\nprintf '%s\\n' \"$@\"\n");
  fs::permissions(folder.path + "/bin/torchrun", fs::perms::owner_all);
  const Result dry = dry_run({{"config", "train"}, {"overrides", Json::array()}}, folder.path);
  ASSERT_EQ(dry.code, 0) << dry.err;
  const Result ran =
      shell("PATH=" + folder.path + "/bin:$PATH bash " + folder.path +
            "/logs/scripts/host_0_localhost_run.sh && cat " + folder.path + "/logs/host_0_localhost.output");
  EXPECT_EQ(ran.code, 0) << ran.err;
  const Words want = Json::parse(dry.out)[0]["argv"].get<Words>();
  std::string text;
  for (size_t i = 1; i < want.size(); ++i) text += want[i] + "\n";
  EXPECT_EQ(ran.out, text);
}

// Without a launcher for other hosts yet, a job on this machine starts in the foreground: what the command
// gets, its exit code, the user's own text before it.
TEST(Launch, AForeignEngineRunsInTheForeground) {
  const TemporaryFolder folder;
  folder.put("flagscale/train/train_gpt.py", "");
  folder.put("bin/torchrun", "#!/bin/bash\necho \"${@: -1}\" $CUDA_VISIBLE_DEVICES $MINE; pwd; exit 7\n");
  fs::permissions(folder.path + "/bin/torchrun", fs::perms::owner_all);
  Setting setting{folder.path,
                  {"PATH=" + folder.path + "/bin:" + std::getenv("PATH"), "FLAGSCALE_ROOT=" + folder.path}};
  const Words words =
      foreign("train", folder.path + "/out", {"experiment.cmds.before_start='export MINE=1'"});
  const Result result = run(words, setting);
  EXPECT_EQ(result.code, 7) << result.err;
  EXPECT_EQ(result.out, "{\"split\": \"a b\", \"home\": \"$HOME\"} 0,1,2,3 1\n" + folder.path + "\n")
      << result.err;
  fs::remove(folder.path + "/flagscale/train/train_gpt.py");
  const Result refused = run(words, setting);
  EXPECT_EQ(refused.code, 1);
  EXPECT_NE(refused.err.find("there is no flagscale/train/train_gpt.py in " + folder.path), std::string::npos)
      << refused.err;
}

// Someone else's.
struct ListeningPort {
  ListeningPort() {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof address;
    EXPECT_EQ(bind(file, reinterpret_cast<sockaddr*>(&address), size), 0);
    EXPECT_EQ(listen(file, 8), 0);
    getsockname(file, reinterpret_cast<sockaddr*>(&address), &size);
    number = ntohs(address.sin_port);
  }
  ~ListeningPort() { close(file); }
  int file = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  int number = 0;
};

// Said before anything starts, in one line, whoever would have found it out and in whatever way.
TEST(Launch, APortThatIsTakenIsOneClearLine) {
  const TemporaryFolder folder;
  const ListeningPort taken;
  const std::string port = std::to_string(taken.number);
  for (const char* engine : {"torchrun", "vllm", "python"})
    folder.put(std::string("bin/") + engine, "#!/bin/bash\ntouch " + folder.path + "/started\n");
  for (const auto& file : fs::directory_iterator(folder.path + "/bin"))
    fs::permissions(file.path(), fs::perms::owner_all);
  folder.put("script.py", "");
  const std::string head = "experiment:\n  exp_name: taken\n  exp_dir: out\n  task: ";
  folder.put("conf/serve.yaml",
             head +
                 "{type: serve}\nserve: [{serve_id: vllm_model, engine: vllm, engine_args: "
                 "{model: /m, port: " +
                 port + "}}]\n");
  folder.put("conf/train.yaml", head +
                                    "{type: train, backend: megatron, entrypoint: script.py}\n  runner: "
                                    "{nproc_per_node: 1, master_port: " +
                                    port + "}\ntrain: {system: {}, model: {num_layers: 2}, data: {}}\n");
  folder.put("conf/native.yaml",
             head + "{type: train, backend: native}\n  runner: {nproc_per_node: 2, master_port: " + port +
                 "}\ntrain: {system: {}, model: {num_layers: 2}, data: {}}\n");
  const Setting setting{folder.path,
                        {"PATH=" + folder.path + "/bin:" + std::getenv("PATH"),
                         "FLAGSCALE_ROOT=" + folder.path, "XDG_STATE_HOME=" + folder.path + "/state"}};
  for (const auto& [name, more, key] :
       {std::tuple<const char*, Words, const char*>{"serve", {"--engine", "vllm"}, "deploy"},
        {"serve", {"--engine", "vllm", "--detach"}, "deploy"},
        {"serve", {"--detach"}, "deploy"},
        {"train", {"--engine", "yaml"}, "master"},
        {"native", {}, "master"},
        {"native", {"--detach"}, "master"}}) {
    Words words{"run", "--config-path", folder.path + "/conf", "--config-name", name};
    words.insert(words.end(), more.begin(), more.end());
    const Result refused = run(words, setting);
    EXPECT_EQ(refused.code, 1) << name;
    EXPECT_EQ(
        refused.err,
        "flagscale: error: port " + port +
            " is taken on this machine (`ss -ltnp` shows by whom): another one is ++experiment.runner." +
            key + (key == std::string("deploy") ? ".port=N\n" : "_port=N\n"))
        << name;
  }
  EXPECT_FALSE(fs::exists(folder.path + "/started"));
}

// FlagScale's table of tasks, runners and actions, in which several end in a Python exception.
TEST(Launch, EveryTaskKnowsEveryAction) {
  const TemporaryFolder folder;
  for (const char* engine : {"torchrun", "python", "python3"})
    folder.put(std::string("bin/") + engine, "#!/bin/bash\necho \"$(basename $0) ran ${@: -1}\"\n");
  for (const auto& file : fs::directory_iterator(folder.path + "/bin"))
    fs::permissions(file.path(), fs::perms::owner_all);
  folder.put("script.py", "");
  folder.put("flagscale/serve/run_inference_engine.py", "");
  const std::map<std::string, std::string> sections{
      {"train", "train: {system: {}, model: {num_layers: 2}, data: {}}"},
      {"inference", "inference: {llm: {model: /m}}"},
      {"serve", "serve: [{serve_id: vllm_model, engine: vllm, engine_args: {model: /m}}]"},
      {"compress", "compress: {system: {save_dir: null}}"},
      {"rl", "rl: {trainer: {nnodes: 1}}"}};
  for (const auto& [task, section] : sections)
    folder.put("conf/" + task + ".yaml",
               "experiment:\n  exp_name: tried\n  exp_dir: none\n  task: {type: " + task +
                   (task == "serve" || task == "rl" ? "" : ", entrypoint: script.py") +
                   "}\n  runner: {hostfile: null, deploy: {use_fs_serve: false}}\n" + section +
                   "\naction: run\n");
  const Setting setting{folder.path,
                        {"PATH=" + folder.path + "/bin:" + std::getenv("PATH"),
                         "FLAGSCALE_ROOT=" + folder.path, "XDG_STATE_HOME=" + folder.path + "/state"}};
  for (const std::string type : {"ssh", "cloud"})
    for (const auto& [task, section] : sections) {
      SCOPED_TRACE(task + " " + type);
      const auto action = [&](const std::string& name) {
        return run({"run", "--config-path", folder.path + "/conf", "--config-name", task, "--engine", "yaml",
                    "experiment.exp_dir=" + folder.path + "/" + type + "_" + task,
                    "+experiment.runner.type=" + type, "action=" + name},
                   setting);
      };
      const Result plan = action("dryrun");
      EXPECT_EQ(plan.code, 0) << plan.err;
      EXPECT_NE(plan.out.find("on localhost, in " + folder.path), std::string::npos) << plan.out;
      for (const char* name : {"run", "test"}) {
        const Result ran = action(name);
        EXPECT_EQ(ran.code, 0) << ran.err;
        EXPECT_NE(ran.out.find(" ran "), std::string::npos) << ran.out;
        EXPECT_EQ(ran.err, "");
      }
      for (const char* name : {"query", "stop"}) {
        const Result asked = action(name);
        EXPECT_EQ(asked.code, 0) << asked.err;
        EXPECT_NE(asked.out.find("tried completed"), std::string::npos) << asked.out;
      }
      const Result tuned = action("auto_tune");
      EXPECT_EQ(tuned.code, 1);
      EXPECT_NE(tuned.err.find("action is 'auto_tune': tuning is not there yet"), std::string::npos)
          << tuned.err;
    }
  const Result mine =  // a key of one's own is one where an interpolation reads it
      run({"run", "--config-path", folder.path + "/conf", "--config-name", "train", "--engine", "yaml",
           "experiment.exp_dir=" + folder.path + "/mine", "action=dryrun", "+experiment.my_layers=4",
           "train.model.num_layers=${experiment.my_layers}"},
          setting);
  EXPECT_EQ(mine.code, 0) << mine.err;
  EXPECT_NE(mine.out.find("--num-layers 4"), std::string::npos) << mine.out;
  const Result odd =
      run({"run", "--config-path", folder.path + "/conf", "--config-name", "train", "action=rnu"});
  EXPECT_NE(odd.code, 0);
  EXPECT_NE(odd.err.find("did you mean 'run'?"), std::string::npos) << odd.err;
  for (const auto& [override, said] :
       {std::pair{"+experiment.runer=1",
                  "experiment.runer is no key of an experiment; did you mean 'runner'?"},
        {"+experiment.my_layers=4", "experiment.my_layers is no key of an experiment"},
        {"+experiment.runner.hostfil=x", "did you mean 'hostfile'?"},
        {"+experiment.runner.type=shs",
         "experiment.runner.type is 'shs', expected one of local, openmpi, slurm, ssh, "
         "kubernetes, cloud; did you mean 'ssh'?"}}) {
    const Result refused = run({"run", "--config-path", folder.path + "/conf", "--config-name", "train",
                                "--engine", "yaml", "action=dryrun", override});
    EXPECT_EQ(refused.code, 2);
    EXPECT_NE(refused.err.find(said), std::string::npos) << refused.err;
  }
}

// Which is where runner.docker has the job run: here a docker that does so itself.
TEST(Launch, AContainerIsEntered) {
  const TemporaryFolder folder;
  folder.put("bin/docker",
             "#!/bin/bash\n[ \"$1 $2 $3\" = 'exec -i box' ] || exit 9\nshift 3\nIN_BOX=yes exec \"$@\"\n");
  folder.put("bin/torchrun", "#!/bin/bash\necho \"in the box: $IN_BOX\"\n");
  for (const auto& file : fs::directory_iterator(folder.path + "/bin"))
    fs::permissions(file.path(), fs::perms::owner_all);
  const Setting setting{folder.path, {"PATH=" + folder.path + "/bin:" + std::getenv("PATH")}};
  const auto in = [&](const std::string& container, const Words& more) {
    Words words = foreign("train", folder.path + "/out",
                          {"++experiment.runner.docker=" + container, "experiment.cmds.before_start=null"});
    words.insert(words.end(), more.begin(), more.end());
    return run(words, setting);
  };
  const Result ran = in("box", {});
  EXPECT_EQ(ran.code, 0) << ran.err;
  EXPECT_EQ(ran.out, "in the box: yes\n") << ran.err;
  const Result plan = in("box", {"action=dryrun"});
  EXPECT_NE(plan.out.find("# megatron on localhost, container box, in "), std::string::npos) << plan.out;
  const Json list = Json::parse(in("box", {"action=dryrun", "--json"}).out);
  EXPECT_EQ(list[0]["container"], "box");
  EXPECT_EQ(list[0]["argv"][0], "torchrun");
  const Result none = in("other", {});
  EXPECT_EQ(none.code, 1);
  EXPECT_EQ(none.out, "");
}

TEST(Launch, WhereOurEngineLacksSomethingItSaysWhatElseThereIs) {
  const TemporaryFolder folder;
  fs::create_directory(folder.path + "/tokenizer");
  fs::copy(FLAGSCALE_SOURCE_DIR "/tests/golden/text/gpt2.json", folder.path + "/tokenizer/tokenizer.json");
  const Words words{"run",
                    "--config-path",
                    FLAGSCALE_SOURCE_DIR "/examples/aquila/conf",
                    "--config-name",
                    "train",
                    "action=dryrun",
                    "data_path=none",
                    "tokenizer_path=" + folder.path + "/tokenizer",
                    "experiment.exp_dir=" + folder.path,
                    "experiment.task.backend=megatron",
                    "+experiment.runner.nproc_per_node=8"};
  const auto with = [&](const Words& more) {
    Words all = words;
    all.insert(all.end(), more.begin(), more.end());
    return run(all);
  };
  const Words layout{"train.system.tensor_model_parallel_size=2",
                     "+train.system.decoder_first_pipeline_num_layers=3"};
  const Result refused = with(layout);
  EXPECT_EQ(refused.code, 1);
  for (const char* part :
       {"train.system.tensor_model_parallel_size (a model on several ranks)",
        "--engine yaml` starts Megatron-LM",
        "overrides that train it in one process here: train.system.tensor_model_parallel_size=1 "
        "train.system.decoder_first_pipeline_num_layers=null"})
    EXPECT_NE(refused.err.find(part), std::string::npos) << part << " is not in:\n" << refused.err;
  Words fits = layout;
  fits.insert(fits.end(), {"train.system.tensor_model_parallel_size=1",
                           "++train.system.decoder_first_pipeline_num_layers=null"});
  const Result runs = with(fits);
  EXPECT_EQ(runs.code, 0) << runs.err;
  EXPECT_NE(runs.err.find("nproc_per_node is 8: one process trains here"), std::string::npos) << runs.err;

  folder.put("hosts", "a slots=8\nb slots=8\n");
  const Result hosts = with({"+experiment.runner.hostfile=" + folder.path + "/hosts"});
  EXPECT_EQ(hosts.code, 1);
  EXPECT_NE(hosts.err.find("names 2 hosts: this engine takes another backend's layout on one; "),
            std::string::npos)
      << hosts.err;
  const Result rl = run({"run", "--config-path", (kLaunchGolden / "conf").string(), "--config-name", "rl"});
  EXPECT_EQ(rl.code, 1);
  EXPECT_NE(rl.err.find("--engine yaml` starts verl"), std::string::npos) << rl.err;
}

TEST(Launch, AsFlagScalesRunner) {
  const fs::path golden = FLAGSCALE_SOURCE_DIR "/../shared/flagscale/golden";
  if (!fs::exists(golden / "check_commands.py"))
    GTEST_SKIP() << "../shared is not here: only our own cases were tried";
  const fs::path differences = kLaunchGolden / "differences.json";
  EXPECT_LE(read(differences).size(), 6u);
  const Result result = shell("python3 " + (golden / "check_commands.py").string() +
                              " " FLAGSCALE_PROGRAM " -v --differences " + differences.string());
  EXPECT_EQ(result.code, 0) << result.out << result.err;
  EXPECT_NE(result.out.find("\n4 different on purpose, 0 not comparable\n"), std::string::npos) << result.out;
}

}  // namespace
}  // namespace flagscale::e2e
