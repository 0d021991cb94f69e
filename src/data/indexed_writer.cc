#include "data/indexed_writer.h"

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <limits>

#include "base/check.h"
#include "base/error.h"
#include "data/index_view.h"
#include "io/atomic_file.h"

namespace flagscale::data {
namespace {

uint64_t bytes_of(int64_t count, int64_t width) { return static_cast<uint64_t>(count * width); }

// Copies a part file in pieces, each passed through `change` as values of type T.
template <class T, class Change>
void copy_values(const PartFile& from, io::AtomicFile& to, Change change) {
  using Out = decltype(change(T{}));
  constexpr uint64_t kStep = uint64_t{1} << 16;
  std::vector<T> values(kStep);
  std::vector<Out> out(kStep);
  const uint64_t count = from.size() / sizeof(T);
  for (uint64_t i = 0; i < count; i += kStep) {
    const uint64_t n = std::min(kStep, count - i);
    from.read(i * sizeof(T), std::as_writable_bytes(std::span(values).first(n)));
    std::transform(values.begin(), values.begin() + static_cast<std::ptrdiff_t>(n), out.begin(), change);
    to.write(std::as_bytes(std::span(out).first(n)));
  }
}

}  // namespace

IndexedWriter::IndexedWriter(std::string prefix, TokenType type, bool modes, WriterPosition resume)
    : prefix_(std::move(prefix)),
      type_(type),
      position_(resume),
      lengths_(prefix_ + ".lengths.part", bytes_of(resume.sequences, 4)),
      documents_(prefix_ + ".documents.part", bytes_of(resume.documents, 8)) {
  FLAGSCALE_CHECK(type != TokenType::kF32 && type != TokenType::kF64 && size_of(type) > 0);
  const uint64_t bin_bytes = bytes_of(resume.tokens, size_of(type));
  // A kill inside commit() can leave the .bin renamed already; then only the .idx is missing.
  std::error_code missing;
  const bool renamed = !std::filesystem::exists(prefix_ + ".bin.part") &&
                       std::filesystem::file_size(prefix_ + ".bin", missing) == bin_bytes && bin_bytes > 0;
  if (!renamed) bin_.emplace(prefix_ + ".bin.part", bin_bytes);
  if (modes) modes_.emplace(prefix_ + ".modes.part", bytes_of(resume.sequences, 1));
}

template <class T>
void IndexedWriter::put(std::span<const int32_t> tokens) {
  packed_.resize(tokens.size() * sizeof(T));
  for (size_t i = 0; i < tokens.size(); ++i) {
    const auto value = static_cast<T>(tokens[i]);
    if (static_cast<int64_t>(value) != tokens[i])
      fail(ErrorKind::kInvalidArgument, "{}.bin: token id {} does not fit its type {}", prefix_, tokens[i],
           name(type_));
    std::memcpy(packed_.data() + i * sizeof(T), &value, sizeof(T));
  }
  bin_->append(packed_);
}

void IndexedWriter::add_sequence(std::span<const int32_t> tokens, int8_t mode) {
  FLAGSCALE_CHECK(bin_.has_value());
  if (tokens.size() > static_cast<size_t>(std::numeric_limits<int32_t>::max()))
    fail(ErrorKind::kUnsupported, "{}: a sequence of {} tokens, at most 2^31 - 1 can be indexed", prefix_,
         tokens.size());
  switch (type_) {
    case TokenType::kU8:
      put<uint8_t>(tokens);
      break;
    case TokenType::kI8:
      put<int8_t>(tokens);
      break;
    case TokenType::kI16:
      put<int16_t>(tokens);
      break;
    case TokenType::kU16:
      put<uint16_t>(tokens);
      break;
    case TokenType::kI32:
      put<int32_t>(tokens);
      break;
    case TokenType::kI64:
      put<int64_t>(tokens);
      break;
    case TokenType::kF32:
    case TokenType::kF64:
      FLAGSCALE_CHECK(false);
  }
  lengths_.append_value(static_cast<int32_t>(tokens.size()));
  if (modes_) modes_->append_value(mode);
  ++position_.sequences;
  position_.tokens += static_cast<int64_t>(tokens.size());
}

void IndexedWriter::end_document() {
  documents_.append_value(position_.sequences);
  ++position_.documents;
}

WriterPosition IndexedWriter::sync() {
  if (bin_) bin_->sync();
  lengths_.sync();
  documents_.sync();
  if (modes_) modes_->sync();
  return position_;
}

void IndexedWriter::write_index() {
  io::AtomicFile idx(prefix_ + ".idx");
  std::vector<std::byte> header(kIndexHeaderBytes);
  const uint64_t version = 1, sequences = static_cast<uint64_t>(position_.sequences),
                 boundaries = static_cast<uint64_t>(position_.documents) + 1;
  std::memcpy(header.data(), kIndexMagic, sizeof(kIndexMagic));
  std::memcpy(header.data() + 9, &version, 8);
  std::memcpy(header.data() + 17, &type_, 1);
  std::memcpy(header.data() + 18, &sequences, 8);
  std::memcpy(header.data() + 26, &boundaries, 8);
  idx.write(header);

  copy_values<int32_t>(lengths_, idx, [](int32_t length) { return length; });
  int64_t offset = 0;
  copy_values<int32_t>(lengths_, idx, [&](int32_t length) {
    const int64_t start = offset;
    offset += length * size_of(type_);
    return start;
  });
  const int64_t first = 0;
  idx.write(std::as_bytes(std::span(&first, 1)));
  copy_values<int64_t>(documents_, idx, [](int64_t boundary) { return boundary; });
  if (modes_) copy_values<int8_t>(*modes_, idx, [](int8_t mode) { return mode; });
  idx.commit();
}

void IndexedWriter::commit() {
  sync();
  if (bin_) {
    // Never an old index beside new tokens: it goes first.
    std::remove((prefix_ + ".idx").c_str());
    const std::string part = bin_->path();
    bin_.reset();
    if (std::rename(part.c_str(), (prefix_ + ".bin").c_str()) != 0)
      fail(ErrorKind::kResource, "cannot rename {} to {}.bin: {}", part, prefix_, std::strerror(errno));
  }
  write_index();
}

void IndexedWriter::remove_parts() {
  for (const char* part : {".bin.part", ".lengths.part", ".documents.part", ".modes.part"})
    std::remove((prefix_ + part).c_str());
}

}  // namespace flagscale::data
