#include "serve/output/delta.h"

#include <utility>

namespace flagscale::serve {

void append(Delta& to, Delta&& more) {
  to.reasoning += more.reasoning;
  to.content += more.content;
  for (CallDelta& call : more.calls) {
    if (!to.calls.empty() && to.calls.back().index == call.index)
      to.calls.back().arguments += call.arguments;
    else
      to.calls.push_back(std::move(call));
  }
}

}  // namespace flagscale::serve
