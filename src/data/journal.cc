#include "data/journal.h"

#include <filesystem>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "io/atomic_file.h"

namespace flagscale::data {

void save_journal(const std::string& path, const Journal& journal) {
  nlohmann::json writers = nlohmann::json::array();
  for (const auto& w : journal.writers)
    writers.push_back({{"sequences", w.sequences}, {"documents", w.documents}, {"tokens", w.tokens}});
  nlohmann::json notes = nlohmann::json::array();
  for (const auto& [words, note] : journal.notes) notes.push_back({words, note.count, note.place});
  const nlohmann::json json = {
      {"version", 2},
      {"job", journal.job},
      {"file", journal.position.file},
      {"offset", journal.position.offset},
      {"line", journal.position.line},
      {"documents", journal.documents},
      {"skipped", journal.skipped},
      {"skipped_bytes", journal.skipped_bytes},
      {"notes", notes},
      {"writers", writers},
  };
  io::write_file(path, json.dump(1, ' ', false, nlohmann::json::error_handler_t::replace));
}

std::optional<Journal> load_journal(const std::string& path) {
  if (!std::filesystem::exists(path)) return std::nullopt;
  try {
    const auto json = nlohmann::json::parse(io::read_file(path, uint64_t{1} << 26));
    if (json.at("version") != 2) throw std::runtime_error("version is not 2");
    Journal journal;
    journal.job = json.at("job");
    journal.position = {json.at("file"), json.at("offset"), json.at("line")};
    journal.documents = json.at("documents");
    journal.skipped = json.at("skipped");
    journal.skipped_bytes = json.at("skipped_bytes");
    for (const auto& note : json.at("notes")) journal.notes[note.at(0)] = {note.at(1), note.at(2)};
    for (const auto& w : json.at("writers")) {
      const WriterPosition position{w.at("sequences"), w.at("documents"), w.at("tokens")};
      if (position.sequences < 0 || position.documents < 0 || position.tokens < 0)
        throw std::runtime_error("a count is negative");
      journal.writers.push_back(position);
    }
    return journal;
  } catch (const Error&) {
    throw;
  } catch (const std::exception& error) {
    fail(ErrorKind::kCorrupt, "{}: not the journal of a preprocessing run ({}); delete it to start over",
         path, error.what());
  }
}

}  // namespace flagscale::data
