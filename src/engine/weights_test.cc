// Serving weights in every format: the same logits however a sequence is cut and whoever else is in the step,
// and the same values as the file's.

#include "engine/weights.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "base/error.h"
#include "engine/runner.h"
#include "engine/weight_cache.h"
#include "kernel/eager.h"

namespace flagscale::engine {
namespace {

const std::string kQwen3Model = std::string(FLAGSCALE_SOURCE_DIR) + "/tests/golden/model/qwen3";

model::DecoderConfig config() {
  std::ostringstream text;
  text << std::ifstream(kQwen3Model + "/config.json").rdbuf();
  return model::parse_config(text.str());
}

std::vector<int32_t> ids(int count, int seed) {
  std::vector<int32_t> result;
  for (int i = 0; i < count; ++i) result.push_back((i * 37 + seed * 11) % 100 + 1);
  return result;
}

struct Setup {
  std::string format, compute;
  DType cache = DType::kF32;
};

class Step {
 public:
  explicit Step(const Setup& setup) {
    RunnerOptions options;
    options.weights = parse_weight_format(setup.format);
    options.weights.compute = op::parse_compute(setup.compute);
    options.cache = setup.cache;
    options.max_tokens = 64, options.max_sequences = 8, options.max_length = 64, options.threads = 2;
    runner_ = std::make_unique<Runner>(config(), *io::open_weights(kQwen3Model), options);
  }
  // The logits of the last token of `prompt`, fed in chunks of `size` beside `others` sequences of one token.
  std::vector<float> logits(const std::vector<int32_t>& prompt, size_t size, int others) {
    std::vector<std::vector<int32_t>> pages, prompts;
    for (int s = 0; s <= others; ++s) {
      pages.push_back({s * 4, s * 4 + 1, s * 4 + 2, s * 4 + 3});
      prompts.push_back(ids(8, s));
    }
    std::vector<float> result;
    for (size_t first = 0; first < prompt.size(); first += size) {
      std::vector<StepChunk> chunks(static_cast<size_t>(others) + 1);
      const size_t at = static_cast<size_t>(others) / 2;  // in the middle of the batch
      for (size_t s = 0; s < chunks.size(); ++s) {
        chunks[s].ids = std::span(prompts[s]).subspan(0, 1);
        chunks[s].pages = &pages[s];
        chunks[s].rows = 1;
      }
      chunks[at].ids = std::span(prompt).subspan(first, std::min(size, prompt.size() - first));
      chunks[at].first = static_cast<int32_t>(first);
      chunks[at].first_row = static_cast<int64_t>(chunks[at].ids.size()) - 1;
      runner_->run(chunks);
      const auto row = runner_->logits(static_cast<int64_t>(at));
      result.assign(row.begin(), row.end());
    }
    return result;
  }

