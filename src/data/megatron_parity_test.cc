// Against megatron-core itself: tests/golden/data, made by tests/oracle/data/make_golden.py.
#include <fmt/core.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>
#include <nlohmann/json.hpp>

#include "data/blend.h"
#include "data/gpt_dataset.h"
#include "data/indexed_reader.h"
#include "data/numpy_shuffle.h"
#include "data/train_data.h"

namespace flagscale::data {
namespace {

// FLAGSCALE_DATA_GOLDEN: a folder of other cases, made with --random.
const char* const kOther = std::getenv("FLAGSCALE_DATA_GOLDEN");
const std::string kMegatronGolden =
    kOther ? std::string(kOther) + "/" : FLAGSCALE_SOURCE_DIR "/tests/golden/data/";

const nlohmann::json& golden() {
  static const nlohmann::json json = nlohmann::json::parse(std::ifstream(kMegatronGolden + "cases.json"));
  return json;
}

std::vector<std::string> in_golden_folder(const nlohmann::json& list) {
  auto paths = list.get<std::vector<std::string>>();
  for (auto& path : paths)
    if (path == "a" || path == "b") path = kMegatronGolden + path;
  return paths;
}

DatasetOptions options_of(const nlohmann::json& c, bool mmap) {
  DatasetOptions options;
  options.data_path = in_golden_folder(c["data_path"]);
  options.split = c["split"];
  options.sequence_length = c["sequence_length"];
  options.seed = c["seed"];
  options.mmap_bin_files = mmap;
  options.drop_last_partial_validation_sequence = c["drop_last"];
  options.vocab_size = 1000;
  for (size_t i = 0; i < kSplits; ++i) {
    options.split_data_path[i] = in_golden_folder(c["split_data_path"][i]);
    if (!c["sizes"][i].is_null()) options.samples[i] = c["sizes"][i].get<int64_t>();
  }
  return options;
}

void expect_gpt(const nlohmann::json& wanted, const GptDataset& dataset) {
  std::vector<int32_t> starts;
  for (const auto& start : dataset.index().starts) {
    starts.push_back(start.document);
    starts.push_back(start.offset);
  }
  EXPECT_EQ(dataset.index().documents, wanted["documents"].get<std::vector<int32_t>>());
  EXPECT_EQ(starts, wanted["starts"].get<std::vector<int32_t>>());
  EXPECT_EQ(dataset.index().shuffle, wanted["shuffle"].get<std::vector<uint32_t>>());
}

void expect_blend(const nlohmann::json& wanted, const BlendedDataset& dataset) {
  EXPECT_EQ(dataset.index().dataset, wanted["dataset"].get<std::vector<int16_t>>());
  EXPECT_EQ(dataset.index().sample, wanted["sample"].get<std::vector<int64_t>>());
}

// Reads `count` samples as one micro-batch and compares each with Megatron's.
void expect_samples(const nlohmann::json& c, const nlohmann::json& wanted, const SampleSource& source) {
  MaskOptions masks;
  masks.eod_token = 0;
  masks.reset_position_ids = c["reset_position_ids"];
  masks.reset_attention_mask = c["reset_attention_mask"];
  masks.eod_mask_loss = c["eod_mask_loss"];
  masks.pad_token = c["pad"];
  const size_t s = static_cast<size_t>(source.sequence_length()), b = wanted.size(), n = b * s;
  std::vector<int32_t> tokens(n), labels(n), positions(n);
  std::vector<int32_t> cu(
      static_cast<size_t>(max_cu_seqlens(static_cast<int64_t>(b), static_cast<int64_t>(s), masks)));
  std::vector<float> mask(n);
  const int64_t live = fill_micro_batch(source, 0, masks, {tokens, labels, mask, positions, cu});
  std::vector<int32_t> boundaries{0};
  for (size_t i = 0; i < b; ++i) {
    const auto slice = [&](const auto& v) { return std::vector(v.begin() + i * s, v.begin() + (i + 1) * s); };
    EXPECT_EQ(slice(tokens), wanted[i]["tokens"].get<std::vector<int32_t>>()) << "sample " << i;
    EXPECT_EQ(slice(labels), wanted[i]["labels"].get<std::vector<int32_t>>()) << "sample " << i;
    EXPECT_EQ(slice(positions), wanted[i]["position_ids"].get<std::vector<int32_t>>()) << "sample " << i;
    EXPECT_EQ(slice(mask), wanted[i]["loss_mask"].get<std::vector<float>>()) << "sample " << i;
    for (const int32_t boundary : wanted[i]["boundaries"])
      if (boundary > 0) boundaries.push_back(static_cast<int32_t>(i * s) + boundary);
  }
  EXPECT_EQ(std::vector(cu.begin(), cu.begin() + live), boundaries);
}

class MegatronCase : public testing::TestWithParam<std::tuple<size_t, bool>> {};

TEST_P(MegatronCase, IndicesAndSamplesAreEqual) {
  const nlohmann::json& c = golden()["cases"][std::get<0>(GetParam())];
  SCOPED_TRACE(c["name"].get<std::string>());
  const auto splits = build_datasets(options_of(c, std::get<1>(GetParam())));
  for (size_t i = 0; i < kSplits; ++i) {
    SCOPED_TRACE(name(static_cast<Split>(i)));
    const nlohmann::json& wanted = c["splits"][i];
    if (wanted.is_null() || (wanted.contains("shuffle") && wanted["documents"].empty())) {
      EXPECT_EQ(splits[i], nullptr);
    } else if (wanted["kind"] == "gpt") {
      const auto* dataset = dynamic_cast<const GptDataset*>(splits[i].get());
      ASSERT_NE(dataset, nullptr);
      expect_gpt(wanted, *dataset);
      expect_samples(c, c["samples"][i], *dataset);
    } else if (wanted["dataset"].empty()) {
      EXPECT_EQ(splits[i], nullptr);  // nothing was asked of this blend
    } else {
      const auto* dataset = dynamic_cast<const BlendedDataset*>(splits[i].get());
      ASSERT_NE(dataset, nullptr);
      expect_blend(wanted, *dataset);
      expect_samples(c, c["samples"][i], *dataset);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Golden, MegatronCase,
                         testing::Combine(testing::Range(size_t{0}, golden()["cases"].size()),
                                          testing::Bool()));

template <class T>
std::string fnv(const std::vector<T>& values) {
  uint64_t hash = 0xcbf29ce484222325;
  for (const std::byte byte : std::as_bytes(std::span(values)))
    hash = (hash ^ static_cast<uint64_t>(byte)) * 0x100000001b3;
  return fmt::format("{:016x}", hash);
}

TEST(MegatronParity, LargeIndices) {
  for (const nlohmann::json& c : golden()["large"]) {
    const auto sequences = c["sequences"].get<int64_t>();
    std::vector<int32_t> lengths(static_cast<size_t>(sequences));
    NumpyRandom random(c["lengths_seed"].get<uint32_t>());  // numpy's randint(1, 300)
    for (auto& length : lengths) length = static_cast<int32_t>(1 + random.interval(298));
    ASSERT_EQ(fnv(lengths), c["lengths"].get<std::string>());
    const SampleIndexOptions options{0,         sequences, c["sequence_length"], c["samples"].get<int64_t>(),
                                     c["seed"], true};
    const auto index =
        build_sample_index(options, [&](int64_t s) { return lengths[static_cast<size_t>(s)]; });
    EXPECT_EQ(index.epochs, c["epochs"]);
    EXPECT_EQ(fnv(index.documents), c["documents"].get<std::string>());
    EXPECT_EQ(fnv(index.starts), c["starts"].get<std::string>());
    EXPECT_EQ(fnv(index.shuffle), c["shuffle"].get<std::string>());
  }
}

TEST(MegatronParity, BlendsOfManyWeights) {
  for (const nlohmann::json& c : golden()["blending"]) {
    const auto weights = normalize(c["weights"].get<std::vector<double>>());
    EXPECT_EQ(weights, c["normalized"].get<std::vector<double>>()) << weights.size() << " weights";
    const auto index = build_blend(weights, c["size"]);
    EXPECT_EQ(fnv(index.dataset), c["dataset"].get<std::string>());
    EXPECT_EQ(fnv(index.sample), c["sample"].get<std::string>());
  }
}

}  // namespace
}  // namespace flagscale::data
