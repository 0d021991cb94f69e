#include <CLI/CLI.hpp>
#include <functional>
#include <memory>
#include <nlohmann/json.hpp>

#include "app/command.h"
#include "app/job.h"
#include "app/launched.h"
#include "app/model_argument.h"
#include "app/served_engine.h"
#include "app/serving.h"
#include "app/submitted.h"
#include "app/training.h"
#include "app/ways_on.h"
#include "base/error.h"
#include "base/gib.h"
#include "base/log.h"
#include "config/experiment_keys.h"
#include "hub/settings.h"
#include "launch/adapter.h"
#include "launch/experiment.h"
#include "launch/launcher/launcher.h"
#include "launch/runner_keys.h"
#include "serve/service_files.h"

namespace flagscale {

bool plans_only(const config::Composed& composed, const std::string& type) {
  const std::string action = text_at(composed, "action", "run");
  if (action != "run" && action != "dryrun" && action != "test")  // a test is a run, as with FlagScale
    fail(ErrorKind::kUnsupported, "action is '{}': {} tasks know run, dryrun and test; give action=run",
         action, type);
  return action == "dryrun";
}

std::string task_type(const config::Composed& composed) {
  return text_at(composed, "experiment.task.type", "train");
}

}  // namespace flagscale

namespace flagscale::run_command {
namespace {

using Begin = std::function<void()>;

void run_service(const config::Composed& composed, bool json, const Begin& begin) {
  const serve::ServiceConfig config = serve::read_serve_task(composed);
  if (!plans_only(composed, "serve")) {
    begin();
    return serve_model(config);
  }
  nlohmann::ordered_json out{{"model", config.model}, {"host", config.host}, {"port", config.port}};
  std::string needs;
  if (is_model_path(config.model)) {
    const ServedPlan plan = plan_served_engine(config);
    out["device"] = name(plan.device), out["memory_bytes"] = plan.bytes, out["cache_tokens"] = plan.capacity;
    needs = fmt::format(": {} for weights, a step and a cache of {} tokens, {} has {} free", gib(plan.bytes),
                        plan.capacity, plan.device == DeviceKind::kCuda ? "the GPU" : "this machine",
                        gib(plan.available));
  } else if (!config.model.empty() && example_conf(config.model).empty() && !hub::is_model_id(config.model)) {
    warn("model: there is no {} yet", config.model);  // as a training's plan may be made before its data
  }
  if (json) return fmt::print("{}\n", out.dump());
  fmt::print("would serve {} on {}:{}{}\n", config.model, config.host, config.port, needs);
}

void run_other(const config::Composed& composed, const std::string& type, bool json, const Begin& begin) {
  if (type == "inference") return run_inference(composed, plans_only(composed, type), json, begin);
  if (type == "serve") return run_service(composed, json, begin);
  fail(ErrorKind::kUnsupported,
       "experiment.task.type is '{}': this program runs train, inference and serve tasks", type);
}

struct Request : TrainingRequest {
  std::string engine, on_hang, on = "auto";
  bool detach = false;
};

void run_own(Request request, const config::Composed& composed, const std::string& type, const Begin& begin) {
  if (type == "train") {
    request.device = choose_device(request.on);
    request.begin = begin;
    return run_training(request, composed);
  }
  try {
    run_other(composed, type, request.json, begin);
  } catch (const Error& error) {
    if (error.kind() != ErrorKind::kUnsupported) throw;
    rethrow_with_ways_on(error, composed, request);
  }
}

void run(Request request) {
  for (std::string& word : request.configuration.overrides)  // of a YAML without an action too
    if (word.starts_with("action=")) word.insert(0, "++");
  // As an override it goes wherever the configuration does: to a batch system, into the record.
  if (!request.on_hang.empty())
    request.configuration.overrides.push_back("++experiment.supervision.on_hang=" + request.on_hang);
  const config::Composed composed = config::compose(request.configuration);
  const std::string action = text_at(composed, "action", "run");
  check_action(action, place_at(composed, "action"));
  const launch::Experiment experiment(composed, request.configuration.folder, action == "dryrun");
  if (look_after_submitted(experiment, request.json)) return;
  launch::check_runner_type(experiment.text("experiment.runner.type", "ssh"),
                            experiment.place("experiment.runner.type"));
  const std::string engine = launch::engine_of(experiment, request.engine), type = task_type(composed);
  if (request.on != "auto" && (engine != "native" || type != "train"))
    fail(ErrorKind::kInvalidArgument, "--device is of this program's own trainings: leave it away");
  if (engine != "native")
    config::check_experiment(composed);  // a task of our own does so where it is read
  else
    launch::check_runner_keys(*experiment.map("experiment.runner"), experiment);
  if (run_submitted({request.configuration, experiment, request.engine, request.on, request.detach})) return;
  const LaunchRequest launched{composed,   request.configuration, experiment,  engine,
                               request.on, request.detach,        request.json};
  if (run_launched(launched)) return;
  if (engine != "native") return run_foreign(experiment, engine, request.json);
  run_here(launched, [&](const Begin& begin) { run_own(request, composed, type, begin); });
}

void setup(CLI::App& app) {
  const auto request = std::make_shared<Request>();
  app.add_option("--config-path", request->configuration.folder, "folder of the configuration")->required();
  app.add_option("--config-name", request->configuration.name, "file in it, without .yaml")->required();
  app.add_option("overrides", request->configuration.overrides, "key=value, +key=value, ~key, group=option");
  app.add_option("--engine", request->engine,
                 "native (this program), yaml (the engine that the YAML names), or a foreign engine's name");
  app.add_option("--device", request->on, "of a training: auto (a GPU where there is one), cpu or cuda")
      ->capture_default_str()
      ->check(CLI::IsMember({"auto", "cpu", "cuda"}));
  app.add_flag("--detach", request->detach,
               "leave it running in the background (flagscale ps, logs, attach, stop)");
  app.add_option(
         "--on-hang", request->on_hang,
         "of a rank that no longer gets on: report its stack and the others' (the default), or restart")
      ->check(CLI::IsMember({"report", "restart"}));
  app.add_flag("--json", request->json, "results as JSON objects; log lines go to stderr");
  app.footer(
      "Examples:\n  flagscale run --config-path examples/aquila/conf --config-name train action=dryrun\n"
      "  flagscale run --config-path examples/aquila/conf --config-name train data_path=data/text_document "
      "tokenizer_path=data/tokenizer\n"
      "  flagscale run --config-path examples/smollm2/conf --config-name inference\n"
      "  flagscale run --config-path examples/smollm2/conf --config-name serve "
      "serve.0.engine_args.model=models/Qwen3-8B\n"
      "  flagscale run --config-path FlagScale/examples/aquila/conf --config-name train --engine yaml "
      "action=dryrun");
  app.callback([request] { run(*request); });
}

const Registration<Command> kRun{"run",
                                 {"run a FlagScale configuration, on this engine or a foreign one; "
                                  "action=run, dryrun, test, query or stop",
                                  &setup}};

}  // namespace
}  // namespace flagscale::run_command
