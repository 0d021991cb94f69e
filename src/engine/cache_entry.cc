#include "engine/cache_entry.h"

#include <fmt/core.h>
#include <sys/stat.h>

#include <algorithm>
#include <cstring>
#include <filesystem>

#include "base/cache_folder.h"
#include "base/error.h"
#include "base/log.h"
#include "io/xxh64.h"

namespace flagscale::engine {

namespace fs = std::filesystem;

namespace {

// An entry: this, the key's text, then the payload at a multiple of kEntryAlignment.
struct Header {
  char magic[8];
  uint64_t key_bytes, file_bytes;
};
constexpr char kMagic[8] = {'f', 's', 'c', 'a', 'c', 'h', '0', '1'};
constexpr const char* kExtensions[] = {".packed", ".tokens"};

fs::path folder() { return cache_folder("weights"); }

// Removes the entries that were used longest ago until `bytes` more fit. False when they never will.
bool make_room(uint64_t bytes) {
  if (bytes > cache_limit()) return false;
  std::vector<std::pair<fs::file_time_type, fs::path>> entries;
  uint64_t held = 0;
  for (const auto& file : fs::directory_iterator(folder())) {
    if (std::ranges::find(kExtensions, file.path().extension()) == std::end(kExtensions)) continue;
    held += file.file_size();
    entries.emplace_back(file.last_write_time(), file.path());
  }
  std::sort(entries.begin(), entries.end());
  for (size_t i = 0; held + bytes > cache_limit() && i < entries.size(); ++i) {
    held -= fs::file_size(entries[i].second);
    fs::remove(entries[i].second);
  }
  return true;
}

bool valid(std::span<const std::byte> bytes, const std::string& key) {
  Header header;
  if (bytes.size() < aligned(sizeof header + key.size())) return false;
  std::memcpy(&header, bytes.data(), sizeof header);
  return std::memcmp(header.magic, kMagic, sizeof kMagic) == 0 && header.key_bytes == key.size() &&
         header.file_bytes == bytes.size() &&
         std::memcmp(bytes.data() + sizeof header, key.data(), key.size()) == 0;
}

}  // namespace

CacheEntry::CacheEntry(std::string key, const char* extension) : key_(std::move(key)) {
  if (key_.empty() || folder().empty()) return;
  path_ = (folder() / (io::checksum_text(io::xxh64(std::as_bytes(std::span(key_)))).substr(6) + extension))
              .string();
}

CacheEntry::Mapped CacheEntry::open() const {
  std::error_code error;
  if (path_.empty() || !fs::is_regular_file(path_, error)) return {};
  std::shared_ptr<io::MmapFile> file;
  try {
    file = std::make_shared<io::MmapFile>(path_);
  } catch (const Error&) {  // went away, or not ours to read
    return {};
  }
  if (!valid(file->bytes(), key_)) return {};
  fs::last_write_time(path_, fs::file_time_type::clock::now(), error);  // used just now
  const auto payload = file->bytes().subspan(aligned(sizeof(Header) + key_.size()));
  return {std::move(file), payload};
}

void CacheEntry::write(size_t bytes, const std::function<void(io::AtomicFile&)>& body) const {
  if (path_.empty() || cache_limit() == 0) return;
  try {
    fs::create_directories(folder());
    const size_t before = aligned(sizeof(Header) + key_.size());
    if (!make_room(before + bytes)) return;
    Header header{{}, key_.size(), before + bytes};
    std::memcpy(header.magic, kMagic, sizeof kMagic);
    io::AtomicFile file(path_);
    file.write(std::as_bytes(std::span(&header, 1)));
    file.write(key_);
    file.write(std::string(before - file.written(), '\0'));
    body(file);
    file.commit();
  } catch (const std::exception& e) {
    warn("{} is not kept for the next start: {}", path_, e.what());
  }
}

std::string file_key(const std::string& path) {
  std::error_code error;
  const std::string name = fs::weakly_canonical(path, error).string();
  struct stat status{};
  if (stat(path.c_str(), &status) != 0) return name + " -\n";
  return fmt::format("{} {} {}.{:09}\n", name, status.st_size, status.st_mtim.tv_sec, status.st_mtim.tv_nsec);
}

}  // namespace flagscale::engine
