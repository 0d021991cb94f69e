#include "io/encoding.h"

#include <gtest/gtest.h>

#include <bit>
#include <cstring>
#include <numeric>

#include "io/io_test_support.h"
#include "io/weights.h"

namespace flagscale::io {
namespace {

constexpr Encoding kAll[] = {Encoding::kQ4_0, Encoding::kQ4_1, Encoding::kQ5_0, Encoding::kQ5_1,
                             Encoding::kQ8_0, Encoding::kQ2_K, Encoding::kQ3_K, Encoding::kQ4_K,
                             Encoding::kQ5_K, Encoding::kQ6_K};

TEST(Encoding, EveryFormatIsBitForBitWhatGgufDecodes) {
  const auto blocks = open_weights(golden("blocks.safetensors"));
  for (const Encoding encoding : kAll) {
    const std::string format(name(encoding));
    const auto expected = blocks->read_f32(format + ".values");
    std::vector<float> values(expected.size());
    decode_f32(encoding, DType::kF32, blocks->bytes(blocks->info(format + ".blocks")), 0, values);
    EXPECT_EQ(std::memcmp(values.data(), expected.data(), values.size() * sizeof(float)), 0) << format;
  }
}

TEST(Encoding, AnyRangeIsAPartOfTheWhole) {
  const auto blocks = open_weights(golden("blocks.safetensors"));
  for (const Encoding encoding : kAll) {
    const std::string format(name(encoding));
    const auto expected = blocks->read_f32(format + ".values");
    for (size_t begin = 0; begin < expected.size(); begin += 37) {
      std::vector<float> values(std::min<size_t>(61, expected.size() - begin));
      decode_f32(encoding, DType::kF32, blocks->bytes(blocks->info(format + ".blocks")),
                 static_cast<int64_t>(begin), values);
      for (size_t i = 0; i < values.size(); ++i)
        ASSERT_EQ(values[i], expected[begin + i]) << format << " " << begin;
    }
  }
}

TEST(Encoding, PlainTypesGoThroughFp32AndBack) {
  const std::vector<float> values{0.f, -1.5f, 3.1415926f, 1e-8f, 65504.f, -0.f};
  for (const DType dtype : {DType::kF32, DType::kF64, DType::kBF16, DType::kF16}) {
    std::vector<std::byte> stored(values.size() * size_of(dtype)), again(stored.size());
    encode_plain(values, dtype, stored);
    std::vector<float> decoded(values.size());
    decode_f32(Encoding::kPlain, dtype, stored, 0, decoded);
    encode_plain(decoded, dtype, again);
    EXPECT_EQ(stored, again) << flagscale::name(dtype);
    if (size_of(dtype) >= 4) {
      EXPECT_EQ(decoded, values);
    }
  }
  std::vector<std::byte> out(values.size() * 8);
  EXPECT_NE(error_of([&] { encode_plain(values, DType::kI64, out); }), "");
}

TEST(Encoding, HalvesWidenAsTensorsDo) {
  std::vector<uint16_t> all(65536);
  std::iota(all.begin(), all.end(), uint16_t{0});
  std::vector<float> bf16(all.size()), f16(all.size());
  decode_f32(Encoding::kPlain, DType::kBF16, std::as_bytes(std::span(all)), 0, bf16);
  decode_f32(Encoding::kPlain, DType::kF16, std::as_bytes(std::span(all)), 0, f16);
  for (const uint16_t bits : all) {
    ASSERT_EQ(std::bit_cast<uint32_t>(bf16[bits]), std::bit_cast<uint32_t>(to_float(BF16{bits}))) << bits;
    ASSERT_EQ(std::bit_cast<uint32_t>(f16[bits]), std::bit_cast<uint32_t>(to_float(F16{bits}))) << bits;
  }
}

TEST(Encoding, Bf16RoundsAsTensorsDo) {
  std::vector<float> values;
  for (uint64_t bits = 0; bits < (uint64_t{1} << 32); bits += 9973)
    values.push_back(std::bit_cast<float>(static_cast<uint32_t>(bits)));
  std::vector<uint16_t> out(values.size());
  encode_plain(values, DType::kBF16, std::as_writable_bytes(std::span(out)));
  for (size_t i = 0; i < values.size(); ++i) ASSERT_EQ(out[i], to_bf16(values[i]).bits) << values[i];
}

}  // namespace
}  // namespace flagscale::io
