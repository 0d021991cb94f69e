#pragma once
// Our own bugs: a failed check prints the expression and a stack, and aborts. Nothing that a user, a file or
// the network sends may reach one: that is base/error.h.

namespace flagscale {
[[noreturn]] void check_failed(const char* expression, const char* file, int line);
}

#define FLAGSCALE_CHECK(condition) \
  (static_cast<bool>(condition) ? void() : ::flagscale::check_failed(#condition, __FILE__, __LINE__))
