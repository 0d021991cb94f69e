#pragma once
// Random weights of a model in one of GGUF's block formats, for tests: as a file of them would give.

#include <cstring>
#include <random>

#include "io/weights.h"
#include "model/decoder/decoder.h"
#include "op/packed_linear/packing.h"

namespace flagscale::model {

class BlockWeights : public io::WeightSet {
 public:
  // Rows of the decoder's matrices must be whole blocks. Everything else is ones in fp32.
  BlockWeights(Decoder& decoder, io::Encoding encoding)
      : encoding_(encoding), packing_(op::parse_packing(io::name(encoding))) {
    for (const nn::Parameter& p : decoder.parameters().parameters())
      for (const nn::Part& part : p.parts) add_part(part.name, part.rows, p.shape);
  }

 protected:
  std::span<const std::byte> stored(size_t index) const override { return bytes_[index]; }

 private:
  void add_part(const std::string& name, int64_t rows, const Shape& shape) {
    io::TensorInfo info;
    info.name = name;
    info.shape = {rows};
    std::vector<std::byte> bytes;
    if (shape.rank() == 2) {
      info.shape.push_back(shape[1]);
      info.encoding = encoding_;
      const op::PackingInfo& format = op::info(packing_);
      bytes.resize(static_cast<size_t>(rows * shape[1] / format.block * format.source_bytes));
      for (size_t at = 0; at < bytes.size(); at += static_cast<size_t>(format.source_bytes))
        fill_block(bytes.data() + at, static_cast<size_t>(format.source_bytes));
    } else {
      bytes.resize(static_cast<size_t>(rows) * 4);
      const float one = 1;
      for (size_t at = 0; at < bytes.size(); at += 4) std::memcpy(bytes.data() + at, &one, 4);
    }
    info.bytes = bytes.size();
    bytes_.push_back(std::move(bytes));
    add(std::move(info));
  }

  // Elements are some 0.1 large, around zero.
  void fill_block(std::byte* block, size_t size) {
    for (size_t i = 0; i < size; ++i) block[i] = static_cast<std::byte>(random_() & 255);
    const float step = 0.2f / static_cast<float>(1 << op::info(packing_).bits),
                middle = packing_ == op::Packing::kQ5_1 || packing_ == op::Packing::kQ5_K ? 15.5f : 7.5f;
    switch (packing_) {
      case op::Packing::kQ4_1:
      case op::Packing::kQ5_1:
        put_half(block + 2, -middle * step);
        return put_half(block, step);
      case op::Packing::kQ4_K:
      case op::Packing::kQ5_K:  // a group's minimum has the number of its scale
        for (size_t i = 4; i < 8; ++i) {
          block[i] = block[i + 4] = block[i] & std::byte{15};
          block[i + 8] = block[i] | block[i] << 4;
        }
        put_half(block + 2, middle * step / 8);
        return put_half(block, step / 8);
      case op::Packing::kQ6_K:
        return put_half(block + 208, step / 64);
      default:
        return put_half(block, step);
    }
  }
  static void put_half(std::byte* at, float value) {
    const F16 half = to_f16(value);
    std::memcpy(at, &half, 2);
  }

  io::Encoding encoding_;
  op::Packing packing_;
  std::mt19937 random_{11};
  std::vector<std::vector<std::byte>> bytes_;
};

}  // namespace flagscale::model
