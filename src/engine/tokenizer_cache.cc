#include "engine/tokenizer_cache.h"

#include <fmt/core.h>

#include <algorithm>
#include <cstring>
#include <filesystem>

#include "engine/cache_entry.h"
#include "io/xxh64.h"
#include "text/tokenizer_image.h"

namespace flagscale::engine {

namespace {

constexpr size_t kSmallestTables = size_t{1} << 20;  // less is read as fast as it is found
// What load_tokenizer() may look at in a folder.
constexpr const char* kNames[] = {"tokenizer.json",      "tokenizer_config.json", "special_tokens_map.json",
                                  "chat_template.jinja", "tokenizer.model",       "vocab.json",
                                  "merges.txt",          "special_tokens.txt"};

// A payload: the image's checksum, then the image.
constexpr size_t kChecksum = sizeof(uint64_t);

bool whole(std::span<const std::byte> payload) {
  uint64_t checksum;
  if (payload.size() < kChecksum) return false;
  std::memcpy(&checksum, payload.data(), kChecksum);
  return io::xxh64(payload.subspan(kChecksum)) == checksum;
}

}  // namespace

std::unique_ptr<text::Tokenizer> cached_tokenizer(
    const std::vector<std::string>& files, const std::function<std::unique_ptr<text::Tokenizer>()>& make) {
  if (files.empty()) return make();
  std::string key = fmt::format("tokenizer {}\n", text::kTokenizerImage);
  for (const std::string& file : files) key += file_key(file);
  const CacheEntry entry(std::move(key), ".tokens");
  if (const CacheEntry::Mapped mapped = entry.open(); whole(mapped.payload))
    if (auto tokenizer = text::tokenizer_from_image(mapped.payload.subspan(kChecksum), mapped.file))
      return tokenizer;
  auto tokenizer = make();
  const std::string image = tokenizer ? text::tokenizer_image(*tokenizer) : "";
  if (image.size() < kSmallestTables) return tokenizer;
  entry.write(kChecksum + image.size(), [&](io::AtomicFile& file) {
    const uint64_t checksum = io::xxh64(std::as_bytes(std::span(image)));
    file.write(std::as_bytes(std::span(&checksum, 1)));
    file.write(image);
  });
  return tokenizer;
}

std::unique_ptr<text::Tokenizer> load_cached_tokenizer(const std::string& path, bool keep) {
  namespace fs = std::filesystem;
  if (!keep || !fs::exists(path)) return text::load_tokenizer(path);
  std::vector<std::string> files{path};
  const fs::path folder = fs::is_directory(path) ? fs::path(path) : fs::path(path).parent_path();
  for (const char* name : kNames) files.push_back((folder / name).string());
  if (fs::is_directory(path))
    for (const auto& entry : fs::directory_iterator(folder))
      if (entry.path().extension() == ".tiktoken") files.push_back(entry.path().string());
  std::sort(files.begin() + 1, files.end());
  return cached_tokenizer(files, [&] { return text::load_tokenizer(path); });
}

}  // namespace flagscale::engine
