#include "train/tensorboard.h"

#include <unistd.h>

#include <array>
#include <bit>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <filesystem>

#include "base/error.h"

namespace flagscale::train {

namespace {

// Protobuf, by hand: the wire types that Event (wall_time = 1, step = 2, file_version = 3, summary = 5)
// needs.
void varint(std::string& out, uint64_t value) {
  for (; value >= 0x80; value >>= 7) out += static_cast<char>(value | 0x80);
  out += static_cast<char>(value);
}

template <class T>
void fixed(std::string& out, T value) {
  out.append(reinterpret_cast<const char*>(&value), sizeof value);
}

void bytes_field(std::string& out, int field, std::string_view bytes) {
  varint(out, static_cast<uint64_t>(field) << 3 | 2);
  varint(out, bytes.size());
  out += bytes;
}

std::string event_at(double wall_time, int64_t step) {
  std::string event;
  event += '\x09';
  fixed(event, wall_time);
  event += '\x10';
  varint(event, static_cast<uint64_t>(step));
  return event;
}

double now() {
  return std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
}

constexpr std::array<uint32_t, 256> kCrcTable = [] {
  std::array<uint32_t, 256> table{};
  for (uint32_t i = 0; i < 256; ++i) {
    uint32_t c = i;
    for (int bit = 0; bit < 8; ++bit) c = (c & 1 ? 0x82f63b78u : 0u) ^ (c >> 1);
    table[i] = c;
  }
  return table;
}();

uint32_t masked(uint32_t crc) { return std::rotr(crc, 15) + 0xa282ead8u; }

}  // namespace

uint32_t crc32c(std::string_view bytes) {
  uint32_t crc = ~0u;
  for (const char c : bytes) crc = kCrcTable[(crc ^ static_cast<unsigned char>(c)) & 0xff] ^ (crc >> 8);
  return ~crc;
}

EventWriter::EventWriter(const std::string& dir) {
  std::error_code error;
  std::filesystem::create_directories(dir, error);
  if (error) fail(ErrorKind::kResource, "tensorboard_dir: cannot make {}: {}", dir, error.message());
  char host[256] = "localhost";
  gethostname(host, sizeof host - 1);
  path_ = fmt::format("{}/events.out.tfevents.{}.{}.{}", dir, static_cast<int64_t>(now()), host, getpid());
  file_ = std::fopen(path_.c_str(), "wbe");
  if (!file_) fail(ErrorKind::kResource, "tensorboard_dir: cannot write {}: {}", path_, std::strerror(errno));
  std::string event = event_at(now(), 0);
  bytes_field(event, 3, "brain.Event:2");
  record(event);
}

EventWriter::~EventWriter() { std::fclose(file_); }

void EventWriter::scalar(std::string_view tag, double value, int64_t step) {
  std::string entry;
  bytes_field(entry, 1, tag);
  entry += '\x15';  // simple_value = 2, a float
  fixed(entry, static_cast<float>(value));
  std::string summary;
  bytes_field(summary, 1, entry);
  std::string event = event_at(now(), step);
  bytes_field(event, 5, summary);
  record(event);
}

void EventWriter::record(const std::string& event) {
  std::string out;
  fixed(out, static_cast<uint64_t>(event.size()));
  fixed(out, masked(crc32c(out)));
  out += event;
  fixed(out, masked(crc32c(event)));
  if (std::fwrite(out.data(), 1, out.size(), file_) != out.size())
    fail(ErrorKind::kResource, "cannot write {}: {}", path_, std::strerror(errno));
}

void EventWriter::flush() {
  if (std::fflush(file_) != 0) fail(ErrorKind::kResource, "cannot write {}: {}", path_, std::strerror(errno));
}

}  // namespace flagscale::train
