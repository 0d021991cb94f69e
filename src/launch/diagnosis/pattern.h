#pragma once
// What log lines say about a job's end, as data: one table (pattern_table.cc), the specific before the
// general.
//
// A pattern is lower case and is looked for anywhere in a line, whatever the line's case: `*` stands for any
// text, `#` for a number, `<` and `>` for the start and the end of a word, `|` separates alternatives:
// "<connect*timed out|error #". Its longest piece of plain text finds it (keyword_search.h), so each
// alternative has one of three characters or more.

#include <cstdint>
#include <span>

namespace flagscale::launch {

// In the order in which a diagnosis believes them.
enum class Role : uint8_t {
  kCause,        // names what is wrong
  kCrash,        // something failed; this line does not say why
  kConsequence,  // what is seen of another rank's end, or of a stop from outside
  kPossible,     // often harmless: believed where nothing better is there
  kAftermath,    // follows a crash and adds nothing
  kCompleted,    // the job says that it is done; hides nothing
  kProgress,     // training or serving gets on: what was reported well before did not end the job
  kStart,        // a run or an attempt begins: what stands before belongs to an earlier one
  kNothing,      // looks like another pattern and is none
};

struct Pattern {
  const char* match;
  const char* label;    // one word, FlagScale's where it has the pattern
  const char* meaning;  // a sentence
  const char* hint;     // what to do
  Role role;
  bool lasting = false;  // still true after progress: a worn GPU, a loss that is NaN
};

std::span<const Pattern> patterns();

}  // namespace flagscale::launch
