#pragma once
// How an endpoint writes answers, whole or in chunks.

#include <memory>
#include <string>
#include <vector>

#include "serve/generation/logprobs.h"
#include "serve/output/choice.h"
#include "serve/request/chat_request.h"
#include "serve/request/completion_request.h"

namespace flagscale::serve {

struct Usage {
  int64_t prompt_tokens = 0, completion_tokens = 0, cached_tokens = 0;
  std::string json() const;
};

class AnswerFormat {
 public:
  virtual ~AnswerFormat() = default;
  // The data of a server-sent event. usage: null, or to be written in this chunk.
  virtual std::string opening(const Choice& choice) = 0;  // before a choice's first chunk; "": nothing
  virtual std::string chunk(Choice& choice, const Usage* usage) = 0;
  virtual std::string usage_chunk(const Usage& usage) = 0;
  // prompts: the log-probabilities of each request's prompt, empty where not wanted.
  virtual std::string whole(const std::vector<Choice*>& choices, const Usage& usage,
                            const std::vector<std::vector<engine::OutputToken>>& prompts) = 0;
};

struct AnswerName {
  std::string id, model;
  int64_t created = 0;
};

struct ChatStyle {
  bool logprobs = false, include_reasoning = true, include_usage = false, prompt_logprobs = false;
  bool named_tool = false;  // finish_reason stays "stop", as OpenAI has it
  LogprobStyle style;
  std::string opening_text;  // with echo: what the answer continues
};
std::unique_ptr<AnswerFormat> chat_format(const text::Tokenizer& tokenizer, AnswerName name, ChatStyle style);

struct CompletionStyle {
  bool logprobs = false, include_usage = false, prompt_logprobs = false;
  LogprobStyle style;
  int choices_per_prompt = 1;
};
std::unique_ptr<AnswerFormat> completion_format(const text::Tokenizer& tokenizer, AnswerName name,
                                                CompletionStyle style);

// 24 or so random letters and digits.
std::string random_id(size_t length);
int64_t unix_seconds();

}  // namespace flagscale::serve
