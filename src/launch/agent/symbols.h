#pragma once
// Names for the addresses of a stack.

#include <string>

namespace flagscale::launch {

// The text, with the function's name behind each line "PROGRAM(+0x52f24f)[0x…]", which is how glibc prints a
// frame that no library exports, where the program's own symbol table has one (a stripped program has none).
std::string with_function_names(const std::string& stacks);

}  // namespace flagscale::launch
