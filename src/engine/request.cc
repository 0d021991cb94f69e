#include "engine/request.h"

namespace flagscale::engine {

const char* name(FinishReason reason) {
  constexpr const char* kNames[] = {"", "stop", "length", "abort", "error"};
  return kNames[static_cast<int>(reason)];
}

}  // namespace flagscale::engine
