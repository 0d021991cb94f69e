#pragma once
// Text files as documents: cut into blocks that can be worked on apart, and each block into its documents. A
// Parquet file is read as the JSON lines that its rows are.

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace flagscale::data {

class ParquetRows;

enum class InputFormat {
  kJsonLines,   // an object a line; blank lines are passed over
  kRecords,     // the same, but a line is one text, whatever is in it
  kParagraphs,  // plain text, documents parted by blank lines
  kWholeFile,   // plain text, a document a file
};

// Between two documents: file number, byte in it, line at that byte (from 1). Of Parquet both are rows.
struct InputPosition {
  size_t file = 0;
  uint64_t offset = 0;
  int64_t line = 1;
  friend bool operator==(const InputPosition&, const InputPosition&) = default;
};

// Whole documents of one file.
struct Block {
  InputPosition begin, end;  // end is in the same file, or at the start of the next
  std::vector<char> buffer;  // the text and then padding that parsers may read past its end
  size_t size = 0;           // of the text
  std::string_view text() const { return {buffer.data(), size}; }
};

class BlockReader {
 public:
  // Reads the files one after another in blocks of about block_bytes: more where one document is longer, up
  // to 1 GiB. columns: those of a Parquet file that are read, where it has any of them; else all.
  BlockReader(std::vector<std::string> files, InputFormat format, InputPosition begin, size_t block_bytes,
              std::vector<std::string> columns = {});
  ~BlockReader();
  // False at the end. Errors name the file: kNotFound, kResource; kUnsupported for gzip and zstd
  // and for Parquet as plain text, kCorrupt for a broken Parquet file, kInvalidArgument for a document longer
  // than 1 GiB.
  bool next(Block& block);

 private:
  void open_next();
  bool next_rows(Block& block);
  bool fill();
  size_t cut() const;

  std::vector<std::string> files_;
  InputFormat format_;
  InputPosition position_;
  size_t block_bytes_;
  std::vector<std::string> columns_;
  int fd_ = -1;
  std::unique_ptr<ParquetRows> rows_;  // of the open file, where it is Parquet
  bool at_end_ = false;                // of the open file
  std::vector<char> pending_;          // read, not yet handed out
};

// A document: for each key its text, in several pieces where JSON has a list of strings. Valid during the
// call only.
struct Document {
  int64_t line;
  std::vector<std::vector<std::string_view>> texts;  // [keys][pieces]
};

// A worker's own; keeps its parser's memory between blocks.
class DocumentParser {
 public:
  // keys: what to take of each JSON object; plain text has one key whose name does not matter.
  DocumentParser(InputFormat format, std::vector<std::string> keys);
  ~DocumentParser();

  // Hands on every document of the block in order. A broken one (not JSON, not UTF-8, a key missing or not
  // text) goes to `broken` with its line and the reason; false from it ends the block.
  void parse(const Block& block, const std::function<void(const Document&)>& document,
             const std::function<bool(int64_t line, const std::string& why)>& broken);

 private:
  struct Json;
  std::string parse_line(std::string_view line, size_t room, Document& document);
  InputFormat format_;
  std::vector<std::string> keys_;
  std::unique_ptr<Json> json_;
};

}  // namespace flagscale::data
