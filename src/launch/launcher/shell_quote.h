#pragma once
// sshd gives a command to the user's login shell, whichever that is: words are written so that all of them
// read the same.

#include <string>
#include <vector>

namespace flagscale::launch {

// One word, as sh, bash, dash, zsh, fish, csh and tcsh read it back. Error{kInvalidArgument} for a word with
// a newline, which csh cannot be given, or a zero byte, which no command can.
std::string shell_quote(const std::string& word);

std::string shell_quote(const std::vector<std::string>& words);  // with blanks between

}  // namespace flagscale::launch
