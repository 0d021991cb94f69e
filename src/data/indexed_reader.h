#pragma once
// A Megatron dataset on disk: PREFIX.bin (token ids, one after another) and PREFIX.idx (index_view.h).

#include <cstdint>
#include <optional>
#include <span>
#include <string>

#include "data/index_view.h"
#include "io/mmap_file.h"

namespace flagscale::data {

class IndexedReader {
 public:
  // mmap_bin false reads .bin with pread (no_mmap_bin_files): for file systems where mapping is slow. The
  // .idx is always mapped. vocab_size > 0: every id read must be below it. Errors: kNotFound names the
  // missing file, kCorrupt the field.
  explicit IndexedReader(const std::string& prefix, bool mmap_bin = true, int64_t vocab_size = 0);
  ~IndexedReader();
  IndexedReader(const IndexedReader&) = delete;
  IndexedReader& operator=(const IndexedReader&) = delete;

  const IndexView& index() const { return *view_; }
  const std::string& prefix() const { return prefix_; }
  uint64_t bin_bytes() const { return bin_bytes_; }

  // out.size() tokens of the sequence from `offset` on. The range must lie inside the sequence
  // (FLAGSCALE_CHECK). kCorrupt names the file, the sequence and the id that is not in [0, vocab_size). Safe
  // from several threads.
  void read(int64_t sequence, int64_t offset, std::span<int32_t> out) const;

 private:
  void bytes_at(uint64_t start, std::span<std::byte> out) const;
  template <class T>
  void widen(int64_t sequence, uint64_t start, std::span<int32_t> out) const;

  std::string prefix_;
  io::MmapFile idx_;
  std::optional<io::MmapFile> bin_;
  int bin_fd_ = -1;
  uint64_t bin_bytes_ = 0;
  int64_t vocab_size_ = 0;
  std::optional<IndexView> view_;
};

}  // namespace flagscale::data
