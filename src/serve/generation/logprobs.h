#pragma once
// Log-probabilities as OpenAI's two APIs and vLLM's prompt_logprobs write them.

#include <optional>
#include <string>
#include <vector>

#include "engine/event.h"
#include "text/tokenizer.h"

namespace flagscale::serve {

// The text that a token stands for by itself, and its bytes.
std::string token_text(const text::Tokenizer& tokenizer, int32_t id);
std::string token_bytes(const text::Tokenizer& tokenizer, int32_t id);

struct LogprobStyle {
  int top = 0;                // how many of the likeliest
  bool as_token_ids = false;  // "token_id:17" instead of text
};

// {"content": [{"token", "logprob", "bytes", "top_logprobs"}], "refusal": null}
std::string chat_logprobs(const text::Tokenizer& tokenizer, const std::vector<engine::OutputToken>& tokens,
                          const LogprobStyle& style);

// {"tokens", "token_logprobs", "top_logprobs", "text_offset"}; offset: code points written before, advanced.
// A token whose log-probability is NaN has none (a prompt's first).
std::string completion_logprobs(const text::Tokenizer& tokenizer,
                                const std::vector<engine::OutputToken>& tokens, const LogprobStyle& style,
                                size_t& offset);

// [null, {"id": {"logprob", "rank", "decoded_token"}}, …] for each prompt token
std::string prompt_logprobs(const text::Tokenizer& tokenizer, const std::vector<engine::OutputToken>& tokens);

}  // namespace flagscale::serve
