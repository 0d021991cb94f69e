#include "app/training.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <optional>

#include "app/launched.h"
#include "app/ranks.h"
#include "app/ways_on.h"
#include "base/does_not_fit.h"
#include "base/error.h"
#include "base/gib.h"
#include "base/log.h"
#include "base/nearest.h"
#include "base/transcript.h"
#include "config/resolve.h"
#include "config/show.h"
#include "data/blend.h"
#include "data/tokenizing.h"
#include "device/cuda/cuda.h"
#include "engine/load.h"
#include "io/tokenizer_files.h"
#include "launch/check_launch.h"
#include "train/keys/key_places.h"
#include "train/keys/train_keys.h"
#include "train/memory.h"
#include "train/trainer.h"

namespace flagscale {

std::string text_at(const config::Composed& composed, const std::string& path, const std::string& otherwise) {
  const config::NodePtr value = composed.value(path);
  return value ? config::python_str(*value) : otherwise;
}

namespace {

// The tokenizer says how many rows the vocabulary needs and which token ends a document. Null where no key
// names one.
std::shared_ptr<const text::Tokenizer> tokenizer_of(const train::TokenizerKeys& keys) {
  data::TokenizerChoice choice;
  choice.path = !keys.tokenizer_path.empty() ? keys.tokenizer_path : keys.tokenizer_model;
  choice.type = keys.tokenizer_type;
  choice.vocab_file = keys.vocab_file, choice.merge_file = keys.merge_file,
  choice.special_tokens_file = keys.special_tokens_file;
  choice.vocab_size = keys.vocab_size.value_or(0);
  if (choice.type.empty() && choice.path.empty()) return nullptr;
  return data::open_tokenizer(choice);
}

// Of the tokenizer that the keys name, else of the model to start from.
train::TokenizerFacts tokenizer_facts(const train::TokenizerKeys& keys, const engine::LoadedModel* source) {
  const auto named = tokenizer_of(keys);
  train::TokenizerFacts facts;
  if (named) facts = {named->vocab_size(), named->eos()};
  if (source == nullptr) return facts;
  const int64_t rows = source->config.vocab_size;
  if (facts.vocab_size > rows)
    fail(ErrorKind::kConfig,
         "the tokenizer has {} tokens, the embedding of {} has {} rows: give the model's own",
         facts.vocab_size, source->path, rows);
  if (!named) facts = {keys.vocab_size.value_or(rows), source->tokenizer ? source->tokenizer->eos() : -1};
  return facts;
}

train::TrainOptions options_for(const TrainingRequest& request, const config::Composed& composed,
                                const train::TrainReading& reading) {
  std::optional<engine::LoadedModel> source;
  if (reading.config.start) source = engine::load_model(reading.config.start->path);
  const auto facts = tokenizer_facts(reading.config.tokenizer, source ? &*source : nullptr);
  train::TrainOptions options = train::train_options(reading.config, facts, isa_of(request.device));
  const auto& keys = reading.config.tokenizer;
  for (const std::string* path : {&keys.tokenizer_path, &keys.tokenizer_model})
    if (!path->empty()) options.tokenizer = *path;
  if (options.tokenizer.empty() && !keys.vocab_file.empty())
    options.tokenizer = std::filesystem::path(keys.vocab_file).parent_path().string();
  if (source && source->tokenizer && options.tokenizer.empty())
    options.tokenizer =
        io::is_checkpoint(source->path) ? io::tokenizer_of(io::Checkpoint(source->path)) : source->path;
  options.device = request.device;
  options.config_text = config::to_yaml(composed.root());
  share_host(options);
  return options;
}

// What stops this rank stops the others, with its words.
template <class Work>
auto told_to(comm::ProcessGroup* ranks, Work work) {
  try {
    return work();
  } catch (const std::exception& error) {
    if (ranks != nullptr) ranks->abort(error.what());
    throw;
  }
}

// A plan may be made before its data.
void warn_of_missing_data(const data::DatasetOptions& options) {
  const auto warn_of = [](const std::vector<std::string>& list, const std::string& name) {
    for (const std::string& prefix : data::parse_blend(list, name).prefixes)
      if (!std::filesystem::exists(prefix + ".idx")) warn("{}: there is no {}.idx yet", name, prefix);
  };
  if (!options.data_path.empty()) warn_of(options.data_path, "data_path");
  for (size_t split = 0; split < data::kSplits; ++split)
    if (const auto& list = options.split_data_path[split]; !list.empty())
      warn_of(list, fmt::format("{}_data_path", data::name(static_cast<data::Split>(split))));
}

// What this engine lacks comes with what else there is.
template <class Work>
auto or_ways_on(const TrainingRequest& request, const config::Composed& composed, Work work) {
  try {
    return work();
  } catch (const Error& error) {
    if (error.kind() != ErrorKind::kUnsupported) throw;
    rethrow_with_ways_on(error, composed, request);
  }
}

// Throws DoesNotFit. What only ranks of this machine together do not find is a warning: a plan may be for
// another, which has a GPU for each.
void compare(const train::TrainOptions& options, const train::StepOptions& step, const train::MemoryUse& use,
             int ranks_of_host) {
  const auto ranks = static_cast<size_t>(ranks_of_host);
  const bool gpu = options.device == DeviceKind::kCuda;
  const size_t gpus = gpu ? cuda::found().gpus.size() : 1, of_gpu = (ranks + gpus - 1) / gpus;
  const size_t free = available_memory(options.device), each = free / of_gpu, host = available_memory();
  train::require_memory(options.model, step, use, use.total() > train::usable(step, free) ? each : free,
                        use.offloaded + use.staging > host ? host / ranks : host);
  if (const size_t usable = train::usable(step, each); use.total() > usable)
    warn("{} ranks share {} here, which has {} free for each, {} too little: this machine would not run them",
         of_gpu, gpu ? "a GPU" : "the memory", gib(each), gib(use.total() - usable));
  else if (const size_t there = use.offloaded + use.staging; there > host / ranks)
    warn(
        "{} ranks share the main memory here, which has {} free for each, {} too little for what is "
        "offloaded and for weights on their way",
        ranks, gib(host / ranks), gib(there - host / ranks));
}

// What would run, planned and compared with the memory there is; nothing is allocated or written.
// `planned`: ranks that share each global batch; the plan is of the first one.
void dry_run(const train::TrainOptions& options, PlannedRanks planned, bool json) {
  const int ranks = planned.all;
  train::validate(options, ranks);
  warn_of_missing_data(options.data);
  const train::StepOptions step = train::step_options(options, 0, ranks);
  train::require_weights(options.model, step, available_memory(options.device));
  train::TrainStep plan(options.model, step);
  const train::MemoryUse use = plan.memory();
  if (json) {
    const nlohmann::ordered_json memory{
        {"weights", use.weights},         {"gradients", use.gradients}, {"optimizer", use.optimizer},
        {"activations", use.activations}, {"inputs", use.inputs},       {"frozen", use.frozen},
        {"graphs", use.graphs},           {"total", use.total()},       {"offloaded", use.offloaded},
        {"staging", use.staging},         {"save_copies", use.copies}};
    const nlohmann::ordered_json out{{"iterations", train::total_iterations(options)},
                                     {"global_batch_size", options.global_batch_size},
                                     {"micro_batch_size", options.micro_batch_size},
                                     {"seq_length", options.seq_length},
                                     {"parameters", plan.decoder().parameters().numel()},
                                     {"trained_parameters", plan.trained_parameters()},
                                     {"precision", name(options.compute)},
                                     {"plan_bytes", memory}};
    fmt::print("{}\n", out.dump());
  } else {
    fmt::print("{} iterations of {} samples of {} tokens, in micro-batches of {}\n",
               train::total_iterations(options), options.global_batch_size, options.seq_length,
               options.micro_batch_size);
    fmt::print("plan{}: {}; {}\n", ranks > 1 ? fmt::format(" of each of {} ranks", ranks) : "",
               train::describe_parameters(plan), train::describe(use));
    const std::string host = train::describe_host(
        use, available_memory() / static_cast<size_t>(planned.of_host), !options.save.empty());
    if (!host.empty()) fmt::print("{}\n", host);
  }
  compare(options, step, use, planned.of_host);
}

void print_result(const train::TrainResult& result, bool json) {
  if (json) {
    nlohmann::ordered_json out{{"iteration", result.iteration},
                               {"consumed_samples", result.consumed_samples}};
    if (result.lm_loss) out["lm_loss"] = *result.lm_loss;
    if (result.validation_loss) out["validation_loss"] = *result.validation_loss;
    out["learnt_tokens"] = result.tokens.learnt, out["masked_tokens"] = result.tokens.masked;
    out["padding"] = result.tokens.padding;
    if (!result.checkpoint.empty()) out["checkpoint"] = result.checkpoint;
    out["interrupted"] = result.interrupted;
    say(stdout, "{}\n", out.dump());
  } else if (result.lm_loss) {  // log_interval may not divide the last iteration
    info("iteration {}: {} samples, lm loss {:.4f}", result.iteration, result.consumed_samples,
         *result.lm_loss);
  }
  if (!result.checkpoint.empty()) info("saved {} (iteration {})", result.checkpoint, result.iteration);
}

}  // namespace

std::string place_at(const config::Composed& composed, const std::string& path) {
  const config::NodePtr node = config::select_raw(composed.root(), path);
  const std::string place = node ? describe(node->origin) : "";
  return place.empty() ? path : place + ": " + path;
}

void check_action(const std::string& action, const std::string& place) {
  static const std::vector<std::string> kActions{"run", "dryrun", "test", "stop", "query"};
  if (std::find(kActions.begin(), kActions.end(), action) != kActions.end()) return;
  if (action == "auto_tune")
    fail(ErrorKind::kUnsupported,
         "{} is 'auto_tune': tuning is not there yet; action=dryrun plans this configuration, action=run "
         "runs it",
         place);
  const std::string near = nearest(action, kActions);
  fail(ErrorKind::kInvalidArgument, "{} is '{}', expected one of {}{}", place, action,
       fmt::join(kActions, ", "), near.empty() ? "" : "; did you mean '" + near + "'?");
}

std::string training_action(const config::Composed& composed, const std::string& given) {
  const std::string type = text_at(composed, "experiment.task.type", "train");
  if (type != "train")
    fail(ErrorKind::kUnsupported,
         "{} is '{}': this trains; `flagscale run` runs train, inference and serve tasks",
         place_at(composed, "experiment.task.type"), type);
  const std::string action = given.empty() ? text_at(composed, "action", "run") : given;
  const std::string place = given.empty() ? place_at(composed, "action") : "--action";
  check_action(action, place);
  if (action != "run" && action != "dryrun" && action != "test")
    fail(ErrorKind::kUnsupported, "{} is '{}': the native engine knows run, dryrun and test in this version",
         place, action);
  return action;
}

void check_training(const TrainingRequest& request) {
  const config::Composed composed = config::compose(request.configuration);
  const train::TrainOptions options = options_for(
      request, composed, train::read_train_config(composed, isa_of(request.device), request.init_from));
  train::validate(options);
  const train::StepOptions step = train::step_options(options);
  const size_t available = available_memory(options.device);
  train::require_weights(options.model, step, available);
  train::require_memory(options.model, step, train::TrainStep(options.model, step).memory(), available,
                        available_memory());
}

// What a launch reads is not used here, but a misspelt key of it is told as `run` tells it.
void run_training(const TrainingRequest& request) {
  const config::Composed composed = config::compose(request.configuration);
  launch::check_launch(launch::Experiment(composed, request.configuration.folder, true), composed);
  run_training(request, composed);
}

namespace {

void run_as_read(const TrainingRequest& request, const config::Composed& composed, const std::string& action,
                 const train::TrainReading& reading, comm::ProcessGroup* ranks) {
  train::TrainOptions options = told_to(ranks, [&] {
    return or_ways_on(request, composed, [&] { return options_for(request, composed, reading); });
  });
  if (action == "dryrun") return dry_run(options, planned_ranks(launch::Experiment(composed)), request.json);
  if (action == "test") {  // a few iterations that leave nothing behind
    options.train_samples = 0;
    options.train_iters =
        std::min<int64_t>(train::total_iterations(options) > 0 ? train::total_iterations(options) : 5, 5);
    options.save.clear(), options.load.clear(), options.tensorboard_dir.clear();
    options.log_interval = 1;
    options.eval_iters = std::min<int64_t>(options.eval_iters, 1);
  }
  const bool saves = !options.save.empty();
  train::Trainer trainer(std::move(options), ranks, request.begin);
  const train::TrainResult result = trainer.run(request.json ? stderr : stdout);
  const bool keeps = !ranks || ranks->rank() == 0;  // for all
  if (keeps) print_result(result, request.json);
  if (result.interrupted)
    throw Error(ErrorKind::kInterrupted,
                fmt::format("stopped after iteration {}{}", result.iteration,
                            !result.checkpoint.empty() ? ", which is saved; the same command goes on from it"
                            : !keeps                   ? "; rank 0 saves for all"
                            : saves                    ? ", before there was anything to save"
                                                       : "; save is not set, so nothing was kept"));
}

}  // namespace

void run_training(const TrainingRequest& request, const config::Composed& composed) {
  const std::string action = training_action(composed, request.action);
  const auto ranks =
      action == "dryrun" ? nullptr : join_ranks(text_at(composed, "experiment.exp_name", "train"));
  const train::TrainReading reading = told_to(ranks.get(), [&] {
    return or_ways_on(request, composed, [&] {
      if (!ranks) check_ranks(composed);  // else another launcher has placed this rank and the others
      return train::read_train_config(composed, isa_of(request.device), request.init_from);
    });
  });
  for (const std::string& note : reading.notes) info("{}", note);
  if (!reading.ignored.empty()) info("{}", reading.ignored_line());
  try {
    run_as_read(request, composed, action, reading, ranks.get());
  } catch (const DoesNotFit&) {
    throw;  // it names its keys
  } catch (const Error& error) {
    throw train::with_places(reading.config.places, error);
  }
}

}  // namespace flagscale
