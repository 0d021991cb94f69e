// Here the device is the host, too: what is copied is the same.
#include "train/host_mirrors.h"

#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <vector>

namespace flagscale::train {
namespace {

constexpr int64_t kPages = 64;

std::span<std::byte> mirrored(const Tensor& tensor) {
  return {static_cast<std::byte*>(tensor.raw()), tensor.bytes()};
}

// Of a mirror that begins with a page.
int64_t resident_pages(const Tensor& mirror) {
  std::vector<unsigned char> pages(mirror.bytes() / static_cast<size_t>(sysconf(_SC_PAGESIZE)));
  EXPECT_EQ(mincore(mirror.raw(), mirror.bytes(), pages.data()), 0);
  return std::count_if(pages.begin(), pages.end(), [](unsigned char page) { return (page & 1) != 0; });
}

struct Mirrored {
  std::unique_ptr<Allocator> memory = make_cpu_allocator();
  Tensor device = make_tensor(*memory, {kPages * sysconf(_SC_PAGESIZE) / 4}, DType::kF32);
  HostMirrors mirrors;
  Mirrored() { mirrors.add(device); }
};

TEST(HostMirrors, PiecesPassThroughWithoutAllOfItsMemory) {
  const Mirrored m;
  const Tensor& host = m.mirrors.of(m.device);
  const int64_t piece = host.dim(0) / 8;
  for (int64_t at = 0; at < host.dim(0); at += piece) {
    const Tensor some = host.rows(at, piece);
    std::fill_n(some.data<float>(), piece, static_cast<float>(at + 1));
    m.mirrors.put(mirrored(some));
    EXPECT_EQ(resident_pages(host), 0);
  }
  for (int64_t i = 0; i < host.dim(0); ++i)
    ASSERT_EQ(m.device.data<float>()[i], static_cast<float>(i / piece * piece + 1));
  m.mirrors.fetch(mirrored(host.rows(piece, piece)));
  EXPECT_EQ(host.data<float>()[piece], static_cast<float>(piece + 1));
  EXPECT_EQ(resident_pages(host), kPages / 8);
}

// Pieces share pages where they meet.
TEST(HostMirrors, WhatLiesBesideAPieceStays) {
  const Mirrored m;
  const Tensor& host = m.mirrors.of(m.device);
  std::fill_n(host.data<float>(), host.dim(0), 1.f);
  const Tensor some = host.rows(100, host.dim(0) - 200);
  m.mirrors.put(mirrored(some));
  EXPECT_EQ(host.data<float>()[99], 1.f);
  EXPECT_EQ(host.data<float>()[host.dim(0) - 100], 1.f);
  EXPECT_EQ(m.device.data<float>()[99], 0.f);
  EXPECT_EQ(m.device.data<float>()[100], 1.f);
  EXPECT_EQ(resident_pages(host), 2);
}

TEST(HostMirrors, AReaderSeesTheDeviceAsItIsThen) {
  const Mirrored m;
  const Tensor some = m.mirrors.of(m.device).rows(10, 20);
  const MirrorReader reader = m.mirrors.reader(mirrored(some));
  ASSERT_TRUE(reader);
  m.device.data<float>()[12] = 7;
  float value = 0;
  reader(2 * sizeof(float), std::as_writable_bytes(std::span(&value, 1)));
  EXPECT_EQ(value, 7);
  EXPECT_EQ(resident_pages(m.mirrors.of(m.device)), 0);
}

TEST(HostMirrors, WhatIsNoMirrorIsLeftAlone) {
  const Mirrored m;
  std::vector<std::byte> own(1 << 16, std::byte{5});
  m.mirrors.put(own);
  m.mirrors.drop(own);
  m.mirrors.fetch(own);
  EXPECT_EQ(std::count(own.begin(), own.end(), std::byte{5}), 1 << 16);
  EXPECT_FALSE(m.mirrors.reader(own));
}

}  // namespace
}  // namespace flagscale::train
