// What of a conversation may be a slip.
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "data/conversation_encoder.h"

namespace flagscale::data {

namespace {

constexpr std::string_view kUnseenCalls = "answers whose calls of tools the chat template leaves out";
constexpr std::array<std::string_view, 5> kRoles{"system", "developer", "user", "assistant", "tool"};

bool is_known(std::string_view role) { return std::find(kRoles.begin(), kRoles.end(), role) != kRoles.end(); }

// Letters and digits alone, which no template writes otherwise.
std::string place_name(size_t index) { return fmt::format("FlagScaleMessage{}Content", index); }

}  // namespace

std::vector<std::string> ConversationEncoder::notes(const Conversation& conversation,
                                                    const std::string& whole) const {
  std::vector<std::string> result;
  const std::vector<bool> learnt = chosen(conversation);
  for (size_t i = 0; i < learnt.size(); ++i) {
    const Message& message = conversation.messages[i];
    if (learnt[i] && message.empty) result.emplace_back(kEmptyAnswerNote);
    if (learnt[i] && message.calls && !template_->shows_calls()) {
      if (message.content.empty())
        fail(ErrorKind::kInvalidArgument,
             "messages[{}] is a call of a tool, which the chat template does not write", i);
      result.emplace_back(kUnseenCalls);
    }
    if (!is_known(message.role))
      result.push_back(
          fmt::format("messages of role '{}', which are not taken for answers", message.role.substr(0, 64)));
  }
  for (const size_t i : left_out(conversation, whole)) {
    const std::string& role = conversation.messages[i].role;
    if (!is_known(role))
      fail(ErrorKind::kInvalidArgument,
           "messages[{}].role is '{}', which the chat template leaves out; it may be {}", i,
           role.substr(0, 64), fmt::join(kRoles, ", "));
    result.push_back(fmt::format("messages of role '{}' whose content the chat template leaves out", role));
  }
  return result;
}

// Long contents are looked for; where a short one stands could be a coincidence, so that others are put in
// the places of these and looked for. Users' are in every template's text; so are answers, or they would not
// have been found in it, unless they call: then some templates write the calls alone.
std::vector<size_t> ConversationEncoder::left_out(const Conversation& conversation,
                                                  const std::string& whole) const {
  constexpr size_t kLong = 24;
  std::vector<size_t> asked, missing;
  Conversation other;
  for (size_t i = 0; i < conversation.messages.size(); ++i) {
    const Message& message = conversation.messages[i];
    const bool found = message.role == "assistant" && !marked_ && !message.calls;
    if (message.role == "user" || found || message.content.empty()) continue;
    if (message.content.size() >= kLong && whole.find(message.content) != std::string::npos) continue;
    if (asked.empty()) other = conversation;
    auto json = nlohmann::ordered_json::parse(message.json);
    json["content"] = place_name(i);
    other.messages[i].json = json.dump();
    asked.push_back(i);
  }
  if (asked.empty()) return {};
  std::string shown;
  try {
    shown = text(other, other.messages.size(), false);
  } catch (const Error&) {  // a template may refuse such contents: it reads them
    return {};
  }
  for (const size_t i : asked)
    if (shown.find(place_name(i)) == std::string::npos) missing.push_back(i);
  return missing;
}

}  // namespace flagscale::data
