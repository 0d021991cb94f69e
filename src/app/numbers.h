#pragma once
// Numbers given as flags: one that is none, or not in the flag's range, is refused by the flag's name with
// what would be right.

#include <CLI/CLI.hpp>
#include <concepts>
#include <cstdint>

namespace flagscale {

CLI::Validator between_whole(int64_t least, int64_t most);
CLI::Validator between_real(double least, double most);

// For add_option()->check().
template <class T>
CLI::Validator between(T least, T most) {
  if constexpr (std::integral<T>)
    return between_whole(least, most);
  else
    return between_real(least, most);
}

// Gives every flag for a number, below `app` too, the range of its type: negative seeds and numbers of more
// than 64 bits would be taken for others, and NaN for one inside any range.
void check_numbers(CLI::App& app);

}  // namespace flagscale
