#pragma once
// The fenced blocks of a Markdown file that a reader would type, with the output that the page shows for
// them:
//
//   ```sh            a command, run with bash
//   ```text          right after it: what it prints, loosely
//
//   ```console       a session: commands after "$ " (a \ at the end goes on), below each what it prints
//
// In a session NAME=value holds for what follows it; lines after "> " are typed into the command above, what
// stands before them is for terminals alone; a command that says that Ctrl-C stops it goes on until the next
// such one or the page's end. ```console not run: WHY is for other machines. Any other fence (yaml, python, a
// text that follows no command) is for reading only.

#include <filesystem>
#include <string>
#include <vector>

namespace flagscale::docs {

struct Block {
  int line = 0;  // of the opening fence, from 1
  std::string command;
  std::string output;        // "" where the page shows none
  bool server = false;       // goes on, once it has printed its output
  std::string not_run = {};  // why, where it is not to be run
};

std::vector<Block> blocks(const std::string& markdown);

// README.md, then docs/*.md by their names.
std::vector<std::filesystem::path> pages(const std::filesystem::path& tree);

std::string text_of(const std::filesystem::path& file);

// The first shown line that the printed text lacks, or "". Shown lines must come in order, others may stand
// between them. Loosely: white space collapses, any number stands for any other, an ellipsis for anything,
// the blanks around it included.
std::string first_missing(const std::string& shown, const std::string& printed);

}  // namespace flagscale::docs
