#include "data/indexed_reader.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <limits>
#include <vector>

#include "base/check.h"
#include "base/error.h"

namespace flagscale::data {
namespace {

// Opens PATH for pread and returns its length.
int open_file(const std::string& path, uint64_t& bytes) {
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0)
    fail(errno == ENOENT ? ErrorKind::kNotFound : ErrorKind::kResource, "cannot open {}: {}", path,
         std::strerror(errno));
  struct stat status{};
  if (::fstat(fd, &status) != 0 || !S_ISREG(status.st_mode)) {
    ::close(fd);
    fail(ErrorKind::kInvalidArgument, "{} is {}, expected a file", path,
         S_ISDIR(status.st_mode) ? "a folder" : "no regular file");
  }
  bytes = static_cast<uint64_t>(status.st_size);
  return fd;
}

// The prefix that may be meant: `preprocess --output-prefix book` makes book_text_document.
std::string nearest_prefix(const std::string& prefix) {
  std::vector<std::string> others{prefix + "_text_document"};
  for (const char* end : {".bin", ".idx"})
    if (prefix.ends_with(end)) others.push_back(prefix.substr(0, prefix.size() - 4));
  for (const std::string& other : others)
    if (::access((other + ".idx").c_str(), F_OK) == 0) return other;
  return "";
}

// `prefix`, which has an index.
const std::string& existing(const std::string& prefix) {
  if (::access((prefix + ".idx").c_str(), F_OK) == 0 || errno != ENOENT) return prefix;
  const std::string near = nearest_prefix(prefix);
  fail(ErrorKind::kNotFound, "there is no {}.idx: expected the prefix of a .bin/.idx pair{}", prefix,
       near.empty() ? ", as `flagscale data preprocess` makes it" : "; did you mean " + near + "?");
}

}  // namespace

IndexedReader::IndexedReader(const std::string& prefix, bool mmap_bin, int64_t vocab_size)
    : prefix_(existing(prefix)),
      idx_(prefix + ".idx"),
      vocab_size_(vocab_size > 0 ? vocab_size : std::numeric_limits<int64_t>::max()) {
  const std::string bin_path = prefix + ".bin";
  if (mmap_bin) {
    bin_.emplace(bin_path);
    bin_bytes_ = bin_->bytes().size();
  } else {
    bin_fd_ = open_file(bin_path, bin_bytes_);
  }
  try {
    view_.emplace(idx_.bytes(), bin_bytes_, prefix + ".idx");
  } catch (...) {
    if (bin_fd_ >= 0) ::close(bin_fd_);
    throw;
  }
}

IndexedReader::~IndexedReader() {
  if (bin_fd_ >= 0) ::close(bin_fd_);
}

void IndexedReader::bytes_at(uint64_t start, std::span<std::byte> out) const {
  while (!out.empty()) {
    const ssize_t got = ::pread(bin_fd_, out.data(), out.size(), static_cast<off_t>(start));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) fail(ErrorKind::kResource, "cannot read {}.bin: {}", prefix_, std::strerror(errno));
    if (got == 0)
      fail(ErrorKind::kCorrupt, "{}.bin ends at byte {}; it had {} when it was opened", prefix_, start,
           bin_bytes_);
    out = out.subspan(static_cast<size_t>(got));
    start += static_cast<uint64_t>(got);
  }
}

template <class T>
void IndexedReader::widen(int64_t sequence, uint64_t start, std::span<int32_t> out) const {
  const int64_t largest = std::min<int64_t>(vocab_size_ - 1, std::numeric_limits<int32_t>::max());
  std::array<std::byte, 16384> buffer;
  constexpr size_t kStep = buffer.size() / sizeof(T);
  for (size_t done = 0; done < out.size(); done += kStep) {
    const size_t count = std::min(kStep, out.size() - done);
    const uint64_t at = start + done * sizeof(T);
    const std::byte* from = buffer.data();
    if (bin_)
      from = bin_->bytes().data() + at;
    else
      bytes_at(at, std::span(buffer).first(count * sizeof(T)));
    bool bad = false;
    // NOLINTNEXTLINE(bugprone-signed-char-misuse): an int8_t is a number here
    const auto id_at = [from](size_t i) { return static_cast<int64_t>(load<T>(from + i * sizeof(T))); };
    for (size_t i = 0; i < count; ++i) {
      const int64_t id = id_at(i);
      bad |= (id < 0) | (id > largest);
      out[done + i] = static_cast<int32_t>(id);
    }
    if (!bad) continue;
    for (size_t i = 0; i < count; ++i)
      if (const int64_t id = id_at(i); id < 0 || id > largest)
        fail(ErrorKind::kCorrupt,
             "{}.bin: sequence {} holds token id {}, the vocabulary has 0..{}: was it made with "
             "another tokenizer?",
             prefix_, sequence, id, largest);
  }
}

void IndexedReader::read(int64_t sequence, int64_t offset, std::span<int32_t> out) const {
  const auto& index = *view_;
  FLAGSCALE_CHECK(sequence >= 0 && sequence < index.sequences());
  FLAGSCALE_CHECK(offset >= 0 && offset + static_cast<int64_t>(out.size()) <= index.length(sequence));
  const auto start = static_cast<uint64_t>(index.offset(sequence) + offset * size_of(index.type()));
  switch (index.type()) {
    case TokenType::kU8:
      return widen<uint8_t>(sequence, start, out);
    case TokenType::kI8:
      return widen<int8_t>(sequence, start, out);
    case TokenType::kI16:
      return widen<int16_t>(sequence, start, out);
    case TokenType::kU16:
      return widen<uint16_t>(sequence, start, out);
    case TokenType::kI32:
      return widen<int32_t>(sequence, start, out);
    case TokenType::kI64:
      return widen<int64_t>(sequence, start, out);
    case TokenType::kF32:
    case TokenType::kF64:
      break;
  }
  FLAGSCALE_CHECK(false);  // IndexView refuses floating-point files
}

}  // namespace flagscale::data
