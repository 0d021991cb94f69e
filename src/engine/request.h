#pragma once
// What a caller asks of the engine, and what it gets. Names are vLLM's.

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

namespace flagscale::engine {

struct SamplingParams {
  float temperature = 1;  // 0: greedy
  int top_k = 0;          // 0: all
  float top_p = 1, min_p = 0;
  float presence_penalty = 0, frequency_penalty = 0;  // of tokens in the output
  float repetition_penalty = 1;                       // of tokens in prompt or output
  std::vector<std::pair<int32_t, float>> logit_bias;
  std::vector<int32_t> allowed_ids;  // empty: all
  uint64_t seed = 0;
  int max_tokens = 16, min_tokens = 0;  // stop_ids are masked before min_tokens
  std::vector<int32_t>
      stop_ids;  // generation ends after one of them; end-of-sequence ids are the caller's to put here
  // With each token its own log-probability and this many best ones, of the logits as the model gave them;
  // -1: none.
  int logprobs = -1;
  int prompt_logprobs = -1;   // the same for each prompt token after the first
  bool prompt_ranks = false;  // and its rank
};

// kind: "json_object" (text is not looked at), "json_schema", "regex", "lark"; empty: free.
struct Grammar {
  std::string kind, text;
};

struct Request {
  std::vector<int32_t> prompt;
  SamplingParams sampling;
  int n = 1;         // choices; choice i draws with its own stream of the seed, choice 0 as n = 1 would
  int priority = 0;  // lower runs first
  Grammar grammar;
  std::string adapter;     // LoRA name; empty: the base model
  bool embed = false;      // the last hidden state instead of tokens (max_tokens is ignored)
  std::string cache_salt;  // prefixes are shared only under the same salt
};

enum class FinishReason { kNone, kStop, kLength, kCancelled, kError };
const char* name(FinishReason reason);  // "", "stop", "length", "abort", "error"

struct TokenLogprob {
  int32_t id = 0;
  float logprob = 0;
  int rank = 0;  // 1: the likeliest
};

struct OutputToken {
  int32_t id = 0;
  float logprob = 0;               // valid when asked for
  std::vector<TokenLogprob> best;  // likeliest first
  int rank = 0;                    // with prompt_ranks; 1: the likeliest
};

}  // namespace flagscale::engine
