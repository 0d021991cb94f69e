#include "io/safetensors.h"

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <functional>
#include <nlohmann/json.hpp>

#include "base/check.h"
#include "base/error.h"
#include "io/atomic_file.h"

namespace flagscale::io {

namespace {
constexpr uint64_t kMaxHeader = 100'000'000;  // the limit of the reference implementation

nlohmann::json parse_header(const std::string& path, std::span<const std::byte> bytes, uint64_t* data_begin) {
  uint64_t length = 0;
  if (bytes.size() < 8)
    fail(ErrorKind::kCorrupt, "{}: {} bytes, too short for a safetensors file", path, bytes.size());
  std::memcpy(&length, bytes.data(), 8);
  if (length > kMaxHeader || length > bytes.size() - 8)
    fail(ErrorKind::kCorrupt,
         "{}: not a safetensors file, or cut off: its header would be {} bytes of a file of {}", path, length,
         bytes.size());
  const auto* text = reinterpret_cast<const char*>(bytes.data() + 8);
  nlohmann::json header = nlohmann::json::parse(text, text + length, nullptr, false);
  if (!header.is_object()) fail(ErrorKind::kCorrupt, "{}: the safetensors header is not a JSON object", path);
  *data_begin = 8 + length;
  return header;
}

// A field of non-negative integers.
std::vector<uint64_t> numbers(const std::string& path, const std::string& tensor, const nlohmann::json& value,
                              const char* key) {
  const auto it = value.find(key);
  if (it == value.end() || !it->is_array() || it->size() > kMaxRankInFile)
    fail(ErrorKind::kCorrupt, "{}: tensor '{}': '{}' is not a short list of numbers", path, tensor, key);
  std::vector<uint64_t> result;
  for (const nlohmann::json& item : *it) {
    if (!item.is_number_unsigned())
      fail(ErrorKind::kCorrupt, "{}: tensor '{}': '{}' holds {}, expected a count", path, tensor, key,
           item.type_name());
    result.push_back(item.get<uint64_t>());
  }
  return result;
}

constexpr std::pair<DType, std::string_view> kNames[] = {
    {DType::kF64, "F64"}, {DType::kF32, "F32"}, {DType::kBF16, "BF16"}, {DType::kF16, "F16"},
    {DType::kI64, "I64"}, {DType::kI32, "I32"}, {DType::kI16, "I16"},   {DType::kI8, "I8"},
    {DType::kU16, "U16"}, {DType::kU8, "U8"},   {DType::kBool, "BOOL"}};

DType stored_dtype(const std::string& path, const std::string& tensor, const nlohmann::json& value) {
  const auto it = value.find("dtype");
  if (it == value.end() || !it->is_string())
    fail(ErrorKind::kCorrupt, "{}: tensor '{}' has no dtype", path, tensor);
  const auto& text = it->get_ref<const std::string&>();
  for (const auto& [dtype, name] : kNames)
    if (text == name) return dtype;
  fail(ErrorKind::kUnsupported, "{}: tensor '{}' has dtype {}, which is not read", path, tensor,
       text.substr(0, 20));
}

SafetensorsEntry parse_entry(const std::string& path, const std::string& tensor, const nlohmann::json& value,
                             uint64_t data_begin, uint64_t data_bytes) {
  if (!value.is_object())
    fail(ErrorKind::kCorrupt, "{}: tensor '{}' is not described by an object", path, tensor);
  SafetensorsEntry entry;
  entry.info.name = tensor;
  entry.info.file = path;
  if (value.value("dtype", nlohmann::json()) == "F8_E4M3")
    entry.info.encoding = Encoding::kFp8;
  else
    entry.info.dtype = stored_dtype(path, tensor, value);
  auto expected = static_cast<uint64_t>(block_size(entry.info.encoding, entry.info.dtype).bytes);
  for (const uint64_t dim : numbers(path, tensor, value, "shape")) {
    if (dim > (uint64_t{1} << 48) || __builtin_mul_overflow(expected, dim, &expected) ||
        expected > (uint64_t{1} << 60))
      fail(ErrorKind::kCorrupt, "{}: tensor '{}': its shape overflows", path, tensor);
    entry.info.shape.push_back(static_cast<int64_t>(dim));
  }
  const auto offsets = numbers(path, tensor, value, "data_offsets");
  if (offsets.size() != 2 || offsets[0] > offsets[1] || offsets[1] > data_bytes)
    fail(ErrorKind::kCorrupt, "{}: tensor '{}' lies outside the file's {} bytes of data (cut off?)", path,
         tensor, data_bytes);
  entry.begin = data_begin + offsets[0];
  entry.info.bytes = offsets[1] - offsets[0];
  if (entry.info.bytes != expected)
    fail(ErrorKind::kCorrupt, "{}: tensor '{}' has {} bytes, its shape and dtype need {}", path, tensor,
         entry.info.bytes, expected);
  return entry;
}

// The tensors must cover the data once: no overlap, no hole (the format's rule).
void check_cover(const std::string& path, const std::vector<SafetensorsEntry>& entries, uint64_t begin,
                 uint64_t end) {
  std::vector<const SafetensorsEntry*> order;
  for (const SafetensorsEntry& entry : entries) order.push_back(&entry);
  std::sort(order.begin(), order.end(), [](const auto* a, const auto* b) {
    return std::pair(a->begin, a->info.bytes) < std::pair(b->begin, b->info.bytes);
  });
  uint64_t at = begin;
  for (const SafetensorsEntry* entry : order) {
    if (entry->begin < at)
      fail(ErrorKind::kCorrupt, "{}: tensor '{}' overlaps another", path, entry->info.name);
    if (entry->begin > at)
      fail(ErrorKind::kCorrupt, "{}: {} bytes before tensor '{}' belong to no tensor", path,
           entry->begin - at, entry->info.name);
    at += entry->info.bytes;
  }
  if (at != end) fail(ErrorKind::kCorrupt, "{}: {} bytes at the end belong to no tensor", path, end - at);
}

class SafetensorsSet : public WeightSet {
 public:
  using WeightSet::find_scales;
  // Tensors of the file that `wanted` accepts.
  void add_file(const std::string& path, const std::function<bool(const std::string&)>& wanted) {
    files_.push_back(std::make_unique<SafetensorsFile>(path));
    const SafetensorsFile& file = *files_.back();
    for (const SafetensorsEntry& entry : file.entries()) {
      if (!wanted(entry.info.name)) continue;
      add(entry.info);
      stored_.push_back(file.bytes(entry));
    }
  }

