#pragma once
// One message of a conversation, as OpenAI's clients write it, made what chat templates want: the same for
// what is served, what is generated from and what is learnt.

#include <array>
#include <nlohmann/json_fwd.hpp>
#include <string>

namespace flagscale::text {

// What a message's reasoning is called, the first one first.
inline constexpr std::array kReasoningKeys{"reasoning_content", "thinking", "reasoning"};

// content: a list of text parts becomes their text, joined by newlines (as vLLM has it); null, or absent
// beside calls or reasoning, becomes "", since templates add texts together. tool_calls: arguments that are
// JSON in a string become that JSON; none (null or an empty list) are left out. The rest is the template's
// own business. Throws Error{kInvalidArgument} that begins with `where`, such as "messages[3]": no object, no
// role, no content, a part that is no text, a call that is none.
void prepare_message(nlohmann::ordered_json& message, const std::string& where);

}  // namespace flagscale::text
