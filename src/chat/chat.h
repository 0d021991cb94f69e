#pragma once
// A conversation in the terminal: a message, its answer as it comes, and so on.

#include "chat/conversation.h"
#include "chat/line_reader.h"
#include "chat/model.h"

namespace flagscale::chat {

struct Screen {
  bool prompts = false;   // someone types: prompts and remarks are printed, Ctrl-C stops an answer only
  bool markdown = false;  // output is a terminal that shows attributes
};
// As standard input and output are; NO_COLOR and TERM=dumb leave text as it is.
Screen detect_screen();

// Until the input ends, /exit, or a second Ctrl-C at the prompt. Without prompts an answer that fails ends it
// with that Error.
void run_chat(Model& model, Conversation conversation, LineReader& lines, const Screen& screen);

}  // namespace flagscale::chat
