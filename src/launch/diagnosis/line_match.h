#pragma once
// One pattern in one line, and the table's first that a line matches.

#include <optional>
#include <string_view>

#include "launch/diagnosis/pattern.h"

namespace flagscale::launch {

inline bool is_digit(char c) { return c >= '0' && c <= '9'; }

struct Span {
  size_t begin = 0, end = 0;
};

// Where an alternative (a pattern between two `|`) first stands in a line of lower case, from a place on.
std::optional<Span> match_alternative(std::string_view alternative, std::string_view lower_line,
                                      size_t from = 0);

// Whether the words around say that it did not happen: "no exception", "0 errors", "CUDA errors: 0".
bool is_denied(std::string_view lower_line, Span span);

// The first row of the table that the line matches and does not deny; null when none does. Lines that print
// an argument ("exit_signal ........ False") match nothing.
const Pattern* find_pattern(std::string_view line);

}  // namespace flagscale::launch
