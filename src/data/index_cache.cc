#include "data/index_cache.h"

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <optional>
#include <span>

#include "base/error.h"
#include "base/log.h"
#include "data/npy.h"
#include "io/atomic_file.h"
#include "io/xxh64.h"

namespace flagscale::data {
namespace {

template <class T>
std::vector<T> read_array(const std::string& path, const char* dtype, int64_t element_bytes,
                          int64_t columns) {
  const auto bytes = read_npy(path, dtype, element_bytes, columns);
  std::vector<T> values(bytes.size() / sizeof(T));
  std::memcpy(values.data(), bytes.data(), bytes.size());
  return values;
}

// Whatever stands in the files, samples taken by this index lie inside the dataset.
void check(const SampleIndex& index, const SampleIndexOptions& options, const std::string& entry) {
  const int64_t sequences = options.end_sequence - options.first_sequence;
  const auto positions = static_cast<int64_t>(index.documents.size());
  bool good = positions > 0 && positions % sequences == 0 && index.starts.size() == index.shuffle.size() + 1;
  for (const int32_t d : index.documents) good &= d >= options.first_sequence && d < options.end_sequence;
  for (size_t i = 0; good && i < index.starts.size(); ++i)
    good &= index.starts[i].document >= 0 && index.starts[i].document < positions &&
            index.starts[i].offset >= -1 &&
            (i == 0 || index.starts[i].document >= index.starts[i - 1].document);
  for (const uint32_t s : index.shuffle) good &= s < index.shuffle.size();
  if (!good) fail(ErrorKind::kCorrupt, "{}: the arrays do not belong to this dataset", entry);
}

std::string checksum(const SampleIndex& index) {
  io::Xxh64 hash;
  hash.update(std::as_bytes(std::span(index.documents)));
  hash.update(std::as_bytes(std::span(index.starts)));
  hash.update(std::as_bytes(std::span(index.shuffle)));
  return io::checksum_text(hash.digest()) + "\n";
}

// Throws when there is an entry that cannot be used.
std::optional<SampleIndex> load(const std::string& entry, const std::string& description,
                                const SampleIndexOptions& options) {
  if (!std::filesystem::exists(entry + "description.txt")) return std::nullopt;
  const std::string found = io::read_file(entry + "description.txt");
  if (!found.starts_with(description)) return std::nullopt;  // another one with the same hash
  SampleIndex index;
  index.documents = read_array<int32_t>(entry + "document_index.npy", "<i4", 4, 0);
  index.starts = read_array<SampleStart>(entry + "sample_index.npy", "<i4", 4, 2);
  index.shuffle = read_array<uint32_t>(entry + "shuffle_index.npy", "<u4", 4, 0);
  if (found != description + checksum(index))
    fail(ErrorKind::kCorrupt, "{}: the arrays' checksum is wrong", entry);
  check(index, options, entry);
  index.epochs =
      static_cast<int64_t>(index.documents.size()) / (options.end_sequence - options.first_sequence);
  return index;
}

// The description comes last: an entry without one is not there.
void store(const std::string& entry, const std::string& description, const SampleIndex& index) {
  const auto size = [](const auto& values) { return static_cast<int64_t>(values.size()); };
  write_npy(entry + "document_index.npy", "<i4", {size(index.documents)},
            std::as_bytes(std::span(index.documents)));
  write_npy(entry + "sample_index.npy", "<i4", {size(index.starts), 2},
            std::as_bytes(std::span(index.starts)));
  write_npy(entry + "shuffle_index.npy", "<u4", {size(index.shuffle)},
            std::as_bytes(std::span(index.shuffle)));
  io::write_file(entry + "description.txt", description + checksum(index));
}

}  // namespace

SampleIndex cached_sample_index(const std::string& folder, const std::string& split,
                                const std::string& description, const SampleIndexOptions& options,
                                const std::function<SampleIndex()>& build) {
  if (folder.empty()) return build();
  const uint64_t hash = io::xxh64(std::as_bytes(std::span(description)));
  const std::string entry = fmt::format("{}/{:016x}-GPTDataset-{}-", folder, hash, split);
  try {
    if (auto index = load(entry, description, options)) return std::move(*index);
  } catch (const Error& error) {
    warn("{}: built again", error.what());
  }
  SampleIndex index = build();
  try {
    std::filesystem::create_directories(folder);
    store(entry, description, index);
  } catch (const std::exception& error) {
    warn("data_cache_path is of no use: {}", error.what());
  }
  return index;
}

}  // namespace flagscale::data
