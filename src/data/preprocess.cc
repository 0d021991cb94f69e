#include "data/preprocess.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>

#include "base/error.h"
#include "base/interrupt.h"
#include "base/log.h"
#include "base/parallel.h"
#include "base/progress.h"
#include "base/text_encoding.h"
#include "data/encoded_block.h"
#include "data/indexed_reader.h"
#include "data/indexed_writer.h"
#include "data/journal.h"
#include "data/ordered_workers.h"
#include "data/parquet_rows.h"
#include "data/preprocess_job.h"
#include "data/skipped_file.h"

namespace flagscale::data {
namespace {

constexpr int kBrokenShown = 10;
constexpr size_t kMostNotes = 32;  // roles are the records' own words

// "data/a.jsonl:3", "data/a.parquet: row 3".
std::string place(const std::string& path, int64_t line) {
  return is_parquet(path) ? fmt::format("{}: row {}", path, line) : fmt::format("{}:{}", path, line);
}

int64_t count_ones(const std::string& prefix) {
  const IndexedReader reader(prefix);
  int64_t count = 0;
  std::vector<int32_t> tokens;
  for (int64_t s = 0; s < reader.index().sequences(); ++s) {
    throw_if_interrupted();
    tokens.resize(static_cast<size_t>(reader.index().length(s)));
    reader.read(s, 0, tokens);
    count += std::count(tokens.begin(), tokens.end(), 1);
  }
  return count;
}

// One run: the writers, the journal, and what is reported in the end.
class Run {
 public:
  explicit Run(const PreprocessOptions& options)
      : options_(options), journal_path_(options.output_prefix + ".preprocess.json") {
    check_options(options);
    add_up_inputs();
    check_columns(options);
    journal_.job = describe_job(options);
    journal_.writers.resize(options.keys.size());
    resume();
    try {
      open_outputs();
    } catch (const Error& error) {
      if (error.kind() == ErrorKind::kCorrupt)
        rethrow_with(fmt::format("cannot go on; delete {} to start over", journal_path_));
      throw;
    }
  }

  PreprocessReport execute() {
    Progress progress("preprocess", report_.input_bytes, "B");
    progress.resume_at(bytes_before(journal_.position));
    const int threads = options_.workers > 0 ? options_.workers : available_cores();
    BlockReader reader(options_.inputs, options_.format, journal_.position, options_.block_bytes,
                       columns_to_read(options_));
    OrderedWorkers<Block, Encoded> workers(
        threads, [&](Block& block) { return reader.next(block); },
        [this] {
          auto parser = std::make_shared<DocumentParser>(
              options_.format, options_.conversations ? std::vector<std::string>{"record"} : options_.keys);
          const Encoder encoder = options_.conversations ? nullptr : options_.make_encoder();
          return [this, parser, encode = encoder](const Block& block) {
            return encode_block(options_, *parser, encode, block);
          };
        });
    auto saved = std::chrono::steady_clock::now();
    try {
      while (const auto block = workers.next()) {
        write(*block);
        progress.set(bytes_before(journal_.position));
        const auto now = std::chrono::steady_clock::now();
        if (std::chrono::duration<double>(now - saved).count() >= options_.seconds_between_checkpoints) {
          checkpoint();
          saved = now;
        }
        throw_if_interrupted();
      }
    } catch (const Error& error) {
      Progress::clear_line();
      if (error.kind() != ErrorKind::kResource) keep();  // a full disk has no room for a journal either
      throw;
    }
    progress.finish();
    finish();
    return report_;
  }

 private:
  void add_up_inputs() {
    for (const auto& path : options_.inputs) {
      std::error_code error;
      const uint64_t bytes = std::filesystem::file_size(path, error);
      if (error == std::errc::not_supported || error == std::errc::operation_not_supported)
        fail(ErrorKind::kInvalidArgument,
             "{} is no file: what is stopped goes on in the middle of its input, which a pipe does not keep",
             path);
      if (error) fail(ErrorKind::kNotFound, "cannot read {}: {}", path, error.message());
      if (!std::ifstream(path)) fail(ErrorKind::kResource, "cannot open {}: {}", path, std::strerror(errno));
      refuse_file_of_other_encoding(path);
      begins_.push_back(report_.input_bytes);
      report_.input_bytes += static_cast<int64_t>(bytes);
    }
    begins_.push_back(report_.input_bytes);
  }

  void resume() {
    auto found = load_journal(journal_path_);
    if (!found) return;
    if (found->job != journal_.job || found->writers.size() != options_.keys.size()) {
      warn("{} is of other inputs or settings: starting over", journal_path_);
      return;
    }
    journal_ = std::move(*found);
    report_.resumed = true;
    info("going on after {} documents, {} read", journal_.documents,
         format_amount(static_cast<double>(bytes_before(journal_.position)), "B"));
  }

  void open_outputs() {
    for (size_t k = 0; k < options_.keys.size(); ++k) {
      const std::string prefix = fmt::format("{}_{}_document", options_.output_prefix, options_.keys[k]);
      report_.prefixes.push_back(prefix);
      writers_.push_back(std::make_unique<IndexedWriter>(prefix, smallest_type(options_.vocab_size), false,
                                                         journal_.writers[k]));
    }
    skipped_.emplace(options_.output_prefix + ".skipped.jsonl", journal_.skipped_bytes);
  }

