#include "base/check.h"

#include <execinfo.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>

namespace flagscale {

void check_failed(const char* expression, const char* file, int line) {
  std::fprintf(stderr, "flagscale: internal error: %s failed at %s:%d; please report this\n", expression,
               file, line);
  void* frames[64];
  backtrace_symbols_fd(frames, backtrace(frames, 64), STDERR_FILENO);
  std::abort();
}

}  // namespace flagscale
