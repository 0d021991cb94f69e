#include "app/training.h"

#include <fmt/format.h>

#include <filesystem>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/log.h"
#include "config/show.h"
#include "engine/load.h"
#include "text/tokenizer.h"
#include "train/keys/train_keys.h"
#include "train/memory.h"
#include "train/trainer.h"

namespace flagscale {

namespace {

std::string text_at(const config::Composed& composed, const std::string& path, const std::string& otherwise) {
  const config::NodePtr value = composed.value(path);
  return value ? config::python_str(*value) : otherwise;
}

// The tokenizer says how many rows the vocabulary needs and which token ends a document.
std::unique_ptr<text::Tokenizer> tokenizer_of(const train::TokenizerKeys& keys) {
  if (keys.tokenizer_type.empty()) return nullptr;
  text::MegatronTokenizer spec;
  spec.type = keys.tokenizer_type;
  spec.vocab_file = keys.vocab_file, spec.merge_file = keys.merge_file, spec.special_tokens_file = keys.special_tokens_file;
  spec.tokenizer_model = keys.tokenizer_model, spec.tokenizer_path = keys.tokenizer_path;
  spec.vocab_size = keys.vocab_size.value_or(0);
  return text::load_megatron_tokenizer(spec);
}

train::TrainOptions options_for(const TrainingRequest& request, const config::Composed& composed) {
  const train::TrainReading reading = train::read_train_config(composed);
  for (const std::string& note : reading.notes) info("{}", note);
  if (!reading.ignored.empty()) info("ignored, for they change nothing here: {}", fmt::join(reading.ignored, ", "));
  const auto tokenizer = tokenizer_of(reading.config.tokenizer);
  train::TokenizerFacts facts;
  if (tokenizer) facts = {tokenizer->vocab_size(), tokenizer->eos()};
  train::TrainOptions options = train::train_options(reading.config, facts);
  const auto& keys = reading.config.tokenizer;
  for (const std::string* path : {&keys.tokenizer_path, &keys.tokenizer_model})
    if (!path->empty()) options.tokenizer = *path;
  if (options.tokenizer.empty() && !keys.vocab_file.empty())
    options.tokenizer = std::filesystem::path(keys.vocab_file).parent_path().string();
  if (!request.init_from.empty()) {
    const engine::LoadedModel source = engine::load_model(request.init_from);
    const int64_t positions = std::max(source.config.max_positions, options.seq_length);
    options.model = source.config;
    options.model.max_positions = positions;
    options.init_from = request.init_from;
    if (options.tokenizer.empty()) options.tokenizer = request.init_from;
  }
  options.config_text = config::to_yaml(composed.root());
  return options;
}

// What would run, planned and compared with the memory there is; nothing is allocated or written.
void dry_run(const train::TrainOptions& options) {
  train::validate(options);
  const train::StepOptions step = train::step_options(options);
  const train::TrainStep plan(options.model, step);
  fmt::print("{} iterations of {} samples of {} tokens, in micro-batches of {}\n", train::total_iterations(options),
             options.global_batch_size, options.seq_length, options.micro_batch_size);
  fmt::print("plan: {}\n", train::describe(plan.memory()));
  train::require_memory(options.model, step, plan.memory(), available_memory());
}

void print_result(const train::TrainResult& result, bool json) {
  if (json) {
    nlohmann::ordered_json out{{"iteration", result.iteration}, {"consumed_samples", result.consumed_samples}};
    if (result.lm_loss) out["lm_loss"] = *result.lm_loss;
    if (result.validation_loss) out["validation_loss"] = *result.validation_loss;
    if (!result.checkpoint.empty()) out["checkpoint"] = result.checkpoint;
    out["interrupted"] = result.interrupted;
    fmt::print("{}\n", out.dump());
  }
  if (!result.checkpoint.empty()) info("saved {} (iteration {})", result.checkpoint, result.iteration);
}

}  // namespace

void run_training(const TrainingRequest& request) {
  const config::Composed composed = config::compose(request.configuration);
  const std::string type = text_at(composed, "experiment.task.type", "train");
  if (type != "train")
    fail(ErrorKind::kUnsupported, "experiment.task.type is '{}': the native engine runs 'train' tasks in this version", type);
  const std::string action = request.action.empty() ? text_at(composed, "action", "run") : request.action;
  if (action != "run" && action != "dryrun" && action != "test")
    fail(ErrorKind::kUnsupported, "action is '{}': the native engine knows run, dryrun and test in this version", action);
  train::TrainOptions options = options_for(request, composed);
  if (action == "dryrun") return dry_run(options);
  if (action == "test") {  // a few iterations that leave nothing behind
    options.train_samples = 0;
    options.train_iters = std::min<int64_t>(train::total_iterations(options) > 0 ? train::total_iterations(options) : 5, 5);
    options.save.clear(), options.tensorboard_dir.clear();
    options.log_interval = 1;
    options.eval_iters = std::min<int64_t>(options.eval_iters, 1);
  }
  train::Trainer trainer(std::move(options));
  const train::TrainResult result = trainer.run(request.json ? stderr : stdout);
  print_result(result, request.json);
  if (result.interrupted)
    throw Error(ErrorKind::kInterrupted, fmt::format("stopped after iteration {}{}", result.iteration,
                result.checkpoint.empty() ? "; save is not set, so nothing was kept" : ", which is saved; the same command goes on from it"));
}

}  // namespace flagscale