 private:
  std::unique_ptr<Runner> runner_;
};

class WeightFormats : public ::testing::TestWithParam<Setup> {};

TEST_P(WeightFormats, LogitsAreTheSameAloneInABatchAndInChunks) {
  Step step(GetParam());
  const auto prompt = ids(40, 3);
  const auto alone = step.logits(prompt, 40, 0);
  for (const auto& [size, others] : {std::pair<size_t, int>{40, 7}, {7, 0}, {1, 5}, {13, 7}}) {
    const auto again = step.logits(prompt, size, others);
    ASSERT_EQ(again.size(), alone.size());
    for (size_t i = 0; i < alone.size(); ++i)
      ASSERT_EQ(again[i], alone[i]) << "chunks of " << size << " beside " << others;
  }
}

INSTANTIATE_TEST_SUITE_P(Formats, WeightFormats,
                         ::testing::Values(Setup{"float32", "exact"}, Setup{"bfloat16", "exact"},
                                           Setup{"bfloat16", "bf16"}, Setup{"float16", "exact"},
                                           Setup{"int8", "exact"}, Setup{"int8", "int8"},
                                           Setup{"int4", "exact"}, Setup{"int4", "int8"},
                                           Setup{"int4-32", "exact"}, Setup{"int4-32", "fast"},
                                           Setup{"int8", "fast", DType::kBF16}),
                         [](const auto& test) {
                           std::string name = test.param.format + "_" + test.param.compute +
                                              (test.param.cache == DType::kBF16 ? "_bf16cache" : "");
                           std::replace(name.begin(), name.end(), '-', '_');
                           return name;
                         });

TEST(Formats, LogitsStayNearFp32s) {
  const auto prompt = ids(40, 3);
  const auto want = Step({"float32", "exact"}).logits(prompt, 40, 0);
  double power = 0;
  for (const float x : want) power += static_cast<double>(x) * static_cast<double>(x);
  for (const auto& [format, compute, most] : {std::tuple{"bfloat16", "exact", 0.02},
                                              {"bfloat16", "bf16", 0.03},
                                              {"int8", "exact", 0.05},
                                              {"int8", "int8", 0.06},
                                              {"int4-32", "exact", 0.5}}) {
    const auto got = Step({format, compute}).logits(prompt, 40, 0);
    double error = 0;
    for (size_t i = 0; i < want.size(); ++i) error += std::pow(static_cast<double>(got[i] - want[i]), 2);
    EXPECT_LT(std::sqrt(error / power), most) << format << " " << compute;
    const bool as_stored = std::string_view(format) == "bfloat16" &&
                           std::string_view(compute) == "exact";  // the file holds bf16
    EXPECT_EQ(error > 0, !as_stored) << format << " " << compute;
  }
}

// What `serve` says of itself when it starts.
TEST(Formats, FastSaysWhatItIs) {
  const auto text = [](std::vector<op::Packing> packings, op::Compute compute) {
    nn::Partition partition;
    model::Decoder decoder(config(), partition);
    const auto allocator = make_cpu_allocator();
    auto parameter = decoder.parameters().parameters().begin();
    for (const op::Packing packing : packings) {
      const int64_t rows =
          32 * (std::ssize(packings) - (parameter - decoder.parameters().parameters().begin()));
      parameter->packed.in = 256;
      parameter->packed.segments = {
          {packing, rows, make_tensor(*allocator, op::packed_shape(packing, rows, 256), DType::kU8)}};
      ++parameter;
    }
    return weight_formats(decoder) + ": " + compute_text(decoder, compute);
  };
  using op::Compute;
  using op::Packing;
  EXPECT_EQ(text({Packing::kQ4_K, Packing::kQ6_K}, Compute::kFast), "Q4_K, Q6_K: fast (int8)");
  EXPECT_EQ(text({Packing::kQ4_K, Packing::kQ6_K}, Compute::kExact), "Q4_K, Q6_K: exact");
  EXPECT_EQ(text({Packing::kBF16, Packing::kQ8_0}, Compute::kFast), "bfloat16, Q8_0: fast (bf16, int8)");
  EXPECT_EQ(text({Packing::kBF16, Packing::kF16, Packing::kQ8_0}, Compute::kInt8),
            "bfloat16, float16, Q8_0: int8 (int8; exact for bfloat16, float16)");
  EXPECT_EQ(text({Packing::kF32}, Compute::kFast), "float32: fast (exact)");
}

TEST(Formats, UnknownOnesAreRefused) {
  EXPECT_THROW(parse_weight_format("int3"), Error);
  for (const char* format : {"auto", "bfloat16", "float32"})
    EXPECT_THROW(parse_weight_format(format, true), Error);
  EXPECT_THROW(Step({"fp8", "exact"}), Error);  // on a CPU
}

// Blocks of a GGUF file: what the panels give back is what io/encoding decodes, to the bit.
TEST(Formats, BlocksKeepTheirValues) {
  const Team team(1);
  const auto allocator = make_cpu_allocator();
  for (const io::Encoding encoding :
       {io::Encoding::kQ8_0, io::Encoding::kQ4_0, io::Encoding::kQ4_1, io::Encoding::kQ5_0,
        io::Encoding::kQ5_1, io::Encoding::kQ4_K, io::Encoding::kQ5_K, io::Encoding::kQ6_K}) {
    const op::Packing packing = op::parse_packing(io::name(encoding));
    const int64_t in = 512, rows = 40, bytes = in / op::info(packing).block * op::info(packing).source_bytes;
    std::vector<std::byte> blocks(static_cast<size_t>(rows * bytes));
    uint32_t state = 7;
    for (std::byte& b : blocks)
      b = static_cast<std::byte>((state = state * 1664525 + 1013904223) >> 24 & 0xbf);  // no infinite halves
    const Tensor data = make_tensor(*allocator, op::packed_shape(packing, rows, in), DType::kU8);
    std::vector<float> want(static_cast<size_t>(rows * in));
    io::decode_f32(encoding, DType::kF32, blocks, 0, want);
    const Tensor ids = make_tensor(*allocator, {rows}, DType::kI32);
    for (int64_t r = 0; r < rows; ++r) {
      op::pack_row(data, packing, r, in,
                   std::span(blocks).subspan(static_cast<size_t>(r * bytes), static_cast<size_t>(bytes)));
      ids.data<int32_t>()[r] = static_cast<int32_t>(r);
    }
    EagerRecorder recorder(*allocator, team, machine_isa());
    Context context{recorder, nullptr};
    const Tensor got = op::packed_rows(context, ids, {{{packing, rows, data}}, in, op::Compute::kExact});
    for (size_t i = 0; i < want.size(); ++i)
      ASSERT_EQ(got.data<float>()[i], want[i]) << io::name(encoding) << " " << i;
  }
}

class WeightCache : public ::testing::Test {
 protected:
  WeightCache()
      : folder_(std::filesystem::temp_directory_path() / ("flagscale-cache-" + std::to_string(getpid()))) {
    setenv("XDG_CACHE_HOME", folder_.c_str(), 1);
    decoder_config_ = config();
    decoder_config_.vocab_size = 40000;  // large enough to be kept
  }
  ~WeightCache() override {
    unsetenv("XDG_CACHE_HOME"), unsetenv("FLAGSCALE_CACHE_BYTES");
    std::filesystem::remove_all(folder_);
  }
  std::vector<std::filesystem::path> entries() const {
    std::vector<std::filesystem::path> result;
    if (std::filesystem::exists(folder_))
      for (const auto& file : std::filesystem::recursive_directory_iterator(folder_))
        if (file.is_regular_file()) result.push_back(file.path());
    return result;
  }
  // A decoder with one large embedding, its packed bytes all `value`; whether they came from the cache.
  bool attach(uint8_t value, bool store) {
    nn::Partition partition;
    model::Decoder decoder(decoder_config_, partition);
    const auto allocator = make_cpu_allocator();
    const auto weights = io::open_weights(kQwen3Model);
    nn::Parameter& p = decoder.parameters().parameters().front();
    p.packed.in = p.shape[1];
    p.packed.segments = {{op::Packing::kF32, p.shape[0], {}}};
    const std::string key = weight_cache_key(decoder, *weights);
    if (attach_cached_weights(decoder, key)) {
      for (size_t i = 0; i < p.packed.bytes(); i += 997)
        EXPECT_EQ(p.packed.segments[0].data.data<uint8_t>()[i], value);
      return true;
    }
    p.packed.segments[0].data =
        make_tensor(*allocator, op::packed_shape(op::Packing::kF32, p.shape[0], p.shape[1]), DType::kU8);
    std::memset(p.packed.segments[0].data.raw(), value, p.packed.bytes());
    if (store) store_cached_weights(decoder, key);
    return false;
  }
  std::filesystem::path folder_;
  model::DecoderConfig decoder_config_;
};

TEST_F(WeightCache, ASecondStartFindsWhatTheFirstLeft) {
  EXPECT_FALSE(attach(7, true));
  EXPECT_EQ(entries().size(), 1u);
  EXPECT_TRUE(attach(7, true));
}

TEST_F(WeightCache, ADamagedEntryIsNotUsed) {
  attach(7, true);
  ASSERT_EQ(entries().size(), 1u);
  std::filesystem::resize_file(entries()[0], 5000);
  EXPECT_FALSE(attach(9, true));
  EXPECT_TRUE(attach(9, false));
}

TEST_F(WeightCache, TheFolderKeepsToItsLimit) {
  attach(7, true);
  ASSERT_EQ(entries().size(), 1u);
  const auto size = std::filesystem::file_size(entries()[0]);
  setenv("FLAGSCALE_CACHE_BYTES", std::to_string(size + size / 2).c_str(), 1);
  decoder_config_.vocab_size = 40032;
  EXPECT_FALSE(attach(8, true));
  EXPECT_EQ(entries().size(), 1u);  // the other one went
  EXPECT_TRUE(attach(8, false));
  setenv("FLAGSCALE_CACHE_BYTES", "0", 1);
  decoder_config_.vocab_size = 40064;
  EXPECT_FALSE(attach(9, true));
  EXPECT_EQ(entries().size(), 1u);
}

}  // namespace
}  // namespace flagscale::engine
