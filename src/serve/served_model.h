#pragma once
// What is served, and how its text is read.

#include <memory>
#include <string>
#include <vector>

#include "engine/load.h"
#include "serve/request/sampling_request.h"
#include "serve/service_config.h"
#include "text/chat_template.h"

namespace flagscale::serve {

struct ServedModel {
  engine::LoadedModel loaded;
  std::vector<std::string> names;  // the first is what answers say
  GenerationDefaults defaults;
  TokenLimits limits;
  int64_t created = 0;  // seconds since 1970

  std::unique_ptr<text::ChatTemplate> own_template;  // --chat-template
  std::string template_source;
  std::string tool_format;      // a Registration<ToolFormat>; "": none
  bool reasoning = false;       // <think> is parted from the content
  bool always_reasons = false;  // even where neither prompt nor text says <think>

  const text::Tokenizer& tokenizer() const { return *loaded.tokenizer; }
  const text::ChatTemplate& chat_template() const;  // ApiError 400 without one
};

// max_model_len: of the runner. Throws Error naming the option.
ServedModel describe_model(engine::LoadedModel loaded, const ServiceConfig& config, int64_t max_model_len);

}  // namespace flagscale::serve
