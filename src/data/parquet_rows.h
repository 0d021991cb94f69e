#pragma once
// Parquet files read as JSON lines are: a row is an object, whose keys are the columns (nested ones too: a
// list of structs is a list of objects). A field that is null is left out. Snappy, zstd and gzip.

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace flagscale::data {

// By its first bytes. False also for a file that cannot be read.
bool is_parquet(const std::string& path);

// Throws Error{kCorrupt} naming the file.
std::vector<std::string> parquet_columns(const std::string& path);

class ParquetRows {
 public:
  // columns: those to read, where the file has any of them; else all. first: rows to pass over. Throws
  // Error{kCorrupt} naming the file, as next() does with the row.
  ParquetRows(std::string path, const std::vector<std::string>& columns, uint64_t first);
  ~ParquetRows();
  // Lines of at least `least` bytes together; empty at the end.
  std::string next(size_t least);

 private:
  struct Handle;
  std::string path_;
  std::unique_ptr<Handle> handle_;
};

}  // namespace flagscale::data
