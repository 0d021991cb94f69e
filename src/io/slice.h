#pragma once
// Copying between slices of one logical tensor: how a tensor saved in one layout is read in another.

#include <cstddef>
#include <cstdint>
#include <span>

namespace flagscale::io {

struct Slice {
  std::span<const int64_t> start, size;  // [start, start + size) in each dimension of the logical tensor
};

// Copies what two slices share. Each is stored row-major over its own extent; nothing else of `target` is
// written.
void copy_shared(const Slice& from, const std::byte* source, const Slice& to, std::byte* target,
                 size_t element_bytes);

}  // namespace flagscale::io
