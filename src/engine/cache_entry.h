#pragma once
// What start-up makes and keeps on disk between runs, in the user's cache folder (XDG_CACHE_HOME, else
// ~/.cache)/flagscale/weights: a second start maps it. An entry is named by what it was made from (its key,
// as text), so a changed file or program makes a new one; it is written aside and renamed. Entries not used
// for longest go when the folder grows beyond FLAGSCALE_CACHE_BYTES (16 GiB; 0: keep nothing).
//
// A damaged or foreign entry is never an error: it is not used. What cannot be written is a warning.

#include <functional>
#include <memory>
#include <span>
#include <string>

#include "io/atomic_file.h"
#include "io/mmap_file.h"

namespace flagscale::engine {

inline constexpr size_t kEntryAlignment = 4096;
inline size_t aligned(size_t bytes) {
  return (bytes + kEntryAlignment - 1) / kEntryAlignment * kEntryAlignment;
}

class CacheEntry {
 public:
  // extension: ".packed" or ".tokens". key: empty names nothing.
  CacheEntry(std::string key, const char* extension);

  // The payload that write() left, mapped read-only, and what keeps it; empty when there is none.
  struct Mapped {
    std::shared_ptr<const io::MmapFile> file;
    std::span<const std::byte> payload;
  };
  Mapped open() const;

  // body writes `bytes` bytes of payload, which begins at a multiple of kEntryAlignment.
  void write(size_t bytes, const std::function<void(io::AtomicFile&)>& body) const;

 private:
  std::string key_, path_;
};

// "path size time" of a file, for keys; "path -" for one that is absent.
std::string file_key(const std::string& path);

}  // namespace flagscale::engine
