#pragma once
// How far a preprocessing run is, in a small file beside its output, so that a killed run can go on.

#include <optional>
#include <string>
#include <vector>

#include "data/documents.h"
#include "data/indexed_writer.h"

namespace flagscale::data {

struct Journal {
  std::string job;         // everything that decides the output; another job does not go on from this journal
  InputPosition position;  // up to here the input is in the writers' files
  int64_t documents = 0, skipped = 0;
  std::vector<WriterPosition> writers;  // one a key
};

void save_journal(const std::string& path, const Journal& journal);
// None where there is no such file. kCorrupt names the file and says to delete it when it is not a journal.
std::optional<Journal> load_journal(const std::string& path);

}  // namespace flagscale::data
