#include "load/dataset.h"

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <cstring>
#include <fstream>
#include <nlohmann/json.hpp>
#include <random>

#include "base/error.h"
#include "base/text_encoding.h"

namespace flagscale::load {

namespace {

using Json = nlohmann::json;
using Ids = std::vector<int32_t>;
using Random = std::mt19937_64;

constexpr int kTries = 10;  // to give a text exactly so many tokens

int64_t draw(Random& random, int64_t least, int64_t most) {
  return std::uniform_int_distribution<int64_t>(least, most)(random);
}

Ids draw_ids(Random& random, const Ids& plain, int64_t count) {
  Ids ids;
  for (int64_t i = 0; i < count; ++i)
    ids.push_back(plain[static_cast<size_t>(draw(random, 0, static_cast<int64_t>(plain.size()) - 1))]);
  return ids;
}

// A text whose tokens are `ids`, or about as many.
std::string text_of(Ids& ids, Tokens& tokens, Random& random) {
  const size_t wanted = ids.size();
  std::string text;
  for (int i = 0; i <= kTries; ++i) {
    text = tokens.decode(ids);
    ids = tokens.encode(text);
    if (ids.size() == wanted || i == kTries) break;
    const Ids more =
        draw_ids(random, tokens.plain(),
                 static_cast<int64_t>(wanted) - static_cast<int64_t>(std::min(wanted, ids.size())));
    ids.resize(std::min(wanted, ids.size()));
    ids.insert(ids.end(), more.begin(), more.end());
  }
  return text;
}

struct Lengths {
  int64_t least, most;
};
Lengths around(int64_t length, double ratio) {
  const auto middle = static_cast<double>(length);
  return {static_cast<int64_t>(std::floor(middle * (1 - ratio))),
          static_cast<int64_t>(std::ceil(middle * (1 + ratio)))};
}

std::vector<Sample> random_samples(const DatasetOptions& o, Tokens& tokens) {
  Random random(o.seed);
  const Lengths input = around(o.input_length, o.range_ratio);
  Lengths output = around(o.output_length, o.range_ratio);
  output = {std::max<int64_t>(output.least, 1), std::max<int64_t>(output.most, 1)};
  const Ids& plain = tokens.plain();
  const Ids prefix = draw_ids(random, plain, o.prefix_length);
  std::vector<Sample> samples;
  for (int64_t i = 0; i < o.num_prompts; ++i) {
    // Consecutive ids from a drawn place, as vLLM has it: no two prompts share a beginning by chance.
    const int64_t length = draw(random, input.least, input.most);
    const int64_t offset = draw(random, 0, static_cast<int64_t>(plain.size()) - 1) + i;
    Ids ids = prefix;
    for (int64_t t = 0; t < length; ++t) ids.push_back(plain[static_cast<size_t>(offset + t) % plain.size()]);
    Sample sample;
    sample.prompt = text_of(ids, tokens, random);
    sample.prompt_tokens = static_cast<int64_t>(ids.size());
    sample.output_tokens = draw(random, output.least, output.most);
    samples.push_back(std::move(sample));
  }
  return samples;
}

std::vector<Sample> repetition_samples(const DatasetOptions& o, Tokens& tokens) {
  const int64_t each = o.num_prompts / o.num_prefixes;
  Random random(o.seed);
  std::vector<Sample> samples;
  for (int64_t p = 0; p < o.num_prefixes; ++p) {
    Ids prefix = draw_ids(random, tokens.plain(), o.repeated_prefix_length);
    text_of(prefix, tokens, random);
    for (int64_t i = 0; i < each; ++i) {
      Ids all = draw_ids(random, tokens.plain(), o.suffix_length);
      text_of(all, tokens, random);
      all.insert(all.begin(), prefix.begin(), prefix.end());
      samples.push_back({tokens.decode(all), static_cast<int64_t>(all.size()), o.repetition_output_length});
    }
  }
  if (o.shuffle) std::shuffle(samples.begin(), samples.end(), random);
  return samples;
}

// As vLLM prunes: nothing very short, nothing beyond 1024 and 2048 tokens.
bool is_usual(int64_t prompt, int64_t output, bool any_output) {
  return prompt >= 4 && (any_output || output >= 4) && prompt <= 1024 && prompt + output <= 2048;
}

void check_random(const DatasetOptions& o) {
  if (!(o.range_ratio >= 0 && o.range_ratio < 1))
    fail(ErrorKind::kInvalidArgument, "--random-range-ratio must be in [0, 1), got {}", o.range_ratio);
  if (o.prefix_length + around(o.input_length, o.range_ratio).least < 1)
    fail(ErrorKind::kInvalidArgument,
         "--random-input-len {} with --random-range-ratio {} gives prompts without a token", o.input_length,
         o.range_ratio);
}

void check_file(const DatasetOptions& o) {
  if (o.path.empty())
    fail(ErrorKind::kInvalidArgument, "--dataset-name sharegpt needs --dataset-path FILE.json");
  if (!std::ifstream(o.path))
    fail(ErrorKind::kNotFound, "--dataset-path {}: {}", o.path, std::strerror(errno));
  refuse_file_of_other_encoding(o.path);
}

std::vector<Json> conversations(const DatasetOptions& o) {
  std::ifstream file(o.path);
  const Json all = Json::parse(file, nullptr, /*allow_exceptions=*/false);
  if (!all.is_array())
    fail(ErrorKind::kCorrupt,
         "{} is no ShareGPT file: expected a JSON list of {{\"conversations\": [{{\"value\": …}}, …]}}",
         o.path);
  std::vector<Json> found;
  for (const Json& entry : all) {
    if (!entry.is_object() || !entry.contains("conversations") || !entry["conversations"].is_array())
      continue;
    const Json& turns = entry["conversations"];
    const auto spoken = [&](size_t i) {
      return turns[i].is_object() && turns[i].contains("value") && turns[i]["value"].is_string();
    };
    if (turns.size() >= 2 && spoken(0) && spoken(1)) found.push_back(turns);
  }
  return found;
}

std::vector<Sample> sharegpt_samples(const DatasetOptions& o, Tokens& tokens) {
  std::vector<Json> all = conversations(o);
  Random random(o.seed);
  if (o.shuffle) std::shuffle(all.begin(), all.end(), random);
  std::vector<Sample> samples;
  for (const Json& turns : all) {
    if (static_cast<int64_t>(samples.size()) >= o.num_prompts) break;
    const auto prompt = turns[0]["value"].get<std::string>();
    const auto tokens_of = [&](const std::string& text) {
      return static_cast<int64_t>(tokens.encode(text).size());
    };
    const int64_t length = tokens_of(prompt);
    const int64_t output = o.sharegpt_output_length ? *o.sharegpt_output_length
                                                    : tokens_of(turns[1]["value"].get<std::string>());
    if (is_usual(length, output, o.sharegpt_output_length.has_value()))
      samples.push_back({prompt, length, output});
  }
  if (samples.empty()) fail(ErrorKind::kCorrupt, "{} holds no conversation of a usual length", o.path);
  const size_t different = samples.size();
  while (o.oversample && static_cast<int64_t>(samples.size()) < o.num_prompts)
    samples.push_back(samples[static_cast<size_t>(draw(random, 0, static_cast<int64_t>(different) - 1))]);
  return samples;
}

}  // namespace

void check(const DatasetOptions& o) {
  if (o.name == "sharegpt") return check_file(o);
  if (!o.path.empty())
    fail(ErrorKind::kInvalidArgument, "the data set {} has no file: --dataset-path is for sharegpt", o.name);
  if (o.name == "random") check_random(o);
  if (o.name == "prefix_repetition" && (o.num_prefixes < 1 || o.num_prompts < o.num_prefixes))
    fail(ErrorKind::kInvalidArgument,
         "--num-prompts ({}) must be at least --prefix-repetition-num-prefixes ({})", o.num_prompts,
         o.num_prefixes);
}

std::vector<Sample> make_samples(const DatasetOptions& options, Tokens& tokens) {
  check(options);
  if (options.name == "sharegpt") return sharegpt_samples(options, tokens);
  if (tokens.plain().empty())
    fail(ErrorKind::kInvalidArgument, "the tokenizer has no token that stands for text");
  if (options.name == "random") return random_samples(options, tokens);
  if (options.name == "prefix_repetition") return repetition_samples(options, tokens);
  fail(ErrorKind::kInvalidArgument, "there is no data set {}: random, prefix_repetition and sharegpt",
       options.name);
}

}  // namespace flagscale::load
