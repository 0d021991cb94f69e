#include "data/documents.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "base/check.h"
#include "base/error.h"
#include "data/parquet_rows.h"

namespace flagscale::data {
namespace {

constexpr size_t kLongestDocument = size_t{1} << 30;
constexpr size_t kPadding = 64;  // simdjson's

bool is_blank(std::string_view line) {
  return line.find_first_not_of(" \t\r\n\f\v") == std::string_view::npos;
}

// Past the last newline that ends a whole document, or 0: every line for JSON, blank lines between
// paragraphs.
size_t last_boundary(std::string_view text, bool paragraphs) {
  size_t end = text.rfind('\n');
  if (end == std::string_view::npos) return 0;
  if (!paragraphs) return end + 1;
  while (end > 0) {
    const size_t before = text.rfind('\n', end - 1);
    const size_t start = before == std::string_view::npos ? 0 : before + 1;
    if (is_blank(text.substr(start, end - start))) return end + 1;
    if (start == 0) return 0;
    end = before;
  }
  return 0;
}

}  // namespace

BlockReader::BlockReader(std::vector<std::string> files, InputFormat format, InputPosition begin,
                         size_t block_bytes, std::vector<std::string> columns)
    : files_(std::move(files)),
      format_(format),
      position_(begin),
      block_bytes_(std::max(block_bytes, size_t{1})),
      columns_(std::move(columns)) {}

BlockReader::~BlockReader() {
  if (fd_ >= 0) ::close(fd_);
}

void BlockReader::open_next() {
  const auto& path = files_[position_.file];
  fd_ = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd_ < 0)
    fail(errno == ENOENT ? ErrorKind::kNotFound : ErrorKind::kResource, "cannot open {}: {}", path,
         std::strerror(errno));
  unsigned char magic[4] = {};
  if (::pread(fd_, magic, 4, 0) >= 2 && magic[0] == 0x1f && magic[1] == 0x8b)
    fail(ErrorKind::kUnsupported, "{}: gzip-compressed; decompress it first (gunzip)", path);
  if (magic[0] == 0x28 && magic[1] == 0xb5 && magic[2] == 0x2f && magic[3] == 0xfd)
    fail(ErrorKind::kUnsupported, "{}: zstd-compressed; decompress it first (unzstd)", path);
  if (std::memcmp(magic, "PAR1", 4) == 0) {
    if (format_ != InputFormat::kJsonLines && format_ != InputFormat::kRecords)
      fail(ErrorKind::kUnsupported, "{}: a Parquet file: leave out --plain-text", path);
    rows_ = std::make_unique<ParquetRows>(path, columns_, position_.offset);
    return;
  }
  ::lseek(fd_, static_cast<off_t>(position_.offset), SEEK_SET);
  at_end_ = false;
}

// Reads another piece of the open file; false at its end.
bool BlockReader::fill() {
  const size_t old = pending_.size();
  const size_t step =
      std::max(block_bytes_, old);  // doubling: a long document is searched a bounded number of times
  pending_.resize(old + step);
  ssize_t count;
  do count = ::read(fd_, pending_.data() + old, step);
  while (count < 0 && errno == EINTR);
  if (count < 0)
    fail(ErrorKind::kResource, "cannot read {}: {}", files_[position_.file], std::strerror(errno));
  pending_.resize(old + static_cast<size_t>(count));
  at_end_ = count == 0;
  return count > 0;
}

// How much of what is read makes a block; 0: more must be read.
size_t BlockReader::cut() const {
  if (at_end_) return pending_.size();
  if (format_ == InputFormat::kWholeFile) return 0;
  return last_boundary({pending_.data(), pending_.size()}, format_ == InputFormat::kParagraphs);
}

// The next rows of the open Parquet file; false at its end.
bool BlockReader::next_rows(Block& block) {
  const std::string lines = rows_->next(block_bytes_);
  block.begin = position_;
  block.size = lines.size();
  block.buffer.assign(lines.begin(), lines.end());
  block.buffer.resize(lines.size() + kPadding, ' ');
  const int64_t rows = std::count(lines.begin(), lines.end(), '\n');
  position_.offset += static_cast<uint64_t>(rows);
  position_.line += rows;
  block.end = position_;
  return rows > 0;
}

bool BlockReader::next(Block& block) {
  for (;;) {
    if (position_.file >= files_.size()) return false;
    if (fd_ < 0) open_next();
    if (rows_) {
      if (next_rows(block)) return true;
      rows_.reset();
      ::close(fd_);
      fd_ = -1;
      position_ = {position_.file + 1, 0, 1};
      continue;
    }
    size_t size = 0;
    if (pending_.size() < block_bytes_) fill();
    while ((size = cut()) == 0 && !at_end_) {
      if (pending_.size() > kLongestDocument)
        fail(ErrorKind::kInvalidArgument, "{}:{}: a document of more than 1 GiB starts here",
             files_[position_.file], position_.line);
      fill();
    }
    block.begin = position_;
    block.size = size;
    block.buffer.assign(pending_.begin(), pending_.begin() + static_cast<std::ptrdiff_t>(size));
    block.buffer.resize(size + kPadding, ' ');
    pending_.erase(pending_.begin(), pending_.begin() + static_cast<std::ptrdiff_t>(size));
    position_.offset += size;
    position_.line += std::count(block.buffer.begin(), block.buffer.end(), '\n');
    if (at_end_ && pending_.empty()) {
      ::close(fd_);
      fd_ = -1;
      position_ = {position_.file + 1, 0, 1};
    }
    block.end = position_;
    if (size > 0) return true;
  }
}

}  // namespace flagscale::data
