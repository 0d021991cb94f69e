#include "serve/request/sampling_request.h"

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <random>
#include <sstream>

#include "serve/api_error.h"
#include "serve/request/chat_request.h"
#include "serve/request/completion_request.h"
#include "serve/request/grammar_fields.h"

namespace flagscale::serve {

namespace {

constexpr size_t kMostStops = 64, kLongestStop = 1024, kMostIds = 4096;

std::vector<std::string> read_stops(const std::string& name, const Json& value) {
  auto stops = read_strings(name, value, kMostStops);
  for (const std::string& stop : stops) {
    if (stop.empty()) refuse(name, "{} must not have an empty string", name);
    if (stop.size() > kLongestStop)
      throw ApiError(
          422, fmt::format("a stop string has {} bytes, at most {} are allowed", stop.size(), kLongestStop),
          name);
  }
  return stops;
}

std::vector<std::pair<int32_t, float>> read_bias(const std::string& name, const Json& value) {
  if (!value.is_object()) refuse(name, "{} must be an object of token ids and numbers", name);
  std::vector<std::pair<int32_t, float>> result;
  for (const auto& [key, bias] : value.items()) {
    if (key.empty() || key.size() > 9 || key.find_first_not_of("0123456789") != std::string::npos)
      refuse(name, "{}: '{}' is not a token id", name, key.substr(0, 64));
    result.emplace_back(std::stoi(key),
                        static_cast<float>(read_number(name, bias, {.least = -100, .most = 100})));
  }
  return result;
}

template <class Target>
void add_output_fields(Fields<Target>& fields) {
  using Request = Target;
  fields.flag("stream", &Request::stream, "the answer in pieces, as server-sent events");
  fields.add(
      "stream_options",
      R"({"type":["object","null"],"properties":{"include_usage":{"type":["boolean","null"]},"continuous_usage_stats":{"type":["boolean","null"]}}})",
      "usage in a last chunk, or in every one",
      [](Target& target, const std::string& name, const Json& value) {
        if (!value.is_object()) refuse(name, "{} must be an object", name);
        const auto flag = [&](const char* key) {
          const auto it = value.find(key);
          return it != value.end() && !it->is_null() && read_bool(name + "." + key, *it);
        };
        target.include_usage = flag("include_usage");
        target.continuous_usage = flag("continuous_usage_stats");
      });
  fields.flag("skip_special_tokens", &Request::skip_special_tokens, "leave special tokens out of the text");
  fields.flag("return_tokens_as_token_ids", &Request::return_tokens_as_token_ids,
              "tokens in log-probabilities as \"token_id:17\"");
  fields.add(
      "response_format",
      R"({"type":["object","null"],"properties":{"type":{"type":"string"},"json_schema":{"type":["object","null"]}},"required":["type"]})",
      "text, json_object, or json_schema with a schema",
      [](Target& target, const std::string& name, const Json& value) {
        set_grammar(target, read_response_format(name, value), name);
      });
  fields.add("structured_outputs", R"({"type":["object","null"]})",
             "vLLM's: one of json, regex, choice, grammar, json_object",
             [](Target& target, const std::string& name, const Json& value) {
               set_grammar(target, read_structured_outputs(name, value), name);
             });
  const auto guided = [&](const char* name, const char* schema, const char* doc,
                          engine::Grammar (*read)(const std::string&, const Json&)) {
    fields.add(name, schema, doc, [read](Target& target, const std::string& field, const Json& value) {
      set_grammar(target, read(field, value), field);
    });
  };
  guided("guided_json", R"({"type":["object","string","null"]})", "the output obeys this JSON schema",
         &json_grammar);
  guided("guided_regex", R"({"type":["string","null"]})", "the output matches this expression",
         &regex_grammar);
  guided("guided_choice", R"({"type":["array","null"],"items":{"type":"string"}})",
         "the output is one of these", &choice_grammar);
  guided("guided_grammar", R"({"type":["string","null"]})", "the output obeys this Lark grammar",
         &lark_grammar);
}

template <class Target>
void add_stop_fields(Fields<Target>& fields) {
  using Request = Target;
  fields.integer("min_tokens", &Request::min_tokens, {.least = 0},
                 "generate at least as many before a stop counts");
  fields.add("stop", R"({"type":["string","array","null"],"items":{"type":"string"}})",
             "texts that end the output", [](Target& target, const std::string& name, const Json& value) {
               target.stop = read_stops(name, value);
             });
  fields.add("stop_token_ids", R"({"type":["array","null"],"items":{"type":"integer","minimum":0}})",
             "tokens that end the output", [](Target& target, const std::string& name, const Json& value) {
               target.stop_token_ids = read_ids(name, value, kMostIds);
             });
  fields.flag("include_stop_str_in_output", &Request::include_stop_str_in_output,
              "keep the stop string in the text");
  fields.flag("ignore_eos", &Request::ignore_eos, "go on past the end-of-sequence token");
}

// Of what fits in float: the engine refuses the rest.
constexpr Range kTemperature{.least = 0, .most = 1e6}, kTopP{.least = 1e-9, .most = 1},
    kRepetition{.least = 1e-6, .most = 1e6};

}  // namespace

template <class Target>
void add_sampling_fields(Fields<Target>& fields) {
  using Request = Target;
  fields.text("model", &Request::model, "a name of /v1/models; the served one where none is given");
  fields.integer("n", &Request::n, {.least = 1}, "how many answers");
  fields.integer("seed", &Request::seed, {}, "of the draws: the same seed draws the same");
  fields.number("temperature", &Request::temperature, kTemperature, "0: always the likeliest token");
  fields.number("top_p", &Request::top_p, kTopP, "draw from the likeliest that hold this share");
  fields.integer("top_k", &Request::top_k, {.least = -1, .most = 2147483647},
                 "draw from the k likeliest; 0 or -1: from all");
  fields.number("min_p", &Request::min_p, {.least = 0, .most = 1},
                "drop what is less likely than this share of the likeliest");
  fields.number("presence_penalty", &Request::presence_penalty, {.least = -2, .most = 2},
                "of tokens that were generated");
  fields.number("frequency_penalty", &Request::frequency_penalty, {.least = -2, .most = 2},
                "the same, times how often");
  fields.number("repetition_penalty", &Request::repetition_penalty, kRepetition,
                "of tokens in prompt or output: above 1 avoids them");
  fields.add(
      "logit_bias",
      R"({"type":["object","null"],"additionalProperties":{"type":"number","minimum":-100,"maximum":100}})",
      "added to the logits of token ids", [](Target& target, const std::string& name, const Json& value) {
        target.logit_bias = read_bias(name, value);
      });
  fields.add("allowed_token_ids", R"({"type":["array","null"],"items":{"type":"integer","minimum":0}})",
             "nothing but these tokens", [](Target& target, const std::string& name, const Json& value) {
               target.allowed_token_ids = read_ids(name, value, 1 << 20);
               if (target.allowed_token_ids.empty()) refuse(name, "{} must not be empty", name);
             });
  fields.integer("prompt_logprobs", &Request::prompt_logprobs, {.least = 0},
                 "log-probabilities of the prompt's tokens, and so many of the likeliest");
  add_truncation_field(fields);
  fields.integer("priority", &Request::priority, {.least = -1e9, .most = 1e9}, "lower runs first");
  fields.text("cache_salt", &Request::cache_salt, "prefixes are shared only between requests of one salt");
  fields.text("request_id", &Request::request_id, "part of the answer's id");
  add_stop_fields(fields);
  add_output_fields(fields);
  fields.add("use_beam_search", R"({"type":["boolean","null"]})", "not supported",
             [](Target&, const std::string& name, const Json& value) {
               if (read_bool(name, value)) refuse(name, "beam search is not supported");
             });
  fields.add("bad_words", R"({"type":["array","null"],"items":{"type":"string"}})", "not supported",
             [](Target&, const std::string& name, const Json& value) {
               if (!read_strings(name, value, kMostStops).empty()) refuse(name, "bad_words is not supported");
             });
}

template void add_sampling_fields(Fields<ChatRequest>&);
template void add_sampling_fields(Fields<CompletionRequest>&);

void refuse_streamed_prompt_logprobs() {
  refuse("prompt_logprobs", "prompt_logprobs are not available with stream: true");
}

GenerationDefaults read_generation_defaults(const std::string& model_path) {
  GenerationDefaults defaults;
  std::ifstream file(std::filesystem::path(model_path) / "generation_config.json");
  if (!file) return defaults;
  std::ostringstream text;
  text << file.rdbuf();
  const Json json = Json::parse(text.str(), nullptr, false);
  const auto number = [&](const char* name, std::optional<double>& into, double least, double most) {
    const auto it = json.find(name);
    if (it != json.end() && it->is_number() && it->get<double>() >= least && it->get<double>() <= most)
      into = it->get<double>();
  };
  if (!json.is_object()) return defaults;
  number("temperature", defaults.temperature, 0, 100);
  number("top_p", defaults.top_p, 1e-6, 1);
  number("min_p", defaults.min_p, 0, 1);
  number("repetition_penalty", defaults.repetition_penalty, 1e-6, 100);
  std::optional<double> top_k;
  number("top_k", top_k, 0, 1e6);
  if (top_k) defaults.top_k = static_cast<int64_t>(*top_k);
  return defaults;
}

namespace {

void check_ids(const char* name, const std::vector<int32_t>& ids, const TokenLimits& limits) {
  for (const int32_t id : ids)
    if (id >= limits.vocab_size)
      refuse(name, "{}: token id {} is not in the vocabulary of {}", name, id, limits.vocab_size);
}

int64_t output_tokens(const SamplingRequest& request, const TokenLimits& limits, int64_t prompt,
                      int64_t default_max) {
  const int64_t room = limits.max_model_len - prompt;
  const int64_t asked = request.max_tokens.value_or(default_max);
  if (room < 1 && !request.max_tokens)
    throw ApiError(
        400,
        fmt::format("This model's maximum context length is {} tokens. However, the prompt has {} "
                    "tokens, which leaves none for the completion. Please reduce the length of the "
                    "prompt.",
                    limits.max_model_len, prompt),
        {}, "context_length_exceeded");
  if (room < 1 || (request.max_tokens && asked > room))
    throw ApiError(400,
                   fmt::format("This model's maximum context length is {} tokens. However, you requested {} "
                               "tokens ({} in the prompt, {} for the "
                               "completion). Please reduce the length of the prompt or the completion.",
                               limits.max_model_len, prompt + std::max<int64_t>(asked, 1), prompt,
                               std::max<int64_t>(asked, 1)),
                   "max_tokens", "context_length_exceeded");
  return std::min(asked, room);
}

// Without a seed each request draws anew.
uint64_t fresh_seed() {
  thread_local std::mt19937_64 random{std::random_device{}()};
  return random();
}

}  // namespace

engine::SamplingParams sampling_params(const SamplingRequest& request, const GenerationDefaults& defaults,
                                       const TokenLimits& limits, int64_t prompt, int64_t default_max,
                                       const std::vector<int32_t>& end_ids) {
  if (request.n > limits.max_n)
    throw ApiError(422, fmt::format("n is {}, this server allows at most {}", request.n, limits.max_n), "n");
  if (request.prompt_logprobs.value_or(0) > limits.max_logprobs)
    refuse("prompt_logprobs", "prompt_logprobs must be at most {}", limits.max_logprobs);
  check_ids("stop_token_ids", request.stop_token_ids, limits);
  check_ids("allowed_token_ids", request.allowed_token_ids, limits);
  for (const auto& [id, bias] : request.logit_bias) check_ids("logit_bias", {id}, limits);
  engine::SamplingParams params;
  const auto pick = [](const std::optional<double>& given, const std::optional<double>& model,
                       double otherwise) {
    return static_cast<float>(given ? *given : model.value_or(otherwise));
  };
  params.temperature = pick(request.temperature, defaults.temperature, 1);
  params.top_p = pick(request.top_p, defaults.top_p, 1);
  params.min_p = pick(request.min_p, defaults.min_p, 0);
  params.repetition_penalty = pick(request.repetition_penalty, defaults.repetition_penalty, 1);
  params.top_k =
      static_cast<int>(std::max<int64_t>(request.top_k ? *request.top_k : defaults.top_k.value_or(0), 0));
  params.presence_penalty = static_cast<float>(request.presence_penalty);
  params.frequency_penalty = static_cast<float>(request.frequency_penalty);
  params.logit_bias = request.logit_bias;
  params.allowed_ids = request.allowed_token_ids;
  params.seed = request.seed ? static_cast<uint64_t>(*request.seed) : fresh_seed();
  params.max_tokens = static_cast<int>(output_tokens(request, limits, prompt, default_max));
  if (request.min_tokens > params.max_tokens)
    refuse("min_tokens", "min_tokens is {}, more than the {} tokens that may be generated",
           request.min_tokens, params.max_tokens);
  params.min_tokens = static_cast<int>(request.min_tokens);
  params.stop_ids = request.stop_token_ids;
  if (!request.ignore_eos) params.stop_ids.insert(params.stop_ids.end(), end_ids.begin(), end_ids.end());
  params.prompt_ranks = request.prompt_logprobs.has_value();
  params.prompt_logprobs = request.prompt_logprobs ? static_cast<int>(*request.prompt_logprobs) : -1;
  return params;
}

}  // namespace flagscale::serve
