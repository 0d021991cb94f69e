#pragma once
// "Did you mean": the candidate with the smallest edit distance to a misspelt name.

#include <algorithm>
#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

namespace flagscale {

// Optimal string alignment distance: insertions, deletions, substitutions and swaps of neighbours, each 1.
size_t edit_distance(std::string_view a, std::string_view b);

// The nearest candidate no further than a third of the name's length (at least 1, at most 3), else "". The
// first of equals.
std::string nearest(std::string_view name, const std::vector<std::string>& candidates);

inline bool is_among(const std::vector<std::string>& names, std::string_view name) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

}  // namespace flagscale
