// FlagScale's `inference` task on our engine.

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <nlohmann/json.hpp>

#include "app/served_engine.h"
#include "app/serving.h"
#include "base/error.h"
#include "base/interrupt.h"
#include "base/log.h"
#include "base/nearest.h"
#include "base/transcript.h"
#include "config/experiment_keys.h"
#include "config/resolve.h"
#include "config/show.h"
#include "serve/api_error.h"
#include "serve/generation/completion_plan.h"
#include "serve/service_files.h"

namespace flagscale {

namespace {

using config::NodePtr;
using Names = std::vector<std::string>;

struct Task {
  serve::ServiceConfig engine;
  std::vector<std::string> prompts;
  serve::CompletionRequest sampling;
};

std::string where(const NodePtr& node) {
  const std::string place = config::describe(node->origin);
  return place.empty() ? "" : place + ": ";
}

// A key that is in neither list is misspelt; what is understood but not done says so.
void check_keys(const NodePtr& map, const std::string& path, const Names& known, const Names& refused,
                const char* why) {
  if (map->kind != config::Kind::kMap) fail(ErrorKind::kConfig, "{}{} must be a mapping", where(map), path);
  for (const config::Entry& entry : map->entries) {
    const std::string& name = entry.key.text;
    if (std::ranges::find(known, name) != known.end()) continue;
    if (std::ranges::find(refused, name) != refused.end())
      fail(ErrorKind::kUnsupported, "{}{}.{}: {}", where(entry.value), path, name, why);
    Names all = known;
    all.insert(all.end(), refused.begin(), refused.end());
    const std::string near = nearest(name, all);
    fail(ErrorKind::kConfig, "{}there is no key '{}' in {}{}", where(entry.value), name, path,
         near.empty() ? "" : "; did you mean '" + near + "'?");
  }
}

// A string is one prompt, not a prompt a character.
std::vector<std::string> prompts_of(const NodePtr& node) {
  if (!node || node->kind == config::Kind::kNull)
    fail(ErrorKind::kConfig, "generate.prompts is missing: a text, or a list of texts");
  if (node->kind == config::Kind::kString) return {node->text};
  if (node->kind != config::Kind::kList || node->items.empty())
    fail(ErrorKind::kConfig, "{}generate.prompts must be a text, or a list of texts and not empty",
         where(node));
  std::vector<std::string> prompts;
  for (const NodePtr& raw : node->items) {
    const NodePtr item = config::resolve(raw);
    if (item->kind != config::Kind::kString)
      fail(ErrorKind::kConfig, "{}generate.prompts[{}] must be a text, got {}", where(raw), prompts.size(),
           config::name(item->kind));
    prompts.push_back(item->text);
  }
  return prompts;
}

serve::CompletionRequest sampling_of(const NodePtr& node) {
  static const Names kNotRead = {"detokenize", "spaces_between_special_tokens", "output_kind"};
  static const Names kKnown = [] {
    Names names = kNotRead;
    for (const std::string& name : serve::completion_fields().names()) names.push_back(name);
    std::erase_if(names, [](const std::string& name) {
      return name == "model" || name == "prompt" || name.starts_with("stream");
    });
    return names;
  }();
  nlohmann::ordered_json json = nlohmann::ordered_json::object();
  if (node && node->kind != config::Kind::kNull) {
    check_keys(node, "generate.sampling", kKnown, {"guidance_scale", "logits_processors"},
               "not done by this engine");
    json = nlohmann::ordered_json::parse(config::to_json(node));
  }
  for (const std::string& name : kNotRead) json.erase(name);
  json["prompt"] = " ";
  try {
    return serve::read_completion_request(json);
  } catch (const serve::ApiError& error) {
    fail(ErrorKind::kConfig, "generate.sampling: {}", error.what());
  }
}

Task read_task(const config::Composed& composed) {
  config::check_experiment(composed);
  const NodePtr inference = composed.value("inference");
  if (!inference || inference->kind != config::Kind::kMap)
    fail(ErrorKind::kConfig, "the configuration has no `inference`: nothing to do");
  if (inference->find({"engine"}))
    fail(ErrorKind::kUnsupported,
         "{}inference.engine is for image, video and robot models; this program runs text models "
         "(inference.llm)",
         where(inference->find({"engine"})));
  check_keys(inference, "inference", {"llm", "generate"}, {}, "");
  const NodePtr llm = composed.value("inference.llm"), generate = composed.value("inference.generate");
  if (!llm) fail(ErrorKind::kConfig, "inference.llm is missing: it names the model");
  if (!generate) fail(ErrorKind::kConfig, "inference.generate is missing: it has the prompts");
  if (const NodePtr vision = llm->kind == config::Kind::kMap ? llm->find({"vq_model"}) : nullptr)
    fail(ErrorKind::kUnsupported, "{}inference.llm.vq_model: this program runs text models, not image models",
         where(vision));
  check_keys(generate, "generate", {"prompts", "sampling"},
             {"images", "mode", "ratios", "negative_prompt", "height", "width"},
             "this program runs text models");
  Task task;
  task.engine.compute = "exact";           // as generate's
  task.engine.generation_config = "vllm";  // what the file says of sampling is all there is
  serve::read_arguments(serve::engine_keys(), llm, task.engine);
  if (task.engine.model.empty()) fail(ErrorKind::kConfig, "inference.llm.model is missing");
  task.prompts = prompts_of(composed.value("inference.generate.prompts"));
  task.sampling = sampling_of(composed.value("inference.generate.sampling"));
  for (const std::string& prompt : task.prompts) task.sampling.prompts.push_back({prompt, {}, false});
  task.sampling.prompts.erase(task.sampling.prompts.begin());
  return task;
}

// As many sequences at once as there are answers, and a cache no longer than what is asked needs: a token is
// seldom shorter than a byte.
void fit_engine(Task& task) {
  const int64_t answers =
      task.sampling.best_of.value_or(task.sampling.n) * static_cast<int64_t>(task.prompts.size());
  const DeviceKind device = choose_device(task.engine.device);
  task.engine.device = name(device);
  task.engine.max_num_seqs = std::clamp<int64_t>(answers, 1, most_sequences(task.engine, device));
  size_t longest = 0;
  for (const std::string& prompt : task.prompts) longest = std::max(longest, prompt.size());
  const int64_t tokens = static_cast<int64_t>(longest) + task.sampling.max_tokens.value_or(16);
  if (tokens < 1000) task.engine.default_length = 1024;
}

struct Outputs {
  std::vector<std::vector<int32_t>> ids;                  // of each choice
  std::vector<std::vector<engine::OutputToken>> prompts;  // log-probabilities of each request's
};

// A stop string ends a choice here; its request is cancelled once all its choices have ended.
Outputs compute(engine::Engine& engine, serve::GenerationPlan& plan) {
  const size_t each = plan.choices.size() / plan.requests.size();
  std::vector<uint64_t> ids;
  std::vector<size_t> enough;
  Outputs out;
  out.ids.resize(plan.choices.size());
  out.prompts.resize(plan.requests.size());
  for (size_t i = 0; i < plan.requests.size(); ++i)
    ids.push_back(engine.add(plan.requests[i], [&, i](const engine::Event& event) {
      const size_t at = i * each + static_cast<size_t>(event.choice);
      serve::Choice& choice = *plan.choices[at];
      if (!event.prompt.empty()) out.prompts[i] = event.prompt;
      if (choice.finished()) return;
      for (const engine::OutputToken& token : event.tokens) out.ids[at].push_back(token.id);
      choice.put(event);
      const auto first = plan.choices.begin() + static_cast<std::ptrdiff_t>(i * each);
      if (std::all_of(first, first + static_cast<std::ptrdiff_t>(each),
                      [](const auto& one) { return one->finished(); }))
        enough.push_back(i);
    }));
  while (engine.step()) {
    throw_if_interrupted();
    for (const size_t i : std::exchange(enough, {})) engine.cancel(ids[i]);
  }
  return out;
}

// Log-probabilities as /v1/completions has them, where the file asks for them.
void print_json(const Task& task, const text::Tokenizer& tokenizer, size_t request, serve::Choice& choice,
                const std::vector<int32_t>& ids, const std::vector<engine::OutputToken>& prompt) {
  nlohmann::ordered_json line{{"prompt", task.prompts[request]},
                              {"text", choice.take_delta().content},
                              {"token_ids", ids},
                              {"finish_reason", choice.finish_reason()}};
  if (task.sampling.logprobs)
    line["logprobs"] = nlohmann::ordered_json::parse(
        serve::completion_logprobs(tokenizer, choice.take_tokens(),
                                   {static_cast<int>(*task.sampling.logprobs), false}, choice.text_offset));
  if (task.sampling.prompt_logprobs)
    line["prompt_logprobs"] = nlohmann::ordered_json::parse(serve::prompt_logprobs(tokenizer, prompt));
  say(stdout, "{}\n", line.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace));
}

// The lines of FlagScale's flagscale/inference/inference_aquila.py.
void print_as_flagscale(const std::string& prompt, size_t index, serve::Choice& choice,
                        const std::vector<int32_t>& ids) {
  say(stdout, "{}\n", std::string(50, '*'));
  say(stdout, "output.prompt={}\n", config::python_repr(*config::Node::string(prompt)));
  say(stdout, "output.outputs[{}].text={}\n", index,
      config::python_repr(*config::Node::string(choice.take_delta().content)));
  say(stdout, "output.outputs[{}].token_ids=[{}]\n", index, fmt::join(ids, ", "));
}

void print_answers(const Task& task, const text::Tokenizer& tokenizer, serve::GenerationPlan& plan,
                   const Outputs& outputs, bool json) {
  const size_t each = plan.choices.size() / plan.requests.size();
  const size_t keep = plan.keep > 0 ? static_cast<size_t>(plan.keep) : each;
  for (size_t i = 0; i < plan.requests.size(); ++i) {
    std::vector<size_t> order(each);
    for (size_t k = 0; k < each; ++k) order[k] = i * each + k;
    if (keep < each)
      std::ranges::stable_sort(order, std::greater<>(), [&](size_t at) {
        return plan.choices[at]->cumulative_logprob() /
               static_cast<double>(std::max<int64_t>(plan.choices[at]->tokens(), 1));
      });
    for (size_t k = 0; k < keep; ++k) {
      serve::Choice& choice = *plan.choices[order[k]];
      if (choice.finish_reason() == "error")
        fail(ErrorKind::kInvalidArgument, "generate.prompts[{}]: {}", i, choice.error());
      if (json)
        print_json(task, tokenizer, i, choice, outputs.ids[order[k]], outputs.prompts[i]);
      else
        print_as_flagscale(task.prompts[i], k, choice, outputs.ids[order[k]]);
    }
  }
  if (!json) say(stdout, "{}\n", std::string(50, '#'));
}

serve::GenerationPlan plan_of(const Task& task, const serve::ServedModel& model) {
  try {
    serve::GenerationPlan plan = serve::completion_plan(model, task.engine.model, task.sampling);
    if (!task.sampling.seed)  // of the task: equal prompts draw differently
      for (size_t i = 0; i < plan.requests.size(); ++i)
        plan.requests[i].sampling.seed = static_cast<uint64_t>(task.engine.seed) + i;
    return plan;
  } catch (const serve::ApiError& error) {
    fail(ErrorKind::kInvalidArgument, "{}", error.what());
  }
}

}  // namespace

