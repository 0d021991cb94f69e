#include "io/manifest.h"

#include <algorithm>
#include <cstdlib>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "io/xxh64.h"

namespace flagscale::io {

namespace {
using Json = nlohmann::ordered_json;
constexpr const char* kFormat = "flagscale-checkpoint";
constexpr size_t kMaxShards = 16384;

// Look-ups that name the place and what was expected there.
class Reader {
 public:
  explicit Reader(const std::string& where) : where_(where) {}

  [[noreturn]] void refuse(const std::string& what) const {
    fail(ErrorKind::kCorrupt, "{}: {}", where_, what);
  }
  const Json& at(const Json& object, const char* key) const {
    const auto it = object.is_object() ? object.find(key) : object.end();
    if (!object.is_object() || it == object.end()) refuse(fmt::format("'{}' is missing", key));
    return *it;
  }
  int64_t count(const Json& object, const char* key) const { return as_count(at(object, key), key); }
  std::string text(const Json& object, const char* key) const {
    const Json& value = at(object, key);
    if (!value.is_string()) refuse(fmt::format("'{}' is not a string", key));
    return value.get<std::string>();
  }
  std::vector<int64_t> counts(const Json& object, const char* key) const {
    const Json& value = list(object, key);
    if (value.size() > kMaxRankInFile) refuse(fmt::format("'{}' has {} numbers", key, value.size()));
    std::vector<int64_t> result;
    for (const Json& item : value) result.push_back(as_count(item, key));
    return result;
  }
  const Json& list(const Json& object, const char* key) const {
    const Json& value = at(object, key);
    if (!value.is_array()) refuse(fmt::format("'{}' is not a list", key));
    return value;
  }
  const Json& object(const Json& parent, const char* key) const {
    const Json& value = at(parent, key);
    if (!value.is_object()) refuse(fmt::format("'{}' is not an object", key));
    return value;
  }
  uint64_t checksum(const Json& parent) const {
    const std::string value = text(parent, "checksum");
    if (value.size() != 22 || !value.starts_with("xxh64:") ||
        value.find_first_not_of("0123456789abcdef", 6) != value.npos)
      refuse(fmt::format("'{}' is not a checksum", value.substr(0, 30)));
    return std::strtoull(value.c_str() + 6, nullptr, 16);
  }

