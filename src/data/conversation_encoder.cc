#include "data/conversation_encoder.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "data/generation_marks.h"
#include "data/token_places.h"
#include "text/messages.h"

namespace flagscale::data {

namespace {

constexpr std::string_view kOther = "\xef\xb7\x92 another answer \xef\xb7\x93";

std::vector<std::pair<std::string, std::string>> variables_of(const text::Tokenizer& tokenizer) {
  std::vector<std::pair<std::string, std::string>> variables;
  for (const auto& [name, id] : {std::pair{"bos_token", tokenizer.bos()},
                                 {"eos_token", tokenizer.eos()},
                                 {"pad_token", tokenizer.pad()},
                                 {"unk_token", tokenizer.unk()}})
    if (id >= 0) variables.emplace_back(name, tokenizer.id_to_token(id));
  return variables;
}

size_t common_prefix(std::string_view a, std::string_view b) {
  return static_cast<size_t>(std::mismatch(a.begin(), a.end(), b.begin(), b.end()).first - a.begin());
}
size_t common_suffix(std::string_view a, std::string_view b) {
  return static_cast<size_t>(std::mismatch(a.rbegin(), a.rend(), b.rbegin(), b.rend()).first - a.rbegin());
}

bool is_continuation(char c) { return (static_cast<unsigned char>(c) & 0xc0) == 0x80; }
size_t character_start(std::string_view text, size_t at) {
  while (at > 0 && at < text.size() && is_continuation(text[at])) --at;
  return at;
}

std::string list_of(const std::vector<Message>& messages, size_t count) {
  std::string json = "[";
  for (size_t i = 0; i < count; ++i) json += (i > 0 ? "," : "") + messages[i].json;
  return json + "]";
}

// What two texts have in common at their start, less a special token (<…> or […]) that goes on otherwise.
size_t shared_start(std::string_view a, std::string_view b) {
  size_t shared = character_start(b, common_prefix(a, b));
  const size_t open = b.substr(0, shared).find_last_of("<[");
  const bool closed = open == std::string_view::npos ||
                      b.substr(open, shared - open).find_first_of(">]") != std::string_view::npos;
  return closed || shared == a.size() ? shared : open;
}

// Where a text differs from another one, in whole characters; nowhere long where the other one has more
// there.
std::pair<size_t, size_t> difference(std::string_view text, std::string_view other, size_t message) {
  const size_t begin = common_prefix(text, other);
  size_t end = text.size() - std::min(common_suffix(text, other), text.size() - begin);
  while (end < text.size() && is_continuation(text[end])) ++end;
  if (text == other)
    fail(ErrorKind::kInvalidArgument, "the chat template does not show where messages[{}] stands", message);
  return {character_start(text, begin), end};
}

// What the tokenizer puts before a text: a bos, or nothing.
std::vector<int32_t> start_of_text(const text::Tokenizer& tokenizer) {
  const std::vector<int32_t> bare = tokenizer.encode("a"), whole = tokenizer.encode("a", true);
  const auto text = std::search(whole.begin(), whole.end(), bare.begin(), bare.end());
  return text == whole.end() ? std::vector<int32_t>{} : std::vector<int32_t>(whole.begin(), text);
}

}  // namespace

ConversationEncoder::ConversationEncoder(std::shared_ptr<const text::Tokenizer> tokenizer,
                                         const std::string& chat_template, LearntPart part)
    : tokenizer_(std::move(tokenizer)), start_(start_of_text(*tokenizer_)), part_(part) {
  const std::string& source = chat_template.empty() ? tokenizer_->chat_template_source() : chat_template;
  if (source.empty()) return;
  const std::string marked = with_marks(source, marked_);
  template_ = std::make_unique<text::ChatTemplate>(marked_ ? marked : source, variables_of(*tokenizer_));
}

ConversationEncoder::~ConversationEncoder() = default;

EncodedConversation ConversationEncoder::encode(const Conversation& conversation) const {
  EncodedConversation out = conversation.plain ? encode_plain(conversation) : encode_messages(conversation);
  if (part_ == LearntPart::kAll) std::fill(out.mask.begin(), out.mask.end(), 1);
  if (std::find(out.mask.begin(), out.mask.end(), 1) == out.mask.end())
    fail(ErrorKind::kInvalidArgument, "nothing of the conversation is an answer to learn");
  return out;
}

EncodedConversation ConversationEncoder::encode_messages(const Conversation& conversation) const {
  if (!template_)
    fail(ErrorKind::kNotFound,
         "{}: the tokenizer has no chat template to write conversations with; give one with --chat-template",
         tokenizer_->source());
  const Rendered rendered = render(conversation);
  EncodedConversation out = tokens_of(rendered);
  out.notes = notes(conversation, rendered.text);
  return out;
}

std::vector<bool> ConversationEncoder::chosen(const Conversation& conversation) const {
  std::vector<bool> learnt;
  for (const Message& message : conversation.messages) learnt.push_back(message.learnt);
  if (part_ != LearntPart::kLastAnswer) return learnt;
  const auto last = std::find(learnt.rbegin(), learnt.rend(), true);
  const auto keep = static_cast<size_t>(learnt.rend() - last);
  for (size_t i = 0; i + 1 < keep; ++i) learnt[i] = false;
  return learnt;
}

ConversationEncoder::Rendered ConversationEncoder::render(const Conversation& conversation) const {
  for (const Message& message : conversation.messages)
    for (const std::string_view mark : {kMarkBegin, kMarkEnd})
      if (message.json.find(mark) != std::string::npos)
        fail(ErrorKind::kInvalidArgument, "a message has a noncharacter of Unicode");
  if (part_ == LearntPart::kAll) {
    std::string all = text(conversation, conversation.messages.size(), false);
    for (const std::string_view mark : {kMarkBegin, kMarkEnd})
      for (size_t at; marked_ && (at = all.find(mark)) != std::string::npos;) all.erase(at, mark.size());
    return {all, {}};
  }
  return marked_ ? by_marks(conversation) : by_prompts(conversation);
}

// The marked spans are the assistant's messages in order; where their numbers differ (a template that joins
// or splits them), all of them are learnt or none.
ConversationEncoder::Rendered ConversationEncoder::by_marks(const Conversation& conversation) const {
  const std::string marked = text(conversation, conversation.messages.size(), false);
  Rendered out;
  std::string_view rest = marked;
  for (size_t at; (at = rest.find(kMarkBegin)) != std::string_view::npos;) {
    out.text += rest.substr(0, at);
    rest.remove_prefix(at + kMarkBegin.size());
    const size_t end = std::min(rest.find(kMarkEnd), rest.size());
    const size_t begin = out.text.size();
    out.text += rest.substr(0, end);
    rest.remove_prefix(std::min(rest.size(), end + kMarkEnd.size()));
    if (!out.learnt.empty() && out.learnt.back().end == begin)  // one answer in two blocks
      out.learnt.back().end = out.text.size();
    else
      out.learnt.push_back({begin, out.text.size()});
  }
  out.text += rest;
  std::vector<bool> answers;
  const std::vector<bool> learnt = chosen(conversation);
  for (size_t i = 0; i < conversation.messages.size(); ++i)
    if (conversation.messages[i].role == "assistant") answers.push_back(learnt[i]);
  const bool all = std::count(answers.begin(), answers.end(), false) == 0;
  if (!all && answers.size() != out.learnt.size())
    fail(ErrorKind::kInvalidArgument,
         "the chat template marks {} answers of {}: which of them are not to be learnt cannot be told",
         out.learnt.size(), answers.size());
  for (size_t i = answers.size(); !all && i-- > 0;)
    if (!answers[i]) out.learnt.erase(out.learnt.begin() + static_cast<std::ptrdiff_t>(i));
  return out;
}

ConversationEncoder::Rendered ConversationEncoder::by_prompts(const Conversation& conversation) const {
  Rendered out{text(conversation, conversation.messages.size(), false), {}};
  const std::vector<bool> learnt = chosen(conversation);
  for (size_t i = 0; i < learnt.size(); ++i)
    if (learnt[i]) out.learnt.push_back(answer(conversation, i, out.text));
  return out;
}

std::string ConversationEncoder::text(const Conversation& conversation, size_t messages, bool prompt) const {
  const std::string list = list_of(conversation.messages, messages);
  return template_->render({list, conversation.tools, conversation.variables, prompt, true});
}

ConversationEncoder::Span ConversationEncoder::answer(const Conversation& conversation, size_t index,
                                                      const std::string& whole) const {
  const std::string prompt = text(conversation, index, true);
  const std::string answered = text(conversation, index + 1, false);
  const bool begins = whole.starts_with(prompt);
  if (begins && whole.starts_with(answered) && answered.size() > prompt.size())
    return {prompt.size(), answered.size()};
  // The template writes the start otherwise when more follows: what comes after the content is alike.
  const size_t all = conversation.messages.size();
  const bool by_calls = varied(conversation, index, all, false) == whole;  // their content is left out
  const auto [begin, end] = difference(whole, varied(conversation, index, all, by_calls), index);
  const auto [ignored, answered_end] =
      difference(answered, varied(conversation, index, index + 1, by_calls), index);
  const std::string_view tail = std::string_view(answered).substr(answered_end),
                         after = std::string_view(whole).substr(end);
  const size_t shared = shared_start(tail, after);
  return {begins && prompt.size() <= begin ? prompt.size() : begin, end + shared, shared < tail.size()};
}

// The text of the first `messages` of them where message `index` has another content, or other arguments of
// its calls.
std::string ConversationEncoder::varied(const Conversation& conversation, size_t index, size_t messages,
                                        bool by_calls) const {
  Conversation other = conversation;
  auto message = nlohmann::ordered_json::parse(other.messages[index].json);
  if (by_calls && message.contains("tool_calls")) {
    for (auto& call : message["tool_calls"]) call["function"]["arguments"] = {{"other", kOther}};
  } else {
    message["content"] = kOther;
    for (const char* reasoning : text::kReasoningKeys) message.erase(reasoning);
  }
  other.messages[index].json = message.dump();
  return text(other, messages, false);
}

// As TRL: no template, what the tokenizer puts before a text (a bos) unless it is there, the end-of-text
// token after the completion unless it has one, and the completion alone is learnt.
EncodedConversation ConversationEncoder::encode_plain(const Conversation& conversation) const {
  Rendered rendered{conversation.prompt + conversation.completion, {}};
  rendered.learnt.push_back({conversation.prompt.size(), rendered.text.size()});
  EncodedConversation out = tokens_of(rendered);
  const bool ended = !out.ids.empty() && out.ids.back() == tokenizer_->eos() && out.mask.back() == 1;
  if (tokenizer_->eos() >= 0 && !ended) {
    out.ids.push_back(tokenizer_->eos());
    out.mask.push_back(1);
  }
  if (!std::equal(start_.begin(), start_.end(), out.ids.begin(),
                  out.ids.begin() + static_cast<std::ptrdiff_t>(std::min(start_.size(), out.ids.size())))) {
    out.ids.insert(out.ids.begin(), start_.begin(), start_.end());
    out.mask.insert(out.mask.begin(), start_.size(), 0);
  }
  if (conversation.completion.empty()) out.notes.emplace_back(kEmptyAnswerNote);
  return out;
}

EncodedConversation ConversationEncoder::tokens_of(const Rendered& rendered) const {
  EncodedConversation out;
  out.ids = tokenizer_->encode(rendered.text);
  out.mask.assign(out.ids.size(), 0);
  const TokenPlaces places(*tokenizer_, rendered.text, out.ids);
  for (const Span& span : rendered.learnt) {
    const size_t begin = places.before(span.begin), end = places.before(span.end);
    const bool whole = span.partly || places.is_between(span.end);
    const size_t last = std::max(begin, std::min(end + (whole ? 0 : 1), out.ids.size()));
    std::fill(out.mask.begin() + static_cast<std::ptrdiff_t>(begin),
              out.mask.begin() + static_cast<std::ptrdiff_t>(last), 1);
  }
  return out;
}

}  // namespace flagscale::data
