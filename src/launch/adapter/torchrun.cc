#include "launch/adapter/torchrun.h"

#include <fmt/chrono.h>

#include <algorithm>
#include <chrono>
#include <map>

#include "base/error.h"
#include "base/log.h"
#include "launch/adapter/communication.h"
#include "launch/runner_keys.h"

namespace flagscale::launch {
namespace {

using config::Entry;
using config::Kind;
using config::Node;
using config::NodePtr;
using Names = std::vector<std::string>;

struct Options {
  std::vector<std::pair<std::string, std::string>> all;  // in order; "" for a flag alone
  void set(const std::string& key, const std::string& value) {
    const auto it = std::find_if(all.begin(), all.end(), [&](const auto& one) { return one.first == key; });
    if (it == all.end())
      all.emplace_back(key, value);
    else
      it->second = value;
  }
};

Options given_options(const NodePtr& runner) {
  Options options;
  for (const Entry& entry : runner->entries) {
    const Node& value = *entry.value;
    if (value.kind == Kind::kNull || !is_torchruns(entry)) continue;
    if (value.kind != Kind::kBool)
      options.set(entry.key.text, python_str(value));
    else if (value.flag)
      options.set(entry.key.text, "");
  }
  return options;
}

std::string time_name() {
  const auto now = std::chrono::system_clock::now().time_since_epoch();
  const auto seconds = std::chrono::duration_cast<std::chrono::seconds>(now);
  const auto rest = std::chrono::duration_cast<std::chrono::microseconds>(now - seconds);
  return fmt::format("{:%Y%m%d_%H%M%S}.{:06}", fmt::localtime(static_cast<std::time_t>(seconds.count())),
                     rest.count());
}

// What holds for all hosts.
struct Torchrun {
  const Experiment& e;
  const Placement& placement;
  NodePtr runner = e.map("experiment.runner");
  std::string backend = e.text("experiment.runner.backend", "torchrun");
  std::string id = e.text("experiment.runner.rdzv_id", "default");
  bool each_alone = e.flag("experiment.runner.per_node_task");
  std::filesystem::path details = {};
  std::string time = time_name();

  std::vector<std::string> command(const Place& place) const {
    const int rank = each_alone ? 0 : place.rank;
    const std::string master = each_alone ? "localhost" : placement.master;
    std::filesystem::path logs = details / host_name_of(e, rank, place.host) / time;
    if (backend != "torchrun") logs /= id;
    Options options = given_options(runner);
    options.set("rdzv_id", id);
    options.set("nnodes", std::to_string(each_alone ? 1 : placement.nodes));
    options.set("node_rank", std::to_string(rank));
    options.set("nproc_per_node", std::to_string(place.processes));
    options.set("rdzv_backend", e.text("experiment.runner.rdzv_backend", "c10d"));
    options.set("rdzv_endpoint",
                e.text("experiment.runner.rdzv_endpoint", fmt::format("{}:{}", master, placement.port)));
    options.set("log_dir", logs.string());
    for (const char* key : {"redirects", "tee"})
      options.set(key, e.text(std::string("experiment.runner.") + key, "3"));
    std::vector<std::string> argv{backend};
    for (const auto& [key, value] : options.all) {
      argv.push_back("--" + key);
      if (!value.empty()) argv.push_back(value);
    }
    return argv;
  }
};

// `--flag [values…]` in argv from `first` on: where it is, and where the next begins.
std::pair<size_t, size_t> find_flag(const Names& argv, size_t first, const std::string& flag) {
  const auto at = static_cast<size_t>(
      std::find(argv.begin() + static_cast<std::ptrdiff_t>(first), argv.end(), flag) - argv.begin());
  size_t end = std::min(at + 1, argv.size());
  while (end < argv.size() && !argv[end].starts_with("--")) ++end;
  return {at, end};
}

void set_flag(Names& argv, size_t first, const std::string& flag, const Names& values, bool present) {
  const auto [at, end] = find_flag(argv, first, flag);
  argv.erase(argv.begin() + static_cast<std::ptrdiff_t>(at), argv.begin() + static_cast<std::ptrdiff_t>(end));
  if (!present) return;
  Names flags{flag};
  flags.insert(flags.end(), values.begin(), values.end());
  argv.insert(argv.begin() + static_cast<std::ptrdiff_t>(at), flags.begin(), flags.end());
}

// What the top level says for this host's type and for itself: true and false, in quotes or not, put a flag
// in or take it out; another value is the flag's.
void apply_settings(const Node& settings, size_t first, Names& argv) {
  for (const Entry& entry : settings.entries) {
    if (entry.key.text == "build_dir" || entry.value->kind == Kind::kNull) continue;
    std::string flag = "--" + entry.key.text;
    std::replace(flag.begin(), flag.end(), '_', '-');
    std::string text = python_str(*entry.value), lower = text;
    std::transform(text.begin(), text.end(), lower.begin(), [](unsigned char c) { return std::tolower(c); });
    Names values;
    if (entry.value->kind == Kind::kList)
      for (const NodePtr& item : entry.value->items) values.push_back(python_str(*item));
    else if (lower != "true" && lower != "false")
      values.push_back(text);
    set_flag(argv, first, flag, values, lower != "false");
  }
}

// Each host by itself needs no common library; nor where FlagScale's ranks meet over the processors.
void tell_communication(const Experiment& e, const Placement& placement) {
  if (e.flag("experiment.runner.per_node_task") || e.flag("train.system.hetero.hetero_use_cpu_communication"))
    return;
  std::vector<Host> hosts;
  for (const Place& place : placement.places) hosts.push_back(place.host);
  for (const std::string& line : communication_warnings(hosts, e.text("train.system.distributed_backend")))
    warn("{}", line);
}

std::string text_of(const Node& train, const char* section, const char* key) {
  return python_str(*train.find({"system"})->find({section})->find({key}));
}

}  // namespace

void fill_torchrun(const Experiment& e, const Placement& placement, const Node& train, const Names& arguments,
                   Job& job) {
  const std::string script = e.text("experiment.task.entrypoint");
  if (script.empty())
    fail(ErrorKind::kConfig,
         "required value experiment.task.entrypoint is not set: the script that torchrun starts");
  Torchrun torchrun{e, placement};
  tell_communication(e, placement);
  const std::string details = e.text("experiment.runner.log_dir");
  torchrun.details = details.empty() ? job.log / "details" : absolute_path(details);
  for (const auto& [section, key] : {std::pair{"checkpoint", "load"},
                                     {"checkpoint", "save"},
                                     {"logging", "tensorboard_dir"},
                                     {"logging", "wandb_save_dir"}})
    if (const std::filesystem::path folder = text_of(train, section, key); folder != job.folders.back())
      job.folders.push_back(folder);
  job.folders.push_back(torchrun.details);
  job.mends_itself = true;
  if (e.text("experiment.runner.rdzv_endpoint").empty()) job.meeting_port = given_port(e);
  for (const Place& place : placement.places) {
    NodeTask task = node_task(e, place, job, script, {"third_party/Megatron-LM", ""});
    Names& argv = task.command.argv = torchrun.command(place);
    argv.push_back(script);
    const size_t first = argv.size();
    argv.insert(argv.end(), arguments.begin(), arguments.end());
    if (!place.host.type.empty())
      set_flag(argv, first, "--hetero-current-device-type", {place.host.type}, true);
    apply_settings(*place.settings, first, argv);
    job.nodes.push_back(std::move(task));
  }
}

}  // namespace flagscale::launch