  int64_t bytes_before(const InputPosition& position) const {
    return begins_[std::min(position.file, options_.inputs.size())] + static_cast<int64_t>(position.offset);
  }

  void write(const Encoded& block) {
    if (!block.broken.empty() && !options_.skip_broken) {
      // Nothing of this block is kept: after the line is mended or skipped, the run goes on at the block's
      // start.
      const auto& first = block.broken.front();
      const bool text = options_.format == InputFormat::kJsonLines && first.why.starts_with("not JSON");
      fail(ErrorKind::kInvalidArgument, "{}: {}; --on-error skip passes over such documents{}",
           place(options_.inputs[block.begin.file], first.line), first.why,
           text && journal_.documents == 0 ? "; if this is text, not JSON lines, add --plain-text" : "");
    }
    const std::string& file = options_.inputs[block.begin.file];
    for (const auto& broken : block.broken) {
      skipped_->add(file, broken.line, broken.why);
      if (++journal_.skipped > kBrokenShown) continue;
      Progress::clear_line();
      warn("{}: {}: skipped", place(file, broken.line), broken.why);
    }
    for (const auto& [words, note] : block.notes) count(words, note, file);
    for (size_t k = 0; k < writers_.size(); ++k) write_key(block.keys[k], *writers_[k]);
    journal_.documents += block.documents;
    journal_.position = block.end;
  }

  void count(const std::string& words, const Encoded::Note& note, const std::string& file) {
    const bool full = journal_.notes.size() >= kMostNotes && !journal_.notes.contains(words);
    NoteCount& known = journal_.notes[full ? "messages of still other roles" : words];
    if (known.count == 0) known.place = place(file, note.line);
    known.count += note.count;
  }

  static void write_key(const Encoded::Key& key, IndexedWriter& writer) {
    const std::span<const int32_t> tokens(key.tokens);
    size_t token = 0, sequence = 0;
    for (const int32_t sequences : key.sequences) {
      for (int32_t i = 0; i < sequences; ++i) {
        const auto length = static_cast<size_t>(key.lengths[sequence++]);
        writer.add_sequence(tokens.subspan(token, length));
        token += length;
      }
      writer.end_document();
    }
  }

  void checkpoint() {
    for (size_t k = 0; k < writers_.size(); ++k) journal_.writers[k] = writers_[k]->sync();
    journal_.skipped_bytes = skipped_->sync();
    save_journal(journal_path_, journal_);
  }

  // After a stop: what is done waits for the same command. Of nothing, nothing is kept.
  void keep() {
    if (journal_.documents > 0 || journal_.skipped > 0) {
      checkpoint();
      info("run the same command again to go on after {} documents; delete {} to start over",
           journal_.documents, journal_path_);
      return;
    }
    remove_parts();
  }

  void remove_parts() {
    std::remove(journal_path_.c_str());
    for (const auto& writer : writers_) writer->remove_parts();
  }

  void finish() {
    skipped_->sync();
    if (journal_.documents == 0) {
      remove_parts();
      fail(ErrorKind::kInvalidArgument, "no documents in {} ({} skipped{})", fmt::join(options_.inputs, ", "),
           journal_.skipped, journal_.skipped > 0 ? ": see " + skipped_->path() : "");
    }
    if (journal_.skipped > kBrokenShown)
      warn("{} more: see {}", journal_.skipped - kBrokenShown, skipped_->path());
    checkpoint();
    for (const auto& writer : writers_) writer->commit();
    remove_parts();
    for (const auto& writer : writers_) report_.tokens.push_back(writer->position().tokens);
    if (options_.conversations) report_.learnt = count_ones(report_.prefixes[1]);
    report_.documents = journal_.documents;
    report_.skipped = journal_.skipped;
    if (journal_.skipped > 0) report_.skipped_file = skipped_->path();
    for (const auto& [words, note] : journal_.notes) report_.notes.push_back({words, note.place, note.count});
  }

  const PreprocessOptions& options_;
  std::string journal_path_;
  Journal journal_;
  PreprocessReport report_;
  std::vector<int64_t> begins_;  // of each input in all of their bytes, and the end
  std::vector<std::unique_ptr<IndexedWriter>> writers_;
  std::optional<SkippedFile> skipped_;
};

}  // namespace

PreprocessReport preprocess(const PreprocessOptions& options) { return Run(options).execute(); }

std::string to_json(const PreprocessReport& report) {
  nlohmann::json outputs = nlohmann::json::array();
  for (size_t k = 0; k < report.prefixes.size(); ++k)
    outputs.push_back({{"prefix", report.prefixes[k]}, {"tokens", report.tokens[k]}});
  nlohmann::json json = {{"outputs", outputs},
                         {"documents", report.documents},
                         {"skipped", report.skipped},
                         {"input_bytes", report.input_bytes},
                         {"resumed", report.resumed}};
  if (report.learnt > 0) json["learnt_tokens"] = report.learnt;
  if (!report.skipped_file.empty()) json["skipped_file"] = report.skipped_file;
  for (const auto& note : report.notes)
    json["notes"].push_back({{"what", note.words}, {"count", note.count}, {"first", note.first}});
  return json.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace) + "\n";
}

}  // namespace flagscale::data
