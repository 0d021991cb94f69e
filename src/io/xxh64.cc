#include "io/xxh64.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cstring>

namespace flagscale::io {

namespace {
constexpr uint64_t kP1 = 0x9E3779B185EBCA87, kP2 = 0xC2B2AE3D27D4EB4F, kP3 = 0x165667B19E3779F9,
                   kP4 = 0x85EBCA77C2B2AE63, kP5 = 0x27D4EB2F165667C5;
static_assert(std::endian::native == std::endian::little);

template <class T>
T load(const std::byte* from) {
  T value;
  std::memcpy(&value, from, sizeof(T));
  return value;
}

uint64_t round(uint64_t lane, uint64_t input) { return std::rotl(lane + input * kP2, 31) * kP1; }

// Four independent lanes in registers: the loop is bound by the multiplier, not by memory.
void consume(std::array<uint64_t, 4>& lanes, const std::byte* data, size_t stripes) {
  uint64_t a = lanes[0], b = lanes[1], c = lanes[2], d = lanes[3];
  for (size_t i = 0; i < stripes; ++i, data += 32) {
    a = round(a, load<uint64_t>(data));
    b = round(b, load<uint64_t>(data + 8));
    c = round(c, load<uint64_t>(data + 16));
    d = round(d, load<uint64_t>(data + 24));
  }
  lanes = {a, b, c, d};
}
}  // namespace

Xxh64::Xxh64(uint64_t seed) : lanes_{seed + kP1 + kP2, seed + kP2, seed, seed - kP1}, seed_(seed) {}

void Xxh64::update(std::span<const std::byte> bytes) {
  const size_t held = total_ % 32;
  total_ += bytes.size();
  if (held > 0) {
    const size_t taken = std::min(bytes.size(), 32 - held);
    std::copy_n(bytes.begin(), taken, tail_.begin() + static_cast<ptrdiff_t>(held));
    bytes = bytes.subspan(taken);
    if (held + taken < 32) return;
    consume(lanes_, tail_.data(), 1);
  }
  consume(lanes_, bytes.data(), bytes.size() / 32);
  const auto rest = bytes.last(bytes.size() % 32);
  std::copy(rest.begin(), rest.end(), tail_.begin());
}

uint64_t Xxh64::digest() const {
  uint64_t hash = seed_ + kP5;
  if (total_ >= 32) {
    hash = std::rotl(lanes_[0], 1) + std::rotl(lanes_[1], 7) + std::rotl(lanes_[2], 12) +
           std::rotl(lanes_[3], 18);
    for (const uint64_t lane : lanes_) hash = (hash ^ round(0, lane)) * kP1 + kP4;
  }
  hash += total_;
  const std::byte* at = tail_.data();
  const std::byte* end = at + total_ % 32;
  for (; end - at >= 8; at += 8) hash = std::rotl(hash ^ round(0, load<uint64_t>(at)), 27) * kP1 + kP4;
  if (end - at >= 4) {
    hash = std::rotl(hash ^ (load<uint32_t>(at) * kP1), 23) * kP2 + kP3;
    at += 4;
  }
  for (; at < end; ++at) hash = std::rotl(hash ^ (static_cast<uint64_t>(*at) * kP5), 11) * kP1;
  hash = (hash ^ (hash >> 33)) * kP2;
  hash = (hash ^ (hash >> 29)) * kP3;
  return hash ^ (hash >> 32);
}

uint64_t xxh64(std::span<const std::byte> bytes, uint64_t seed) {
  Xxh64 hash(seed);
  hash.update(bytes);
  return hash.digest();
}

std::string checksum_text(uint64_t digest) { return fmt::format("xxh64:{:016x}", digest); }

}  // namespace flagscale::io
