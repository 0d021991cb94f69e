#pragma once
// Numbers given as flags: one that is none, or not in the flag's range, is refused by the flag's name with
// what would be right.

namespace CLI {
class App;
class Validator;
}  // namespace CLI

namespace flagscale {

// For add_option()->check(); int, int64_t, float or double.
template <class T>
CLI::Validator between(T least, T most);

// Gives every flag for a number, below `app` too, the range of its type: negative seeds and numbers of more
// than 64 bits would be taken for others, and NaN for one inside any range.
void check_numbers(CLI::App& app);

}  // namespace flagscale
