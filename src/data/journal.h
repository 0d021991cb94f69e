#pragma once
// How far a preprocessing run is, in a small file beside its output, so that a killed run can go on.

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "data/documents.h"
#include "data/indexed_writer.h"

namespace flagscale::data {

// What a run counts of conversations (EncodedConversation's notes), and where it first met it.
struct NoteCount {
  int64_t count = 0;
  std::string place;  // "chats.jsonl:9"
};

struct Journal {
  std::string job;         // everything that decides the output; another job does not go on from this journal
  InputPosition position;  // up to here the input is in the writers' files
  int64_t documents = 0, skipped = 0;
  uint64_t skipped_bytes = 0;  // of the file that lists them
  std::map<std::string, NoteCount> notes;
  std::vector<WriterPosition> writers;  // one a key
};

void save_journal(const std::string& path, const Journal& journal);
// None where there is no such file. kCorrupt names the file and says to delete it when it is not a journal.
std::optional<Journal> load_journal(const std::string& path);

}  // namespace flagscale::data
