#pragma once
// What a piece of a model's text adds to a message.

#include <string>
#include <vector>

namespace flagscale::serve {

struct CallDelta {
  int index = 0;          // of the call in its message
  std::string id, name;   // in a call's first delta, empty afterwards
  std::string arguments;  // more of its JSON text
};

struct Delta {
  std::string reasoning, content;
  std::vector<CallDelta> calls;
  bool empty() const { return reasoning.empty() && content.empty() && calls.empty(); }
};

// Adds what comes later to what came before: calls of one index are joined.
void append(Delta& to, Delta&& more);

}  // namespace flagscale::serve
