#include <fmt/core.h>

#include <CLI/CLI.hpp>
#include <cerrno>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <memory>
#include <span>
#include <sstream>

#include "app/command.h"
#include "app/engine_options.h"
#include "base/error.h"
#include "base/text_encoding.h"
#include "engine/prompts.h"

namespace flagscale::score_command {
namespace {

struct Options {
  EngineOptions engine;
  std::string text;
  bool second_half = false;
};

struct Texts {
  std::vector<std::vector<int32_t>> ids;
  std::vector<std::string> places;
  size_t skip = 0;  // of each text's tokens after the first, those that do not count
};

std::vector<int32_t> tokens_of(const std::string& text, const std::string& file,
                               const text::Tokenizer& tokenizer) {
  try {
    return tokenizer.encode(text, true);
  } catch (const Error& error) {  // its text is not UTF-8
    fail(error.kind(), "{}: {}", file, error.what());
  }
}

// The tokens of a text file in pieces of at most `length`: each piece is scored on its own.
std::vector<std::vector<int32_t>> pieces_of(const std::string& file, const text::Tokenizer& tokenizer,
                                            int64_t length) {
  if (std::filesystem::is_directory(file))
    fail(ErrorKind::kInvalidArgument, "--text {} is a folder: name a text file", file);
  std::ifstream in(file, std::ios::binary);
  if (!in) fail(ErrorKind::kNotFound, "cannot read {}: {}", file, std::strerror(errno));
  std::ostringstream text;
  text << in.rdbuf();
  refuse_file_of_other_encoding(file);
  const std::vector<int32_t> ids = tokens_of(text.str(), file, tokenizer);
  std::vector<std::vector<int32_t>> pieces;
  for (size_t first = 0; first < ids.size(); first += static_cast<size_t>(length))
    pieces.emplace_back(
        ids.begin() + static_cast<std::ptrdiff_t>(first),
        ids.begin() + static_cast<std::ptrdiff_t>(std::min(ids.size(), first + static_cast<size_t>(length))));
  if (pieces.empty()) fail(ErrorKind::kInvalidArgument, "{} is empty", file);
  return pieces;
}

Texts texts_of_file(const Options& o, const engine::LoadedModel& model) {
  const int64_t length = std::min<int64_t>(model.config.max_positions,
                                           o.engine.max_model_len > 0 ? o.engine.max_model_len : 2048);
  Texts texts{pieces_of(o.text, *model.tokenizer, length), {}, 0};
  auto& pieces = texts.ids;
  if (o.second_half && pieces.size() > 1 && std::ssize(pieces.back()) < length) pieces.pop_back();
  if (o.second_half) texts.skip = static_cast<size_t>(length / 2);
  texts.places.resize(pieces.size(), o.text);
  const size_t longest = pieces[0].size();
  if (longest <= texts.skip + 1)
    fail(ErrorKind::kInvalidArgument,
         "nothing to score: {} has {} token{}, and those after the first {} count", o.text, longest,
         longest == 1 ? "" : "s", texts.skip + 1);
  return texts;
}

Texts texts_of(const Options& o, const engine::LoadedModel& model) {
  if (!o.text.empty()) return texts_of_file(o, model);
  Texts texts;
  for (const engine::Prompt& prompt : engine::read_prompts(o.engine.prompts)) {
    texts.ids.push_back(engine::encode(prompt, *model.tokenizer));
    texts.places.push_back(prompt.where);
  }
  return texts;
}

void print_total(std::span<const engine::Answer> answers, bool json, size_t skip = 0) {
  double sum = 0;
  size_t count = 0;
  for (const engine::Answer& answer : answers)
    for (size_t i = skip; i < answer.prompt.size(); ++i, ++count)
      sum += static_cast<double>(answer.prompt[i].logprob);
  if (count == 0) return fmt::print("0 tokens scored: the first has no score\n");  // of --prompts alone
  const double loss = -sum / static_cast<double>(count);
  if (json)
    fmt::print("{{\"tokens\": {}, \"loss\": {}, \"perplexity\": {}}}\n", count, loss, std::exp(loss));
  else
    fmt::print("{} tokens scored: {:.4f} nats a token, perplexity {:.3f}\n", count, loss, std::exp(loss));
}

void score(const Options& o) {
  if (o.text.empty() == o.engine.prompts.empty())
    fail(ErrorKind::kInvalidArgument, "give one of --text FILE and --prompts FILE.jsonl");
  const engine::LoadedModel model = open_model(o.engine);
  const auto [texts, places, skip] = texts_of(o, model);
  size_t longest = 0;
  for (const auto& ids : texts) longest = std::max(longest, ids.size());
  const auto engine =
      make_engine(model, o.engine, static_cast<int64_t>(longest), static_cast<int64_t>(texts.size()), true);
  std::vector<engine::Answer> answers(texts.size());
  for (size_t i = 0; i < texts.size(); ++i) {
    engine::Request request;
    request.prompt = texts[i];
    request.adapter = o.engine.lora;
    request.sampling.max_tokens = 0;
    request.sampling.prompt_logprobs = 0;
    add_request(*engine, std::move(request), engine::gather_into(answers[i]), places[i]);
  }
  run_engine(*engine);
  for (size_t i = 0; i < texts.size(); ++i) require_answer(answers[i], model, places[i]);
  if (!o.text.empty()) return print_total(answers, o.engine.json, skip);
  for (size_t i = 0; i < texts.size(); ++i) {
    if (o.engine.json)
      fmt::print("{}\n", engine::scored_json(texts[i], answers[i]));
    else
      print_total({&answers[i], 1}, false);
  }
}

void setup(CLI::App& app) {
  const auto o = std::make_shared<Options>();
  add_engine_options(app, o->engine);
  app.add_option("--lora", o->engine.lora, "folder of a PEFT adapter to apply");
  app.add_option("--text", o->text, "a text file, scored in pieces of --max-model-len (at most 2048) tokens");
  app.add_flag("--second-half", o->second_half,
               "of each whole piece of --text count the second half alone, as llama-perplexity does");
  app.footer(
      "Examples:\n  flagscale score outputs/hf --text book.txt\n  flagscale score SmolLM2.gguf --prompts "
      "prompts.jsonl --json");
  app.callback([o] { score(*o); });
}

const Registration<Command> kScore{"score",
                                   {"log-probabilities and perplexity of texts under a model", &setup}};

}  // namespace
}  // namespace flagscale::score_command
