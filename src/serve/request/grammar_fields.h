#pragma once
// The ways in which a request constrains its output: OpenAI's response_format, vLLM's guided_* and
// structured_outputs.

#include "engine/request.h"
#include "serve/json.h"

namespace flagscale::serve {

// Each throws ApiError 400 naming the field, 422 for a schema, expression or grammar that is too large.
engine::Grammar read_response_format(const std::string& name, const Json& value);
engine::Grammar read_structured_outputs(const std::string& name, const Json& value);
engine::Grammar json_grammar(const std::string& name, const Json& schema);  // an object, or its text
engine::Grammar regex_grammar(const std::string& name, const Json& value);
engine::Grammar choice_grammar(const std::string& name, const Json& value);  // one of some texts
engine::Grammar lark_grammar(const std::string& name, const Json& value);

// Sets `grammar`; 400 when it is set already.
void set_grammar(engine::Grammar& grammar, engine::Grammar given, const std::string& name);
void set_grammar(struct SamplingRequest& request, engine::Grammar given, const std::string& name);

}  // namespace flagscale::serve
