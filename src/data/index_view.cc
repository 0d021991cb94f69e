#include "data/index_view.h"

#include <algorithm>

#include "base/error.h"

namespace flagscale::data {

IndexView::IndexView(std::span<const std::byte> bytes, uint64_t bin_bytes, const std::string& file) {
  read_header(bytes, file);
  check_sequences(bin_bytes, file);
  check_documents(file);
}

void IndexView::read_header(std::span<const std::byte> bytes, const std::string& file) {
  const auto size = static_cast<uint64_t>(bytes.size());
  if (size < kIndexHeaderBytes)
    fail(ErrorKind::kCorrupt, "{}: {} bytes is shorter than the {}-byte header of an .idx file", file, size,
         kIndexHeaderBytes);
  const std::byte* at = bytes.data();
  if (std::memcmp(at, kIndexMagic, sizeof(kIndexMagic)) != 0)
    fail(ErrorKind::kCorrupt, "{}: does not start with \"MMIDIDX\\0\\0\": not a Megatron .idx file", file);
  if (const auto version = load<uint64_t>(at + 9); version != 1)
    fail(ErrorKind::kCorrupt, "{}: version {}, only version 1 exists", file, version);
  const auto code = load<uint8_t>(at + 17);
  type_ = static_cast<TokenType>(code);
  if (size_of(type_) == 0) fail(ErrorKind::kCorrupt, "{}: type code {} is not one of 1..8", file, code);
  if (type_ == TokenType::kF32 || type_ == TokenType::kF64)
    fail(ErrorKind::kUnsupported, "{}: elements are {}, expected an integer type of token ids", file,
         name(type_));

  const auto sequences = load<uint64_t>(at + 18), boundaries = load<uint64_t>(at + 26);
  // Bounded by the bytes there before anything is multiplied, so no product below can wrap.
  if (sequences > size / 12)
    fail(ErrorKind::kCorrupt, "{}: {} sequences cannot fit in {} bytes", file, sequences, size);
  if (boundaries > size / 8)
    fail(ErrorKind::kCorrupt, "{}: {} document boundaries cannot fit in {} bytes", file, boundaries, size);
  if (boundaries == 0)
    fail(ErrorKind::kCorrupt, "{}: no document boundaries, expected at least the first (0)", file);
  const uint64_t plain = kIndexHeaderBytes + 12 * sequences + 8 * boundaries;
  if (size != plain && size != plain + sequences)
    fail(ErrorKind::kCorrupt, "{}: {} bytes, but {} sequences and {} boundaries take {} ({} with modes)",
         file, size, sequences, boundaries, plain, plain + sequences);

  sequences_ = static_cast<int64_t>(sequences);
  documents_ = static_cast<int64_t>(boundaries) - 1;
  lengths_ = at + kIndexHeaderBytes;
  offsets_ = lengths_ + 4 * sequences;
  boundaries_ = offsets_ + 8 * sequences;
  modes_ = size == plain ? nullptr : boundaries_ + 8 * boundaries;
}

void IndexView::check_sequences(uint64_t bin_bytes, const std::string& file) {
  const auto width = static_cast<uint64_t>(size_of(type_));
  for (int64_t i = 0; i < sequences_; ++i) {
    const int32_t count = length(i);
    const int64_t start = offset(i);
    if (count < 0) fail(ErrorKind::kCorrupt, "{}: length of sequence {} is {}", file, i, count);
    if (start < 0 || static_cast<uint64_t>(start) % width != 0)
      fail(ErrorKind::kCorrupt,
           "{}: offset of sequence {} is {}, expected a multiple of the {} bytes of a token", file, i, start,
           width);
    const uint64_t bytes = static_cast<uint64_t>(count) * width, end = static_cast<uint64_t>(start) + bytes;
    if (end > bin_bytes)
      fail(ErrorKind::kCorrupt,
           "{}: sequence {} lies in bytes {}..{} of the .bin file, which has {}: the pair does not belong "
           "together or "
           "the .bin is cut short",
           file, i, start, end, bin_bytes);
    bin_bytes_used_ = std::max(bin_bytes_used_, end);
    tokens_ += count;
  }
}

void IndexView::check_documents(const std::string& file) const {
  if (document(0) != 0)
    fail(ErrorKind::kCorrupt, "{}: the first document boundary is {}, expected 0", file, document(0));
  for (int64_t i = 1; i <= documents_; ++i)
    if (document(i) < document(i - 1))
      fail(ErrorKind::kCorrupt, "{}: document boundary {} is {}, smaller than the one before ({})", file, i,
           document(i), document(i - 1));
  if (document(documents_) != sequences_)
    fail(ErrorKind::kCorrupt, "{}: the last document boundary is {}, expected the number of sequences {}",
         file, document(documents_), sequences_);
}

}  // namespace flagscale::data
