#pragma once
// What begins with a slash at the prompt.

#include <string>

#include "chat/conversation.h"

namespace flagscale::chat {

struct Command {
  enum class Then {
    kNotOne,  // a message to the model
    kGoOn,
    kAnswer,  // the last message again
    kEnd,
  } then = Then::kNotOne;
  std::string say;  // to the user
};

// Does what the line asks for. A line that begins with two slashes is a message that begins with one, and so
// is one whose first word is no name ("/etc/hosts is what?"). Throws Error with what to say.
Command run_command(const std::string& line, const std::string& model, Conversation& conversation);

}  // namespace flagscale::chat
