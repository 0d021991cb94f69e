#include "engine/weight_cache.h"

#include <sys/stat.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <set>

#include "base/error.h"
#include "base/log.h"
#include "io/atomic_file.h"
#include "io/mmap_file.h"
#include "io/xxh64.h"

namespace flagscale::engine {

namespace fs = std::filesystem;

namespace {

constexpr int kLayout = 1;  // of packing.h; another number when it changes
constexpr size_t kAlignment = 4096, kSmallest = size_t{8} << 20;  // less is packed as fast as it is found

// An entry: this, the key's text, then the segments at multiples of kAlignment, in the decoder's order.
struct Header {
  char magic[8];
  uint64_t key_bytes, file_bytes;
};
constexpr char kMagic[8] = {'f', 's', 'p', 'a', 'c', 'k', '0', '1'};

size_t aligned(size_t bytes) { return (bytes + kAlignment - 1) / kAlignment * kAlignment; }

fs::path folder() {
  const char *xdg = std::getenv("XDG_CACHE_HOME"), *home = std::getenv("HOME");
  if (xdg && *xdg == '/') return fs::path(xdg) / "flagscale" / "weights";
  return home && *home == '/' ? fs::path(home) / ".cache" / "flagscale" / "weights" : fs::path();
}

uint64_t limit() {
  const char* text = std::getenv("FLAGSCALE_CACHE_BYTES");
  return text && *text ? std::strtoull(text, nullptr, 10) : uint64_t{16} << 30;
}

fs::path entry(const std::string& key) {
  return folder() / (io::checksum_text(io::xxh64(std::as_bytes(std::span(key)))).substr(6) + ".packed");
}

template <class Body>
void for_segments(model::Decoder& decoder, Body&& body) {
  for (nn::Parameter& p : decoder.parameters().parameters())
    for (op::PackedSegment& s : p.packed.segments) body(p, s);
}

size_t entry_bytes(model::Decoder& decoder, const std::string& key) {
  size_t bytes = aligned(sizeof(Header) + key.size());
  for_segments(decoder, [&](const nn::Parameter& p, const op::PackedSegment& s) {
    bytes += aligned(static_cast<size_t>(op::packed_shape(s.packing, s.rows, p.packed.in).numel()));
  });
  return bytes;
}

bool valid(std::span<const std::byte> bytes, const std::string& key, size_t expected) {
  Header header;
  if (bytes.size() != expected || bytes.size() < sizeof header + key.size()) return false;
  std::memcpy(&header, bytes.data(), sizeof header);
  return std::memcmp(header.magic, kMagic, sizeof kMagic) == 0 && header.key_bytes == key.size() &&
         header.file_bytes == expected &&
         std::memcmp(bytes.data() + sizeof header, key.data(), key.size()) == 0;
}

// Removes the entries that were used longest ago until `bytes` more fit. False when they never will.
bool make_room(uint64_t bytes) {
  if (bytes > limit()) return false;
  std::vector<std::pair<fs::file_time_type, fs::path>> entries;
  uint64_t held = 0;
  for (const auto& file : fs::directory_iterator(folder())) {
    if (file.path().extension() != ".packed") continue;
    held += file.file_size();
    entries.emplace_back(file.last_write_time(), file.path());
  }
  std::sort(entries.begin(), entries.end());
  for (size_t i = 0; held + bytes > limit() && i < entries.size(); ++i) {
    held -= fs::file_size(entries[i].second);
    fs::remove(entries[i].second);
  }
  return true;
}

void write_entry(model::Decoder& decoder, const std::string& key, size_t bytes) {
  io::AtomicFile file(entry(key).string());
  const std::string zeros(kAlignment, '\0');
  const auto pad = [&] {
    file.write(std::string_view(zeros).substr(0, aligned(file.written()) - file.written()));
  };
  Header header{{}, key.size(), bytes};
  std::memcpy(header.magic, kMagic, sizeof kMagic);
  file.write(std::as_bytes(std::span(&header, 1)));
  file.write(key);
  pad();
  for_segments(decoder, [&](const nn::Parameter&, const op::PackedSegment& s) {
    file.write(std::span(s.data.data<const std::byte>(), s.data.bytes()));
    pad();
  });
  file.commit();
}

}  // namespace

std::string weight_cache_key(model::Decoder& decoder, const io::WeightSet& weights) {
  std::string key = fmt::format("layout {}\n", kLayout);
  std::set<std::string> files;
  for (const io::TensorInfo& tensor : weights.tensors()) files.insert(tensor.file);
  for (const std::string& file : files) {
    struct stat status{};
    if (stat(file.c_str(), &status) != 0) return {};
    std::error_code error;
    key += fmt::format("{} {} {}.{:09}\n", fs::weakly_canonical(file, error).string(), status.st_size,
                       status.st_mtim.tv_sec, status.st_mtim.tv_nsec);
  }
  for_segments(decoder, [&](const nn::Parameter& p, const op::PackedSegment& s) {
    key += fmt::format("{} {} {} {}\n", p.name, op::info(s.packing).name, s.rows, p.packed.in);
  });
  return key;
}

bool attach_cached_weights(model::Decoder& decoder, const std::string& key) {
  if (key.empty() || folder().empty()) return false;
  const fs::path path = entry(key);
  std::error_code error;
  if (!fs::is_regular_file(path, error)) return false;
  std::shared_ptr<io::MmapFile> file;
  try {
    file = std::make_shared<io::MmapFile>(path.string());
  } catch (const Error&) {  // went away, or not ours to read
    return false;
  }
  if (!valid(file->bytes(), key, entry_bytes(decoder, key))) return false;
  fs::last_write_time(path, fs::file_time_type::clock::now(), error);  // used just now
  auto storage = std::make_shared<Storage>();
  storage->device = {DeviceKind::kCpu, 0};
  storage->bytes = file->bytes().size();
  storage->data = const_cast<std::byte*>(file->bytes().data());  // kernels only read weights
  storage->owner = file;
  size_t at = aligned(sizeof(Header) + key.size());
  for_segments(decoder, [&](const nn::Parameter& p, op::PackedSegment& s) {
    s.data = Tensor(storage, at, DType::kU8, op::packed_shape(s.packing, s.rows, p.packed.in));
    at += aligned(s.data.bytes());
  });
  return true;
}

void store_cached_weights(model::Decoder& decoder, const std::string& key) {
  const size_t bytes = key.empty() || folder().empty() ? 0 : entry_bytes(decoder, key);
  if (bytes < kSmallest || limit() == 0) return;
  try {
    fs::create_directories(folder());
    if (make_room(bytes)) write_entry(decoder, key, bytes);
  } catch (const std::exception& e) {
    warn("packed weights are not kept for the next start: {}", e.what());
  }
}

}  // namespace flagscale::engine
