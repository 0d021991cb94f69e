#include "engine/weight_cache.h"

#include <fmt/core.h>

#include <filesystem>
#include <set>

#include "engine/cache_entry.h"

namespace flagscale::engine {

namespace {

constexpr int kLayout = 1;                            // of packing.h; another number when it changes
constexpr size_t kSmallestWeights = size_t{8} << 20;  // less is packed as fast as it is found
constexpr const char* kExtension = ".packed";

template <class Body>
void for_segments(model::Decoder& decoder, Body&& body) {
  for (nn::Parameter& p : decoder.parameters().parameters())
    for (op::PackedSegment& s : p.packed.segments) body(p, s);
}

// Segments lie at multiples of the entry's alignment, in the decoder's order.
size_t payload_bytes(model::Decoder& decoder) {
  size_t bytes = 0;
  for_segments(decoder, [&](const nn::Parameter& p, const op::PackedSegment& s) {
    bytes += aligned(static_cast<size_t>(p.packed.shape_of(s).numel()));
  });
  return bytes;
}

}  // namespace

std::string weight_cache_key(model::Decoder& decoder, const io::WeightSet& weights) {
  std::string key = fmt::format("layout {}\n", kLayout);
  std::set<std::string> files;
  for (const io::TensorInfo& tensor : weights.tensors()) files.insert(tensor.file);
  for (const std::string& file : files) {
    std::error_code error;
    if (!std::filesystem::exists(file, error)) return {};
    key += file_key(file);
  }
  for_segments(decoder, [&](const nn::Parameter& p, const op::PackedSegment& s) {
    key += fmt::format("{} {} {} {}\n", p.name, op::info(s.packing).name, s.rows * p.groups, p.packed.in);
  });
  return key;
}

bool attach_cached_weights(model::Decoder& decoder, const std::string& key) {
  const CacheEntry::Mapped entry = CacheEntry(key, kExtension).open();
  if (!entry.file || entry.payload.size() != payload_bytes(decoder)) return false;
  auto storage = std::make_shared<Storage>();
  storage->device = {DeviceKind::kCpu, 0};
  storage->bytes = entry.payload.size();
  storage->data = const_cast<std::byte*>(entry.payload.data());  // kernels only read weights
  storage->owner = std::const_pointer_cast<io::MmapFile>(entry.file);
  size_t at = 0;
  for_segments(decoder, [&](const nn::Parameter& p, op::PackedSegment& s) {
    s.data = Tensor(storage, at, DType::kU8, p.packed.shape_of(s));
    at += aligned(s.data.bytes());
  });
  return true;
}

void store_cached_weights(model::Decoder& decoder, const std::string& key) {
  const size_t bytes = payload_bytes(decoder);
  if (bytes < kSmallestWeights) return;
  CacheEntry(key, kExtension).write(bytes, [&](io::AtomicFile& file) {
    const std::string zeros(kEntryAlignment, '\0');
    for_segments(decoder, [&](const nn::Parameter&, const op::PackedSegment& s) {
      file.write(std::span(s.data.data<const std::byte>(), s.data.bytes()));
      file.write(std::string_view(zeros).substr(0, aligned(s.data.bytes()) - s.data.bytes()));
    });
  });
}

}  // namespace flagscale::engine
