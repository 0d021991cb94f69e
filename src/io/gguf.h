#pragma once
// GGUF files, versions 2 and 3 (little endian): metadata and tensor directory, checked against the file when
// opened. Names and shapes are as stored (shape with the fastest dimension last, as everywhere here);
// gguf_weights.h gives the Hugging Face view. Strings point into the mapped file, which the object keeps.

#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "io/mmap_file.h"
#include "io/weights.h"

namespace flagscale::io {

using GgufStrings = std::vector<std::string_view>;
using GgufInts = std::vector<int64_t>;   // of every integer type and bool
using GgufFloats = std::vector<double>;  // of float32 and float64
using GgufValue = std::variant<int64_t, double, bool, std::string_view, GgufInts, GgufFloats, GgufStrings>;

struct GgufTensor {
  TensorInfo info;     // the stored name
  uint64_t begin = 0;  // of its bytes, from the start of the file
};

class GgufFile {
 public:
  explicit GgufFile(const std::string& path);

  const std::string& path() const { return file_.path(); }
  uint32_t version() const { return version_; }
  const std::map<std::string, GgufValue, std::less<>>& metadata() const { return metadata_; }
  const std::vector<GgufTensor>& tensors() const { return tensors_; }  // in file order
  const GgufTensor* find(std::string_view name) const;
  std::span<const std::byte> bytes(const GgufTensor& tensor) const {
    return file_.bytes().subspan(tensor.begin, tensor.info.bytes);
  }
  std::string architecture() const;  // general.architecture, "" if absent

  // Typed look-ups: nothing when the key is absent, kCorrupt when it has another type.
  std::optional<int64_t> integer(std::string_view key) const;
  std::optional<double> number(std::string_view key) const;
  std::optional<bool> boolean(std::string_view key) const;
  std::optional<std::string_view> text(std::string_view key) const;
  const GgufStrings* strings(std::string_view key) const;
  const GgufInts* integers(std::string_view key) const;
  const GgufFloats* numbers(std::string_view key) const;
  int64_t required(std::string_view key) const;  // an integer; kCorrupt when absent

 private:
  template <class T>
  const T* get(std::string_view key, const char* expected) const;
  MmapFile file_;
  uint32_t version_ = 0;
  std::map<std::string, GgufValue, std::less<>> metadata_;
  std::vector<GgufTensor> tensors_;
  std::map<std::string, size_t, std::less<>> by_name_;
};

bool is_gguf(const std::string& path);  // a file that starts with GGUF's mark

}  // namespace flagscale::io