 private:
  int64_t as_count(const Json& value, const char* key) const {
    if (!value.is_number_integer()) refuse(fmt::format("'{}' is not a count", key));
    const bool fits = value.is_number_unsigned() && value.get<uint64_t>() <= (uint64_t{1} << 62);
    if (!fits) refuse(fmt::format("'{}' is out of range", key));
    return value.get<int64_t>();
  }
  const std::string& where_;
};

int64_t volume(const Reader& reader, const std::string& tensor, const std::vector<int64_t>& dims) {
  int64_t result = 1;
  for (const int64_t dim : dims)
    if (__builtin_mul_overflow(result, dim, &result) || result > (int64_t{1} << 56))
      reader.refuse(fmt::format("tensor '{}': its shape overflows", tensor));
  return result;
}

bool overlap(const ManifestShard& a, const ManifestShard& b) {
  for (size_t i = 0; i < a.start.size(); ++i)
    if (a.start[i] >= b.start[i] + b.size[i] || b.start[i] >= a.start[i] + a.size[i]) return false;
  return true;
}

// Slices tile a tensor when they are inside it, disjoint, and add up to it.
void check_tiling(const Reader& reader, ManifestTensor& tensor) {
  int64_t total = 0;
  for (const ManifestShard& shard : tensor.shards) {
    for (size_t i = 0; i < tensor.shape.size(); ++i)
      if (shard.start[i] > tensor.shape[i] || shard.size[i] > tensor.shape[i] - shard.start[i])
        reader.refuse(fmt::format("tensor '{}': a shard lies outside its shape", tensor.name));
    total += volume(reader, tensor.name, shard.size);
    if (total > (int64_t{1} << 56)) break;
  }
  auto& shards = tensor.shards;
  std::sort(shards.begin(), shards.end(), [](const auto& a, const auto& b) { return a.start < b.start; });
  for (size_t i = 0; i < shards.size(); ++i)
    for (size_t j = i + 1; j < shards.size(); ++j) {
      if (!tensor.shape.empty() && shards[j].start[0] >= shards[i].start[0] + shards[i].size[0]) break;
      if (overlap(shards[i], shards[j]))
        reader.refuse(fmt::format("tensor '{}': two shards overlap", tensor.name));
    }
  if (total != volume(reader, tensor.name, tensor.shape))
    reader.refuse(fmt::format("tensor '{}': its shards hold {} elements of {}", tensor.name, total,
                              volume(reader, tensor.name, tensor.shape)));
}

ManifestShard parse_shard(const Reader& reader, const Manifest& manifest, const ManifestTensor& tensor,
                          const Json& json) {
  ManifestShard shard;
  shard.start = reader.counts(json, "start");
  shard.size = reader.counts(json, "size");
  shard.file = reader.text(json, "file");
  shard.offset = static_cast<uint64_t>(reader.count(json, "offset"));
  shard.bytes = static_cast<uint64_t>(reader.count(json, "bytes"));
  shard.checksum = reader.checksum(json);
  if (shard.start.size() != tensor.shape.size() || shard.size.size() != tensor.shape.size())
    reader.refuse(fmt::format("tensor '{}': a shard has another number of dimensions", tensor.name));
  const auto elements = static_cast<uint64_t>(volume(reader, tensor.name, shard.size));
  if (shard.bytes != elements * size_of(tensor.dtype))
    reader.refuse(
        fmt::format("tensor '{}': a shard has {} bytes for {} elements", tensor.name, shard.bytes, elements));
  const auto file = manifest.files.find(shard.file);
  if (file == manifest.files.end() || shard.offset > file->second ||
      shard.bytes > file->second - shard.offset)
    reader.refuse(fmt::format("tensor '{}': a shard lies outside its file", tensor.name));
  return shard;
}

ManifestTensor parse_tensor(const Reader& reader, const Manifest& manifest, const Json& json) {
  ManifestTensor tensor;
  tensor.name = reader.text(json, "name");
  const std::string dtype = reader.text(json, "dtype");
  try {
    tensor.dtype = parse_dtype(dtype);
  } catch (const Error&) {
    reader.refuse(fmt::format("tensor '{}' has unknown dtype '{}'", tensor.name, dtype.substr(0, 20)));
  }
  tensor.shape = reader.counts(json, "shape");
  const Json& shards = reader.list(json, "shards");
  if (shards.size() > kMaxShards)
    reader.refuse(fmt::format("tensor '{}' has {} shards", tensor.name, shards.size()));
  for (const Json& shard : shards) tensor.shards.push_back(parse_shard(reader, manifest, tensor, shard));
  check_tiling(reader, tensor);
  return tensor;
}

TrainingState parse_state(const Reader& reader, const Json& json) {
  TrainingState state;
  state.iteration = reader.count(json, "iteration");
  state.consumed_samples = reader.count(json, "consumed_samples");
  state.threads = static_cast<int>(std::min<int64_t>(reader.count(json, "threads"), 1 << 20));
  state.instruction_set = reader.text(json, "instruction_set");
  state.config = reader.text(json, "config");
  const Json& extra = reader.object(json, "extra");
  for (const auto& item : extra.items()) state.extra[item.key()] = reader.text(extra, item.key().c_str());
  return state;
}

void check_checksum(const Reader& reader, const Json& json, std::string text) {
  const uint64_t expected = reader.checksum(json);
  const size_t at =
      text.find(checksum_text(expected));  // the first: the manifest's own stands before all others
  if (at == text.npos) reader.refuse("its checksum is not where it should be");
  text.replace(at, 22, checksum_text(0));
  if (xxh64(std::as_bytes(std::span(text))) != expected) reader.refuse("damaged (checksum mismatch)");
}

Json state_json(const TrainingState& state) {
  Json extra = Json::object();
  for (const auto& [key, value] : state.extra) extra[key] = value;
  return {{"iteration", state.iteration}, {"consumed_samples", state.consumed_samples},
          {"threads", state.threads},     {"instruction_set", state.instruction_set},
          {"config", state.config},       {"extra", extra}};
}

Json tensor_json(const ManifestTensor& tensor) {
  Json shards = Json::array();
  for (const ManifestShard& shard : tensor.shards)
    shards.push_back({{"start", shard.start},
                      {"size", shard.size},
                      {"file", shard.file},
                      {"offset", shard.offset},
                      {"bytes", shard.bytes},
                      {"checksum", checksum_text(shard.checksum)}});
  return {{"name", tensor.name},
          {"dtype", std::string(name(tensor.dtype))},
          {"shape", tensor.shape},
          {"shards", shards}};
}
}  // namespace

std::string to_json(const Manifest& manifest) {
  Json json{{"format", kFormat}, {"version", manifest.version}, {"checksum", checksum_text(0)}};
  json["state"] = state_json(manifest.state);
  json["files"] = Json::object();
  for (const auto& [file, bytes] : manifest.files) json["files"][file] = bytes;
  json["tensors"] = Json::array();
  for (const ManifestTensor& tensor : manifest.tensors) json["tensors"].push_back(tensor_json(tensor));
  std::string text;
  try {
    text = json.dump(1) + "\n";
  } catch (const Json::exception& error) {
    fail(ErrorKind::kInvalidArgument, "the checkpoint's state is not UTF-8 text: {}", error.what());
  }
  const std::string blank = checksum_text(0);
  const std::string digest = checksum_text(xxh64(std::as_bytes(std::span(text))));
  return text.replace(text.find(blank), blank.size(), digest);
}

Manifest parse_manifest(const std::string& where, const std::string& text) {
  const Reader reader(where);
  const Json json = Json::parse(text, nullptr, false);
  if (!json.is_object() || !json.contains("format") || json["format"] != kFormat)
    reader.refuse("not a checkpoint's manifest, or damaged");
  Manifest manifest;
  const int64_t version = reader.count(json, "version");
  if (version > kCheckpointVersion)
    fail(ErrorKind::kUnsupported,
         "{}: format version {} is newer than this program reads ({}); use a newer flagscale", where, version,
         kCheckpointVersion);
  if (version < 1) reader.refuse("version 0");
  manifest.version = static_cast<int>(version);
  check_checksum(reader, json, text);
  manifest.state = parse_state(reader, reader.object(json, "state"));
  const Json& files = reader.object(json, "files");
  for (const auto& item : files.items()) {
    const std::string& name = item.key();
    if (name.empty() || name[0] == '.' || name.find_first_of(std::string_view("/\0", 2)) != name.npos)
      reader.refuse(fmt::format("'{}' is not a plain file name", name));
    manifest.files[name] = static_cast<uint64_t>(reader.count(files, name.c_str()));
  }
  for (const Json& tensor : reader.list(json, "tensors"))
    manifest.tensors.push_back(parse_tensor(reader, manifest, tensor));
  const auto by_name = [](const auto& a, const auto& b) { return a.name < b.name; };
  std::sort(manifest.tensors.begin(), manifest.tensors.end(), by_name);
  for (size_t i = 1; i < manifest.tensors.size(); ++i)
    if (manifest.tensors[i].name == manifest.tensors[i - 1].name)
      reader.refuse(fmt::format("tensor '{}' is there twice", manifest.tensors[i].name));
  return manifest;
}

}  // namespace flagscale::io