void check_serving_task(const config::Composed& composed, const std::string& type) {
  plans_only(composed, type);
  if (type == "serve")
    serve::read_serve_task(composed);
  else
    read_task(composed);
}

void run_inference(const config::Composed& composed, bool plan_only, bool json,
                   const std::function<void()>& begin) {
  const auto start = std::chrono::steady_clock::now();
  Task task = read_task(composed);
  fit_engine(task);
  if (plan_only) {
    const nlohmann::ordered_json out{{"model", task.engine.model}, {"prompts", task.prompts.size()}};
    if (json) return fmt::print("{}\n", out.dump());
    return fmt::print("would answer {} prompts with {}\n", task.prompts.size(), task.engine.model);
  }
  begin();
  ServedEngine loaded = load_served_engine(task.engine);
  const serve::ServedModel model = serve::describe_model(std::move(loaded.model), task.engine,
                                                         loaded.engine->runner().options().max_length);
  serve::GenerationPlan plan = plan_of(task, model);
  const Outputs outputs = compute(*loaded.engine, plan);
  print_answers(task, model.tokenizer(), plan, outputs, json);
  size_t tokens = 0;
  for (const auto& ids : outputs.ids) tokens += ids.size();
  info("{} prompts, {} tokens generated in {:.2f} s", plan.requests.size(), tokens,
       std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
}

}  // namespace flagscale
