#pragma once
// Prompts from JSON lines, and their results back to them: what `generate` and `score` read and print.

#include <string>
#include <vector>

#include "engine/answer.h"
#include "text/tokenizer.h"

namespace flagscale::engine {

struct Prompt {
  std::string text;      // plain; or
  std::string messages;  // JSON list (text/messages.h), through the tokenizer's chat template
  std::string where;     // "prompts.jsonl:3", for messages
};

// Lines {"prompt": ...} or {"messages": [...]}, no other key. Throws Error naming file and line.
std::vector<Prompt> read_prompts(const std::string& file);

// A chat of one user message, after a system message where there is one.
Prompt chat_prompt(const std::string& message, const std::string& system);

// Token ids; a plain text gets what the tokenizer adds around one. Throws Error naming the prompt's place.
std::vector<int32_t> encode(const Prompt& prompt, const text::Tokenizer& tokenizer);

// The output without the token that stopped it.
std::string output_text(const Answer& answer, const text::Tokenizer& tokenizer);

// {"text", "prompt_token_ids", "token_ids", "finish_reason"}
std::string generated_json(const std::vector<int32_t>& prompt, const Answer& answer,
                           const text::Tokenizer& tokenizer);
// {"prompt_token_ids", "logprobs", "perplexity"}; perplexity null for a single token
std::string scored_json(const std::vector<int32_t>& prompt, const Answer& answer);

}  // namespace flagscale::engine
