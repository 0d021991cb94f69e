#pragma once
// For tests: the scalars of a folder's event files, by a reader of our own that checks the framing.

#include <bit>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include "train/tensorboard.h"

namespace flagscale::train {

struct EventPoint {
  int64_t step;
  double value;
};

namespace event_file {

template <class T>
T value_at(std::string_view bytes, size_t at) {
  T value{};
  bytes.copy(reinterpret_cast<char*>(&value), sizeof value, at);
  return value;
}

inline uint32_t masked(std::string_view bytes) { return std::rotr(crc32c(bytes), 15) + 0xa282ead8u; }

// The payloads of the records of a file. Throws where a length or a checksum is wrong.
inline std::vector<std::string> records(std::string_view file) {
  std::vector<std::string> events;
  for (size_t at = 0; at < file.size();) {
    const auto size = value_at<uint64_t>(file, at);
    if (at + size + 16 > file.size()) throw std::runtime_error("a record is cut short");
    const std::string_view event = file.substr(at + 12, size);
    if (value_at<uint32_t>(file, at + 8) != masked(file.substr(at, 8)) ||
        value_at<uint32_t>(file, at + 12 + size) != masked(event))
      throw std::runtime_error("a checksum is wrong");
    events.emplace_back(event);
    at += size + 16;
  }
  return events;
}

inline uint64_t varint(std::string_view bytes, size_t& at) {
  uint64_t value = 0;
  for (int shift = 0;; shift += 7) {
    const auto byte = static_cast<unsigned char>(bytes.at(at++));
    value |= uint64_t{byte & 0x7fu} << shift;
    if (byte < 0x80) return value;
  }
}

}  // namespace event_file

// Tag -> its points in order, of every file in the folder.
inline std::map<std::string, std::vector<EventPoint>> scalars_in(const std::string& folder) {
  std::map<std::string, std::vector<EventPoint>> scalars;
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    std::ifstream in(entry.path(), std::ios::binary);
    const std::string file{std::istreambuf_iterator<char>(in), {}};
    for (const std::string& event : event_file::records(file)) {
      size_t at = 10;  // after the time and the key of the step
      const auto step = static_cast<int64_t>(event_file::varint(event, at));
      if (event.at(at) != '\x2a') continue;  // no summary
      event_file::varint(event, ++at);
      event_file::varint(event, ++at);  // summary = 5 { value = 1 { tag = 1, simple_value = 2 } }
      const size_t size = event_file::varint(event, ++at);
      const std::string tag = event.substr(at, size);
      scalars[tag].push_back({step, static_cast<double>(event_file::value_at<float>(event, at + size + 1))});
    }
  }
  return scalars;
}

}  // namespace flagscale::train
