#include "data/packed_dataset.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <set>

#include "base/error.h"
#include "base/log.h"
#include "base/temporary_folder_test_support.h"
#include "data/indexed_writer.h"

namespace flagscale::data {
namespace {

std::vector<int32_t> lengths_of(int count) {
  std::vector<int32_t> lengths;
  for (int i = 0; i < count; ++i) lengths.push_back(2 + i * 37 % 50);
  return lengths;
}

PackIndex packs(const std::vector<int32_t>& lengths, PackOptions options) {
  options.end_sequence = static_cast<int64_t>(lengths.size());
  return build_packs(options, [&](int64_t s) { return lengths[static_cast<size_t>(s)]; });
}

TEST(Packs, HoldEverySequenceOnceAnEpochAndLittlePadding) {
  const auto lengths = lengths_of(1000);
  const PackIndex index = packs(lengths, {.sequence_length = 127, .samples = {}});
  std::vector<int32_t> seen = index.sequences;
  std::sort(seen.begin(), seen.end());
  for (int32_t s = 0; s < 1000; ++s) ASSERT_EQ(seen[static_cast<size_t>(s)], s);
  int64_t tokens = 0;
  for (int64_t i = 0; i < index.size(); ++i) {
    int64_t used = 0;
    for (int64_t s = index.starts[static_cast<size_t>(i)]; s < index.starts[static_cast<size_t>(i) + 1]; ++s)
      used += lengths[static_cast<size_t>(index.sequences[static_cast<size_t>(s)])];
    ASSERT_LE(used, 128);
    tokens += used;
  }
  EXPECT_GT(static_cast<double>(tokens) / static_cast<double>(index.size() * 128), 0.95);
}

TEST(Packs, RepeatInAnotherOrderForAsManySamplesAsAreAsked) {
  const auto lengths = lengths_of(30);
  const PackIndex one = packs(lengths, {.sequence_length = 63, .samples = {}}),
                  more = packs(lengths, {.sequence_length = 63, .samples = 3 * one.size()});
  EXPECT_GE(more.size(), 3 * one.size());
  ASSERT_EQ(more.sequences.size() % 30, 0u);
  EXPECT_TRUE(std::equal(one.sequences.begin(), one.sequences.end(), more.sequences.begin()));
  EXPECT_FALSE(std::equal(one.sequences.begin(), one.sequences.end(), more.sequences.begin() + 30));
  EXPECT_EQ(packs(lengths, {.sequence_length = 63, .samples = {}}).sequences, one.sequences);
  EXPECT_NE(packs(lengths, {.sequence_length = 63, .samples = {}, .seed = 7}).sequences, one.sequences);
  EXPECT_EQ(packs(lengths, {.sequence_length = 63, .samples = {}, .pack = false}).size(), 30);
  EXPECT_THROW(packs({1, 1}, {.sequence_length = 63, .samples = {}}), Error);
}

// Conversations [1 2 3], [4 5] and [6 7 8 9 10], of which the tokens from the second on are learnt.
class Packed : public testing::Test {
 protected:
  Packed() {
    write(1);
    options_.data_path = {folder_.path + "/x_text_document"};
    options_.split = "1";
    options_.sft = true;
    options_.samples[kValid] = options_.samples[kTest] = 0;
  }
  void write(size_t first_learnt) {
    IndexedWriter text(folder_.path + "/x_text_document", TokenType::kU16),
        mask(folder_.path + "/x_loss_mask_document", TokenType::kU16);
    for (const std::vector<int32_t>& ids : {std::vector<int32_t>{1, 2, 3}, {4, 5}, {6, 7, 8, 9, 10}}) {
      std::vector<int32_t> learnt(ids.size(), 1);
      std::fill_n(learnt.begin(), std::min(first_learnt, ids.size()), 0);
      text.add_sequence(ids), mask.add_sequence(learnt);
      text.end_document(), mask.end_document();
    }
    text.commit(), mask.commit();
    text.remove_parts(), mask.remove_parts();
  }
  struct Filled {
    std::vector<int32_t> tokens, labels, positions, ends;
    std::vector<float> mask;
    TokenCounts counts;
  };
  Filled fill(int64_t length, bool pack, int64_t samples) {
    options_.sequence_length = length, options_.sft_packing = pack;
    const auto source = std::move(build_datasets(options_)[kTrain]);
    EXPECT_EQ(source->size(), samples);
    const auto n = static_cast<size_t>(length * samples);
    Filled f{std::vector<int32_t>(n),     std::vector<int32_t>(n), std::vector<int32_t>(n),
             std::vector<int32_t>(n + 1), std::vector<float>(n),   {}};
    MaskOptions mask;
    mask.packed = true;
    const int64_t entries =
        fill_micro_batch(*source, 0, mask, {f.tokens, f.labels, f.mask, f.positions, f.ends}, &f.counts);
    f.ends.resize(static_cast<size_t>(entries));
    return f;
  }
  TemporaryFolder folder_;
  DatasetOptions options_;
};

TEST_F(Packed, PositionsAndBoundariesStartAnewAndNoLabelCrosses) {
  const Filled f = fill(11, true, 1);  // 10 tokens, a label's place and one of padding
  EXPECT_EQ(f.counts.learnt, 2 + 1 + 4);
  std::set<int32_t> starts{f.ends.begin(), f.ends.end()};
  for (size_t i = 0; i < 10; ++i) {
    const bool first = f.tokens[i] == 1 || f.tokens[i] == 4 || f.tokens[i] == 6;
    EXPECT_EQ(starts.contains(static_cast<int32_t>(i)), first) << i;
    EXPECT_EQ(f.positions[i], first ? 0 : f.positions[i - 1] + 1);
    const bool last = f.tokens[i] == 3 || f.tokens[i] == 5 || f.tokens[i] == 10;
    EXPECT_EQ(f.mask[i], last ? 0.f : 1.f) << i;
    if (!last) {
      EXPECT_EQ(f.labels[i], f.tokens[i] + 1);
    }
  }
  EXPECT_EQ(f.mask[10], 0.f);
  EXPECT_TRUE(starts.contains(10)) << "the padding stands alone";
}

TEST_F(Packed, OneASampleIsPadded) {
  const Filled f = fill(6, false, 3);
  EXPECT_EQ(f.counts.learnt, 7);
  EXPECT_EQ(f.counts.learnt + f.counts.masked + f.counts.padding, 18);
}

TEST_F(Packed, WhatIsTooLongIsCut) {
  set_log_level(LogLevel::kQuiet);
  const Filled f = fill(3, false, 3);
  set_log_level(LogLevel::kInfo);
  EXPECT_EQ(f.counts.learnt, 2 + 1 + 3);
  for (size_t i = 0; i < f.tokens.size(); ++i) EXPECT_LT(f.tokens[i], 9);
}

TEST_F(Packed, SaysWhatCuttingLeavesNothingLearntOf) {
  const auto opened = [&](int64_t length, bool learns) {
    options_.sequence_length = length;
    testing::internal::CaptureStderr();
    const auto source = std::move(build_datasets(options_)[kTrain]);
    EXPECT_EQ(learns_anything(*source, {.packed = true}), learns) << length;
    return testing::internal::GetCapturedStderr();
  };
  EXPECT_EQ(opened(2, true).find("nothing that is learnt"), std::string::npos) << "something is left";
  write(4);  // of the third alone, its last
  EXPECT_EQ(opened(4, true), "");
  const std::string cut = opened(3, false);
  EXPECT_NE(cut.find("1 of 3 conversations are longer than seq_length 3"), std::string::npos) << cut;
  EXPECT_NE(cut.find("nothing that is learnt is left of 1 of them"), std::string::npos) << cut;
  write(9);
  EXPECT_EQ(opened(3, false).find("nothing that is learnt"), std::string::npos) << "cutting took nothing";
}

}  // namespace
}  // namespace flagscale::data
