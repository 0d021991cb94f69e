#pragma once
// What a program does with a tokenizer: encodes, decodes, streams, renders a chat.

#include "base/error.h"
#include "text/tokenizer.h"

namespace flagscale {

inline void use_tokenizer(const text::Tokenizer& tokenizer) {
  const auto ids = tokenizer.encode("It's 1234 e\u0301 \u5317\u4eac <|im_end|>\n\n  end", true);
  tokenizer.decode(ids, false);
  text::StreamDecoder stream(tokenizer);
  for (const int32_t id : ids) stream.put(id);
  stream.finish();
  if (!tokenizer.has_chat_template()) return;
  try {
    tokenizer.chat_template().render(
        {.messages = R"([{"role": "user", "content": "Hello"}])", .tools = {}, .extra = {}});
  } catch (const Error&) {  // a template that does not parse is refused where it is used
  }
}

}  // namespace flagscale
