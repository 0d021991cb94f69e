#pragma once
// Conversations as token ids with a mask of what is learnt, by the model's own chat template. What the
// assistant wrote is found in the template's text:
//   where the template marks it ({% generation %}), by its marks;
//   else by rendering the conversation up to each answer, with the generation prompt and with the answer: an
//   answer is all that a model would have to generate after the prompt, its end-of-turn token included.
// Some templates write an earlier answer otherwise than the last (Qwen3 leaves its reasoning out); then the
// answer is found by rendering the conversation with another one in its place.

#include <memory>
#include <string>
#include <vector>

#include "data/conversation.h"
#include "text/tokenizer.h"

namespace flagscale::data {

enum class LearntPart { kAnswers, kLastAnswer, kAll };

struct EncodedConversation {
  std::vector<int32_t> ids, mask;  // mask: 1 for what is learnt
  // What is as the record says and yet may not be meant, once for each message it is true of: an answer that
  // is empty, so that its end alone is learnt; a role that no template need know; a message that the template
  // leaves out. Words to count by.
  std::vector<std::string> notes;
};

// Immutable: any thread may encode.
class ConversationEncoder {
 public:
  // chat_template: instead of the tokenizer's own; may be empty. Throws Error{kNotFound} where there is none
  // at all and one is needed, which prompt-completion text does not.
  ConversationEncoder(std::shared_ptr<const text::Tokenizer> tokenizer, const std::string& chat_template,
                      LearntPart part);
  ~ConversationEncoder();

  // Throws Error{kInvalidArgument}: what the template refuses, an answer that cannot be found in its text, a
  // message of unknown role that the template leaves out, a conversation without anything to learn.
  EncodedConversation encode(const Conversation& conversation) const;

 private:
  static constexpr const char* kEmptyAnswerNote = "answers that are empty, whose end is learnt";

  struct Span {  // bytes of the text
    size_t begin, end;
    bool partly =
        false;  // what comes after may begin like what ends here: a token across the end is not of it
  };
  struct Rendered {
    std::string text;
    std::vector<Span> learnt;
  };
  std::vector<bool> chosen(const Conversation& conversation) const;  // whether each message is learnt
  Rendered render(const Conversation& conversation) const;
  Rendered by_marks(const Conversation& conversation) const;
  Rendered by_prompts(const Conversation& conversation) const;
  Span answer(const Conversation& conversation, size_t index, const std::string& whole) const;
  std::string text(const Conversation& conversation, size_t messages, bool prompt) const;
  std::string varied(const Conversation& conversation, size_t index, size_t messages, bool by_calls) const;
  EncodedConversation encode_messages(const Conversation& conversation) const;
  EncodedConversation encode_plain(const Conversation& conversation) const;
  // conversation_notes.cc
  std::vector<std::string> notes(const Conversation& conversation, const std::string& whole) const;
  std::vector<size_t> left_out(const Conversation& conversation, const std::string& whole) const;
  EncodedConversation tokens_of(const Rendered& rendered) const;

  std::shared_ptr<const text::Tokenizer> tokenizer_;
  std::unique_ptr<const text::ChatTemplate> template_;
  std::vector<int32_t> start_;  // what the tokenizer puts before a text
  bool marked_ = false;
  LearntPart part_;
};

}  // namespace flagscale::data
