#pragma once
// Arrays in numpy's .npy files, version 1.0, little-endian, C order: what Megatron's index cache is made of.

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace flagscale::data {

// dtype: "<i4", "<u4", "<i8"...; the bytes are those of the elements. The file appears whole or not at all.
void write_npy(const std::string& path, const char* dtype, const std::vector<int64_t>& shape,
               std::span<const std::byte> bytes);

// The elements' bytes of a file that holds exactly this dtype and this many axes, the second of `columns`
// (1-D: 0). kNotFound, or kCorrupt naming the file and what is wrong.
std::vector<std::byte> read_npy(const std::string& path, const char* dtype, int64_t element_bytes,
                                int64_t columns);

}  // namespace flagscale::data