 protected:
  std::span<const std::byte> stored(size_t index) const override { return stored_[index]; }

 private:
  std::vector<std::unique_ptr<SafetensorsFile>> files_;
  std::vector<std::span<const std::byte>> stored_;
};

std::map<std::string, std::vector<std::string>> read_index(const std::string& path) {  // file to its tensors
  const nlohmann::json index = nlohmann::json::parse(read_text(path), nullptr, false);
  const auto map = index.is_object() ? index.find("weight_map") : index.end();
  if (!index.is_object() || map == index.end() || !map->is_object())
    fail(ErrorKind::kCorrupt, "{}: expected a JSON object with 'weight_map'", path);
  std::map<std::string, std::vector<std::string>> files;
  for (const auto& [tensor, file] : map->items()) {
    if (!file.is_string())
      fail(ErrorKind::kCorrupt, "{}: the file of tensor '{}' is not a string", path, tensor);
    const auto& name = file.get_ref<const std::string&>();
    if (name.empty() || name[0] == '.' || name.find('/') != std::string::npos ||
        name.find('\0') != std::string::npos)
      fail(ErrorKind::kCorrupt, "{}: tensor '{}' names the file '{}', expected one in this folder", path,
           tensor, name);
    files[name].push_back(tensor);
  }
  return files;
}

std::unique_ptr<WeightSet> open_sharded(const std::string& folder, const std::string& index) {
  auto set = std::make_unique<SafetensorsSet>();
  for (auto& [file, tensors] : read_index(index)) {
    std::sort(tensors.begin(), tensors.end());
    const std::string path = folder + "/" + file;
    set->add_file(path, [&](const std::string& name) {
      return std::binary_search(tensors.begin(), tensors.end(), name);
    });
    for (const std::string& tensor : tensors)
      if (!set->find(tensor))
        fail(ErrorKind::kCorrupt, "{}: tensor '{}' is not there, though {} says so", path, tensor, index);
  }
  set->find_scales();
  return set;
}
}  // namespace

std::string_view safetensors_name(DType dtype) {
  for (const auto& [known, name] : kNames)
    if (known == dtype) return name;
  FLAGSCALE_CHECK(false);
  return {};
}

SafetensorsFile::SafetensorsFile(const std::string& path) : file_(path) {
  uint64_t data_begin = 0;
  const nlohmann::json header = parse_header(path, file_.bytes(), &data_begin);
  const uint64_t data_bytes = file_.bytes().size() - data_begin;
  for (const auto& [name, value] : header.items()) {
    if (name != "__metadata__") {
      entries_.push_back(parse_entry(path, name, value, data_begin, data_bytes));
      continue;
    }
    if (!value.is_object()) fail(ErrorKind::kCorrupt, "{}: __metadata__ is not an object", path);
    for (const auto& [key, text] : value.items())
      if (text.is_string()) metadata_[key] = text.get<std::string>();
  }
  check_cover(path, entries_, data_begin, file_.bytes().size());
}

namespace {
std::unique_ptr<WeightSet> open_file(const std::string& path) {
  auto set = std::make_unique<SafetensorsSet>();
  set->add_file(path, [](const std::string&) { return true; });
  set->find_scales();
  return set;
}
}  // namespace

std::unique_ptr<WeightSet> open_safetensors(const std::string& path) {
  namespace fs = std::filesystem;
  if (!fs::is_directory(path)) return open_file(path);
  const std::string single = path + "/model.safetensors", index = path + "/model.safetensors.index.json";
  if (fs::exists(single)) return open_file(single);
  if (fs::exists(index)) return open_sharded(path, index);
  if (fs::exists(path + "/pytorch_model.bin") || fs::exists(path + "/pytorch_model.bin.index.json"))
    fail(ErrorKind::kUnsupported,
         "{}: only pytorch_model.bin (pickle) is there; save it as safetensors first", path);
  fail(ErrorKind::kNotFound, "{}: neither model.safetensors nor model.safetensors.index.json is there", path);
}

}  // namespace flagscale::io
