#include <fmt/core.h>

#include <CLI/CLI.hpp>
#include <memory>

#include "app/command.h"
#include "app/engine_options.h"
#include "app/numbers.h"
#include "base/error.h"
#include "engine/prompts.h"

namespace flagscale::generate_command {
namespace {

struct Options {
  EngineOptions engine;
  engine::SamplingParams sampling;
  std::string prompt, message, system;
};

std::vector<engine::Prompt> prompts_of(const Options& o, const CLI::App& app) {
  const size_t lines = app.count("--prompts"), message = app.count("--chat");
  if (lines + message + app.count("--prompt") != 1)
    fail(ErrorKind::kInvalidArgument, "give one of --prompt TEXT, --chat TEXT and --prompts FILE.jsonl");
  if (lines > 0) return engine::read_prompts(o.engine.prompts);
  if (message > 0) return {engine::chat_prompt(o.message, o.system)};
  return {{o.prompt, {}, "--prompt"}};
}

// Prints a single answer as it comes; how it ended.
engine::Answer stream(engine::Engine& engine, const text::Tokenizer& tokenizer, engine::Request request,
                      const std::string& where) {
  text::StreamDecoder decoder(tokenizer, request.prompt);
  engine::Answer end;
  const auto print = [&](engine::Event event) {
    if (event.stop_id >= 0) event.tokens.pop_back();
    for (const engine::OutputToken& token : event.tokens) fmt::print("{}", decoder.put(token.id));
    std::fflush(stdout);
    engine::gather(end, std::move(event));
  };
  add_request(engine, std::move(request), print, where);
  run_engine(engine);
  fmt::print("{}\n", decoder.finish());
  return end;
}

void generate(const Options& o, const std::vector<engine::Prompt>& prompts) {
  const engine::LoadedModel model = open_model(o.engine);
  std::vector<engine::Request> requests;
  size_t longest = 0;
  for (const engine::Prompt& prompt : prompts) {
    requests.emplace_back();
    requests.back().prompt = engine::encode(prompt, *model.tokenizer);
    requests.back().sampling = o.sampling;
    requests.back().sampling.stop_ids = model.stop_ids;
    requests.back().adapter = o.engine.lora;
    longest = std::max(longest, requests.back().prompt.size());
  }
  const auto engine = make_engine(model, o.engine, static_cast<int64_t>(longest) + o.sampling.max_tokens,
                                  static_cast<int64_t>(requests.size()));
  if (requests.size() == 1 && !o.engine.json) {
    const std::string& where = prompts[0].where;
    return require_answer(stream(*engine, *model.tokenizer, std::move(requests[0]), where), model, where);
  }
  std::vector<engine::Answer> answers(requests.size());
  for (size_t i = 0; i < requests.size(); ++i)
    add_request(*engine, requests[i], engine::gather_into(answers[i]), prompts[i].where);
  run_engine(*engine);
  for (size_t i = 0; i < requests.size(); ++i) {
    require_answer(answers[i], model, prompts[i].where);
    fmt::print("{}\n", o.engine.json
                           ? engine::generated_json(requests[i].prompt, answers[i], *model.tokenizer)
                           : engine::output_text(answers[i], *model.tokenizer));
  }
}

void setup(CLI::App& app) {
  const auto o = std::make_shared<Options>();
  o->sampling.max_tokens = 128;
  add_engine_options(app, o->engine);
  app.add_option("--prompt", o->prompt, "a text to continue");
  app.add_option("--chat", o->message, "a user's message, through the model's chat template");
  app.add_option("--system", o->system, "a system message before --chat");
  app.add_option("--lora", o->engine.lora, "folder of a PEFT adapter to apply");
  app.add_option("--max-tokens", o->sampling.max_tokens, "tokens to generate at most")
      ->check(between(1, 1 << 20))
      ->capture_default_str();
  app.add_option("--temperature", o->sampling.temperature, "0: always the likeliest token")
      ->check(between(0.f, 100.f))
      ->capture_default_str();
  app.add_option("--top-k", o->sampling.top_k, "draw from the k likeliest; 0: all")
      ->check(between(0, 1 << 24))
      ->capture_default_str();
  app.add_option("--top-p", o->sampling.top_p, "draw from the likeliest that hold this share")
      ->check(between(1e-6f, 1.f))
      ->capture_default_str();
  app.add_option("--min-p", o->sampling.min_p, "drop what is less likely than this share of the likeliest")
      ->check(between(0.f, 1.f))
      ->capture_default_str();
  app.add_option("--seed", o->sampling.seed, "of the draws")->capture_default_str();
  app.footer(
      "Examples:\n  flagscale generate SmolLM2.gguf --chat 'What is the capital of France?' --temperature 0\n"
      "  flagscale generate outputs/hf --prompts prompts.jsonl --max-tokens 32 --temperature 0 --json");
  app.callback([o, &app] { generate(*o, prompts_of(*o, app)); });
}

const Registration<Command> kGenerate{"generate",
                                      {"continue prompts or answer messages with a model", &setup}};

}  // namespace
}  // namespace flagscale::generate_command
