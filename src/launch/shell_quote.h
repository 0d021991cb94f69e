#pragma once
// Words as a shell reads them back: sh, bash, dash, zsh and fish alike, and csh and tcsh but for a newline.
// sshd gives a command to the user's login shell, whichever that is; scripts have bash.

#include <string>
#include <vector>

namespace flagscale::launch {

// One word. Error{kInvalidArgument} for one with a zero byte, which no command can have.
std::string shell_quote(const std::string& word);

std::string shell_quote(const std::vector<std::string>& words);  // with blanks between

}  // namespace flagscale::launch
