#include "data/parquet_rows.h"

#include <fmt/ranges.h>

#include <cstring>
#include <fstream>
#include <sstream>

#include "base/error.h"
#include "text/rust_library.h"

namespace flagscale::data {

struct ParquetRows::Handle {
  FsRows* rows = nullptr;
  ~Handle() { fs_rows_free(rows); }
};

bool is_parquet(const std::string& path) {
  char magic[4] = {};
  std::ifstream(path, std::ios::binary).read(magic, sizeof magic);
  return std::memcmp(magic, "PAR1", 4) == 0;
}

std::vector<std::string> parquet_columns(const std::string& path) {
  text::RustBuffer names;
  text::check_rust(fs_rows_columns(text::bytes_of(path), path.size(), names.out()), names, path,
                   text::RustFault::kCorruptFile);
  std::vector<std::string> result;
  std::istringstream lines{std::string(names.view())};
  for (std::string name; std::getline(lines, name);) result.push_back(name);
  return result;
}

ParquetRows::ParquetRows(std::string path, const std::vector<std::string>& columns, uint64_t first)
    : path_(std::move(path)), handle_(std::make_unique<Handle>()) {
  const std::string names = fmt::format("{}", fmt::join(columns, "\n"));
  text::RustBuffer opened, skipped;
  text::check_rust(fs_rows_open(text::bytes_of(path_), path_.size(), text::bytes_of(names), names.size(),
                                &handle_->rows, opened.out()),
                   opened, path_, text::RustFault::kCorruptFile);
  text::check_rust(fs_rows_skip(handle_->rows, first, skipped.out()), skipped, path_,
                   text::RustFault::kCorruptFile);
}

ParquetRows::~ParquetRows() = default;

std::string ParquetRows::next(size_t least) {
  text::RustBuffer lines;
  text::check_rust(fs_rows_next(handle_->rows, least, lines.out()), lines, path_,
                   text::RustFault::kCorruptFile);
  return std::string(lines.view());
}

}  // namespace flagscale::data
