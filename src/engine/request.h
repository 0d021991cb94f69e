#pragma once
// What a caller asks of the engine, and what it gets.

#include <cstdint>
#include <string>
#include <vector>

namespace flagscale::engine {

struct SamplingParams {
  float temperature = 1;  // 0: greedy
  int top_k = 0;          // 0: all
  float top_p = 1;
  float min_p = 0;
  uint64_t seed = 0;
  int max_tokens = 16;
  std::vector<int32_t> stop_ids;  // generation ends after one of them, which is not part of the text
  bool prompt_logprobs = false;   // of each prompt token after the first
};

struct Request {
  std::vector<int32_t> prompt;
  SamplingParams sampling;
};

enum class FinishReason { kNone, kStop, kLength };
const char* name(FinishReason reason);  // "stop", "length" as OpenAI's API has them

struct Sequence {
  Request request;
  std::vector<int32_t> tokens;          // prompt, then output
  std::vector<float> prompt_logprobs;   // [prompt - 1]
  FinishReason finished = FinishReason::kNone;

  size_t output_size() const { return tokens.size() - request.prompt.size(); }
  std::vector<int32_t> output() const { return {tokens.begin() + static_cast<std::ptrdiff_t>(request.prompt.size()), tokens.end()}; }

  // The engine's.
  int64_t cached = 0;           // tokens whose keys and values are in the cache
  std::vector<int32_t> pages;   // empty: waiting
};

}  // namespace flagscale::engine
