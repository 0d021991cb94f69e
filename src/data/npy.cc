#include "data/npy.h"

#include <fmt/format.h>

#include <cstring>

#include "base/error.h"
#include "io/atomic_file.h"
#include "io/mmap_file.h"

namespace flagscale::data {
namespace {

constexpr char kMagic[8] = {'\x93', 'N', 'U', 'M', 'P', 'Y', 1, 0};
constexpr size_t kPrefix = 10;  // magic, version, u16 length of the header

std::string header_of(const char* dtype, const std::string& shape) {
  std::string header =
      fmt::format("{{'descr': '{}', 'fortran_order': False, 'shape': ({}), }}", dtype, shape);
  header.resize((kPrefix + header.size() + 1 + 63) / 64 * 64 - kPrefix - 1, ' ');
  return header + '\n';
}

}  // namespace

void write_npy(const std::string& path, const char* dtype, const std::vector<int64_t>& shape,
               std::span<const std::byte> bytes) {
  std::string axes = fmt::format("{},", shape[0]);
  if (shape.size() > 1) axes = fmt::format("{}", fmt::join(shape, ", "));
  const std::string header = header_of(dtype, axes);
  const auto length = static_cast<uint16_t>(header.size());
  std::string start(kMagic, sizeof(kMagic));
  start.append(reinterpret_cast<const char*>(&length), 2);
  io::AtomicFile file(path);
  file.write(start + header);
  file.write(bytes);
  file.commit();
}

std::vector<std::byte> read_npy(const std::string& path, const char* dtype, int64_t element_bytes,
                                int64_t columns) {
  const io::MmapFile file(path);
  const auto bytes = file.bytes();
  if (bytes.size() < kPrefix || std::memcmp(bytes.data(), kMagic, sizeof(kMagic)) != 0)
    fail(ErrorKind::kCorrupt, "{}: not a .npy file of version 1.0", path);
  uint16_t length = 0;
  std::memcpy(&length, bytes.data() + 8, 2);
  if (bytes.size() < kPrefix + length) fail(ErrorKind::kCorrupt, "{}: ends inside its header", path);
  const auto data = bytes.subspan(kPrefix + length);
  const auto row = static_cast<size_t>(element_bytes * (columns == 0 ? 1 : columns));
  // The header says nothing that the length does not: it must be the one we would write for this length.
  const std::string shape = columns == 0 ? fmt::format("{},", data.size() / row)
                                         : fmt::format("{}, {}", data.size() / row, columns);
  const std::string found(reinterpret_cast<const char*>(bytes.data()) + kPrefix, length);
  if (data.size() % row != 0 || found != header_of(dtype, shape))
    fail(ErrorKind::kCorrupt, "{}: expected an array of {} and shape ({}), its header is {}", path, dtype,
         shape, found);
  return {data.begin(), data.end()};
}

}  // namespace flagscale::data
