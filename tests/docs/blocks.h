#pragma once
// The fenced blocks of a Markdown file that a reader would type, with the output that the page shows for
// them:
//
//   ```sh            a command, run with bash
//   ```text          right after it: what it prints, loosely
//
// Any other fence (yaml, console, ...) is for reading only.

#include <string>
#include <vector>

namespace flagscale::docs {

struct Block {
  int line = 0;  // of the opening fence, from 1
  std::string command;
  std::string output;  // "" where the page shows none
};

std::vector<Block> blocks(const std::string& markdown);

// The first shown line that the printed text lacks, or "". Shown lines must come in order, others may stand
// between them. Loosely: white space collapses, any number stands for any other, an ellipsis for anything.
std::string first_missing(const std::string& shown, const std::string& printed);

}  // namespace flagscale::docs
