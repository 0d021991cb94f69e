#pragma once
// Named tensors read from disk, whatever the format: one interface over a safetensors file or Hugging Face
// folder, a GGUF file and our own checkpoints, so that a model loads from any of them.
//
// Names, shapes and row order are Hugging Face's in every case ("model.layers.0.self_attn.q_proj.weight",
// [out, in]): the GGUF reader renames its tensors and puts the rows of q and k of `llama` files back in
// order. Files are mapped, not read: opening costs the headers, and untouched tensors cost nothing. Every
// method may be called from several threads.
//
// Errors (base/error.h): kNotFound for a missing path or tensor, kCorrupt with file and tensor for bytes that
// are not what the format says, kUnsupported for an encoding or a format version that is not read here.

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "io/encoding.h"
#include "tensor/dtype.h"

namespace flagscale::io {

constexpr size_t kMaxRankInFile = 8;  // dimensions of a tensor in a file

struct TensorInfo {
  std::string name;
  DType dtype = DType::kF32;  // kF32 for block formats: what decoding gives
  Encoding encoding = Encoding::kPlain;
  std::vector<int64_t> shape;  // empty for a scalar
  uint64_t bytes = 0;          // as stored
  std::string file;            // where it lies, for messages

  int64_t numel() const;  // checked against overflow when the file was opened
  int64_t rows() const { return shape.empty() ? 1 : shape[0]; }
  int64_t row_elements() const { return rows() == 0 ? 0 : numel() / rows(); }
};

// By what a tensor's elements are multiplied: a scale for blocks of [rows, columns].
struct BlockScales {
  std::vector<float> values;
  int64_t rows = 1, columns = 1, across = 1;  // across: scales of a row of blocks
  float at(int64_t row, int64_t column) const {
    return values[static_cast<size_t>(row / rows * across + column / columns)];
  }
};

class WeightSet {
 public:
  virtual ~WeightSet() = default;

  // In the order of the file (safetensors: sorted by name).
  const std::vector<TensorInfo>& tensors() const { return tensors_; }
  const TensorInfo* find(std::string_view name) const;  // null when absent
  const TensorInfo& info(std::string_view name) const;  // throws kNotFound, naming the nearest name

  // The stored bytes of row i of dimension 0 (for a vector: of the element). A row of a block format must be
  // whole blocks.
  std::span<const std::byte> row(const TensorInfo& info, int64_t i) const;

  // The stored bytes of the whole tensor when its rows lie in order, else empty (q and k of a `llama` GGUF
  // file).
  std::span<const std::byte> bytes(const TensorInfo& info) const;

  // Of a tensor in e4m3; null: none. What is read is the element times its scale in fp32, then rounded.
  const BlockScales* scales(const TensorInfo& info) const;
  bool has_scales() const { return !scales_.empty(); }  // of any tensor

  // Rows [begin, begin + rows) of dimension 0, decoded or converted to `dtype` (a floating type, or the
  // stored type as it is). out holds rows * row_elements() elements.
  void read(std::string_view name, int64_t begin, int64_t rows, DType dtype, std::span<std::byte> out) const;
  void read_f32(std::string_view name, int64_t begin, int64_t rows, std::span<float> out) const;
  std::vector<float> read_f32(std::string_view name) const;  // the whole tensor

 protected:
  // Tensors in their stored order; `stored` gives a tensor's bytes, `stored_row` where logical row i lies in
  // them.
  void add(TensorInfo info);
  // Finds the scales of tensors in e4m3 among the others, once all are added: NAME_scale_inv or NAME_scale,
  // one for the tensor, for a row or for blocks of 128 by 128. Throws kCorrupt for other shapes.
  void find_scales();
  virtual std::span<const std::byte> stored(size_t index) const = 0;
  virtual int64_t stored_row(size_t /*index*/, int64_t i) const { return i; }
  virtual bool in_order(size_t /*index*/) const { return true; }

 private:
  std::vector<TensorInfo> tensors_;
  std::map<std::string, size_t, std::less<>> by_name_;
  std::map<size_t, BlockScales> scales_;
  size_t index_of(const TensorInfo& info) const;
};

// Opens a .safetensors file, a folder with model.safetensors or model.safetensors.index.json, a .gguf file,
// or one of our checkpoints (an iter_* folder, or a folder with latest_checkpointed_iteration.txt: its
// newest).
std::unique_ptr<WeightSet> open_weights(const std::string& path);

// Whether a tensor's name is that of another one's scales, in a set that has any.
bool is_scale(std::string_view name);

}  // namespace flagscale::io
