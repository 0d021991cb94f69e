#include "io/gguf.h"

#include <algorithm>
#include <bit>
#include <filesystem>
#include <fstream>

#include "base/error.h"
#include "io/gguf_cursor.h"

namespace flagscale::io {

namespace {
struct StoredType {
  uint32_t id;
  Encoding encoding;
  DType dtype;
};
constexpr StoredType kTypes[] = {
    {0, Encoding::kPlain, DType::kF32},  {1, Encoding::kPlain, DType::kF16},
    {2, Encoding::kQ4_0, DType::kF32},   {3, Encoding::kQ4_1, DType::kF32},
    {6, Encoding::kQ5_0, DType::kF32},   {7, Encoding::kQ5_1, DType::kF32},
    {8, Encoding::kQ8_0, DType::kF32},   {10, Encoding::kQ2_K, DType::kF32},
    {11, Encoding::kQ3_K, DType::kF32},  {12, Encoding::kQ4_K, DType::kF32},
    {13, Encoding::kQ5_K, DType::kF32},  {14, Encoding::kQ6_K, DType::kF32},
    {24, Encoding::kPlain, DType::kI8},  {25, Encoding::kPlain, DType::kI16},
    {26, Encoding::kPlain, DType::kI32}, {27, Encoding::kPlain, DType::kI64},
    {28, Encoding::kPlain, DType::kF64}, {30, Encoding::kPlain, DType::kBF16},
};

// ggml's other formats, so that a refusal can name them.
std::string_view type_name(uint32_t id) {
  switch (id) {
    case 9:
      return "Q8_1";
    case 15:
      return "Q8_K";
    case 16:
      return "IQ2_XXS";
    case 17:
      return "IQ2_XS";
    case 18:
      return "IQ3_XXS";
    case 19:
      return "IQ1_S";
    case 20:
      return "IQ4_NL";
    case 21:
      return "IQ3_S";
    case 22:
      return "IQ2_S";
    case 23:
      return "IQ4_XS";
    case 29:
      return "IQ1_M";
    case 34:
      return "TQ1_0";
    case 35:
      return "TQ2_0";
    case 39:
      return "MXFP4";
    default:
      return "unknown";
  }
}

void set_type(const std::string& path, TensorInfo& info, uint32_t id) {
  const auto* type =
      std::find_if(std::begin(kTypes), std::end(kTypes), [&](const auto& t) { return t.id == id; });
  if (type == std::end(kTypes))
    fail(ErrorKind::kUnsupported,
         "{}: tensor '{}' has format {} (type {}), which is not read; read are F32, F16, BF16, Q8_0, Q4_0, "
         "Q4_1, Q5_0, "
         "Q5_1 and Q2_K to Q6_K",
         path, info.name, type_name(id), id);
  info.encoding = type->encoding;
  info.dtype = type->dtype;
}

// Sets shape and bytes from dims as stored, fastest first.
void set_shape(const std::string& path, TensorInfo& info, std::span<const uint64_t> dims) {
  const BlockSize block = block_size(info.encoding, info.dtype);
  uint64_t elements = 1;
  for (const uint64_t dim : dims)
    if (dim > (uint64_t{1} << 48) || __builtin_mul_overflow(elements, dim, &elements) ||
        elements > (uint64_t{1} << 56))
      fail(ErrorKind::kCorrupt, "{}: tensor '{}': its shape overflows", path, info.name);
  const uint64_t row = dims.empty() ? 1 : dims[0];
  if (row % static_cast<uint64_t>(block.elements) != 0)
    fail(ErrorKind::kCorrupt, "{}: tensor '{}': rows of {} are not whole {} blocks", path, info.name, row,
         name(info.encoding));
  info.bytes = elements / static_cast<uint64_t>(block.elements) * static_cast<uint64_t>(block.bytes);
  for (size_t i = dims.size(); i-- > 0;) info.shape.push_back(static_cast<int64_t>(dims[i]));
}

GgufTensor take_tensor(const std::string& path, GgufCursor& cursor) {
  GgufTensor tensor;
  tensor.info.file = path;
  tensor.info.name = std::string(cursor.take_string().substr(0, 256));
  const auto rank = cursor.take<uint32_t>();
  if (rank > 4) fail(ErrorKind::kCorrupt, "{}: tensor '{}' has {} dimensions", path, tensor.info.name, rank);
  uint64_t dims[4] = {};
  for (uint32_t i = 0; i < rank; ++i) dims[i] = cursor.take<uint64_t>();
  set_type(path, tensor.info, cursor.take<uint32_t>());
  set_shape(path, tensor.info, std::span(dims).first(rank));
  tensor.begin = cursor.take<uint64_t>();  // from the start of the data, for now
  return tensor;
}

uint32_t check_start(const std::string& path, GgufCursor& cursor) {
  if (cursor.left() < 24) fail(ErrorKind::kCorrupt, "{}: too short for a GGUF file", path);
  if (cursor.take<uint32_t>() != 0x46554747) fail(ErrorKind::kCorrupt, "{}: not a GGUF file", path);
  const auto version = cursor.take<uint32_t>();
  if (version != 2 && version != 3)
    fail(ErrorKind::kUnsupported, "{}: GGUF version {}; versions 2 and 3 are read{}", path, version,
         (version & 0xffff) == 0 ? " (a big-endian file?)" : "");
  return version;
}

// Turns offsets into positions in the file; checks alignment, bounds and overlap.
void place(const std::string& path, std::vector<GgufTensor>& tensors, uint64_t data, uint64_t size,
           uint64_t alignment) {
  std::vector<const GgufTensor*> order;
  for (GgufTensor& tensor : tensors) {
    if (tensor.begin % alignment != 0)
      fail(ErrorKind::kCorrupt, "{}: tensor '{}' is not aligned to {} bytes", path, tensor.info.name,
           alignment);
    if (data > size || tensor.begin > size - data || tensor.info.bytes > size - data - tensor.begin)
      fail(ErrorKind::kCorrupt, "{}: tensor '{}' lies beyond the end of the file's {} bytes (cut off?)", path,
           tensor.info.name, size);
    tensor.begin += data;
    order.push_back(&tensor);
  }
  std::sort(order.begin(), order.end(), [](const auto* a, const auto* b) {
    return std::pair(a->begin, a->info.bytes) < std::pair(b->begin, b->info.bytes);
  });
  for (size_t i = 1; i < order.size(); ++i)
    if (order[i - 1]->begin + order[i - 1]->info.bytes > order[i]->begin)
      fail(ErrorKind::kCorrupt, "{}: tensors '{}' and '{}' overlap", path, order[i - 1]->info.name,
           order[i]->info.name);
}
}  // namespace

GgufFile::GgufFile(const std::string& path) : file_(path) {
  GgufCursor cursor(path, file_.bytes());
  version_ = check_start(path, cursor);
  const uint64_t tensors = cursor.take<uint64_t>();
  const uint64_t keys = cursor.take_count(13, "metadata keys");
  for (uint64_t i = 0; i < keys; ++i) {
    const std::string key(cursor.take_string().substr(0, 65536));
    if (!metadata_.emplace(key, take_gguf_value(path, key, cursor)).second)
      fail(ErrorKind::kCorrupt, "{}: metadata key '{}' is there twice", path, key);
  }
  if (tensors > cursor.left() / 24)
    fail(ErrorKind::kCorrupt, "{}: says it has {} tensors, more than {} bytes can hold", path, tensors,
         cursor.left());
  for (uint64_t i = 0; i < tensors; ++i) {
    tensors_.push_back(take_tensor(path, cursor));
    if (!by_name_.emplace(tensors_.back().info.name, i).second)
      fail(ErrorKind::kCorrupt, "{}: tensor '{}' is there twice", path, tensors_.back().info.name);
  }
  const int64_t alignment = integer("general.alignment").value_or(32);
  if (alignment < 1 || alignment > (1 << 20) || !std::has_single_bit(static_cast<uint64_t>(alignment)))
    fail(ErrorKind::kCorrupt, "{}: general.alignment is {}, expected a power of two", path, alignment);
  const auto step = static_cast<uint64_t>(alignment);
  place(path, tensors_, (cursor.at() + step - 1) / step * step, file_.bytes().size(), step);
}

const GgufTensor* GgufFile::find(std::string_view name) const {
  const auto it = by_name_.find(name);
  return it == by_name_.end() ? nullptr : &tensors_[it->second];
}

template <class T>
const T* GgufFile::get(std::string_view key, const char* expected) const {
  const auto it = metadata_.find(key);
  if (it == metadata_.end()) return nullptr;
  if (const T* value = std::get_if<T>(&it->second)) return value;
  fail(ErrorKind::kCorrupt, "{}: '{}' is not {}", path(), key, expected);
}

std::optional<int64_t> GgufFile::integer(std::string_view key) const {
  const auto* value = get<int64_t>(key, "an integer");
  return value ? std::optional(*value) : std::nullopt;
}
std::optional<double> GgufFile::number(std::string_view key) const {
  const auto* value = get<double>(key, "a floating-point number");
  return value ? std::optional(*value) : std::nullopt;
}
std::optional<bool> GgufFile::boolean(std::string_view key) const {
  const auto* value = get<bool>(key, "a boolean");
  return value ? std::optional(*value) : std::nullopt;
}
std::optional<std::string_view> GgufFile::text(std::string_view key) const {
  const auto* value = get<std::string_view>(key, "a string");
  return value ? std::optional(*value) : std::nullopt;
}
const GgufStrings* GgufFile::strings(std::string_view key) const {
  return get<GgufStrings>(key, "a list of strings");
}
const GgufInts* GgufFile::integers(std::string_view key) const {
  return get<GgufInts>(key, "a list of integers");
}
const GgufFloats* GgufFile::numbers(std::string_view key) const {
  return get<GgufFloats>(key, "a list of numbers");
}

int64_t GgufFile::required(std::string_view key) const {
  const auto value = integer(key);
  if (!value) fail(ErrorKind::kCorrupt, "{}: '{}' is missing", path(), key);
  return *value;
}

bool is_gguf(const std::string& path) {
  char mark[4] = {};
  return std::filesystem::is_regular_file(path) && std::ifstream(path, std::ios::binary).read(mark, 4) &&
         std::string_view(mark, 4) == "GGUF";
}

std::string GgufFile::architecture() const { return std::string(text("general.architecture").value_or("")); }

}  // namespace flagscale::io
