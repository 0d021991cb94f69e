#include "data/train_data.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>

#include "base/error.h"
#include "base/log.h"
#include "base/temporary_folder_test_support.h"
#include "data/blend.h"
#include "data/indexed_writer.h"
#include "data/sample_index.h"
#include "io/atomic_file.h"

namespace flagscale::data {
namespace {

const std::string kTrainDataGolden = FLAGSCALE_SOURCE_DIR "/tests/golden/data/";

std::string error_of(const DatasetOptions& options) {
  try {
    build_datasets(options);
  } catch (const Error& error) {
    return error.what();
  }
  return "no error";
}

DatasetOptions options_of(std::vector<std::string> data_path) {
  DatasetOptions options;
  options.data_path = std::move(data_path);
  options.sequence_length = 16;
  return options;
}

TEST(BuildDatasets, SaysWhatIsWrong) {
  const std::string a = kTrainDataGolden + "a";
  EXPECT_EQ(error_of(options_of({})), "required value train.data.data_path is not set");
  EXPECT_NE(error_of(options_of({kTrainDataGolden + "none"})).find("none.idx"), std::string::npos);
  EXPECT_NE(error_of(options_of({"0.5", a, "x", a})).find("\"x\" should be a weight"), std::string::npos);
  EXPECT_NE(error_of(options_of({"-1", a, "2", a})).find("weight -1"), std::string::npos);
  EXPECT_NE(error_of(options_of({"0", a, "0", a})).find("add up to 0"), std::string::npos);
  EXPECT_NE(error_of(options_of({"1", a, "2", a})).find("needs a number of train samples"),
            std::string::npos);
  auto both = options_of({a});
  both.split_data_path[kValid] = {a};
  EXPECT_NE(error_of(both).find("exclude each other"), std::string::npos);
  auto long_sample = options_of({a});
  long_sample.samples[kTrain] = int64_t{1} << 58;
  EXPECT_NE(error_of(long_sample).find("epochs"), std::string::npos) << error_of(long_sample);
  auto wrong_split = options_of({a});
  for (const char* split : {"", "a", "1,2,3,4", "0,0", "1.2.3", "-1,2"}) {
    wrong_split.split = split;
    EXPECT_NE(error_of(wrong_split).find("split"), std::string::npos)
        << split << ": " << error_of(wrong_split);
  }
}

TEST(BuildDatasets, TokensOutsideTheVocabularyStopTheSample) {
  auto options = options_of({kTrainDataGolden + "a"});
  options.vocab_size = 5;
  const auto splits = build_datasets(options);
  std::vector<int32_t> tokens(17);
  EXPECT_THROW(splits[kTrain]->sample(0, tokens), Error);
  EXPECT_THROW(splits[kTrain]->sample(splits[kTrain]->size(), tokens), Error);
  EXPECT_THROW(splits[kTrain]->sample(-1, tokens), Error);
}

// Tokens of every training sample.
std::vector<int32_t> all_tokens(const DatasetOptions& options) {
  const auto splits = build_datasets(options);
  const auto length = static_cast<size_t>(options.sequence_length) + 1;
  std::vector<int32_t> tokens(static_cast<size_t>(splits[kTrain]->size()) * length);
  for (size_t i = 0; i * length < tokens.size(); ++i)
    splits[kTrain]->sample(static_cast<int64_t>(i), std::span(tokens).subspan(i * length, length));
  return tokens;
}

TEST(IndexCache, GivesWhatWasBuiltAndSurvivesDamage) {
  set_log_level(LogLevel::kQuiet);
  auto options = options_of({kTrainDataGolden + "a"});
  options.samples[kTrain] = 75;
  const auto wanted = all_tokens(options);
  options.cache_path = testing::TempDir() + "index-cache-" + std::to_string(::getpid()) + "/new";
  EXPECT_EQ(all_tokens(options), wanted) << "built and stored";
  EXPECT_EQ(all_tokens(options), wanted) << "loaded";
  std::vector<std::filesystem::path> files;
  for (const auto& entry : std::filesystem::directory_iterator(options.cache_path))
    files.push_back(entry.path());
  EXPECT_EQ(files.size(), 8u) << "four files for train and for valid";
  for (const auto& file : files) {
    const std::string whole = io::read_file(file.string());
    for (const size_t at : {size_t{0}, size_t{20}, whole.size() - 3}) {
      std::string damaged = whole;
      damaged[at] = '\x7f';
      io::write_file(file.string(), damaged);
      EXPECT_EQ(all_tokens(options), wanted) << file << " byte " << at;
    }
  }
  options.seed = 1;
  EXPECT_NE(all_tokens(options), wanted) << "another seed is another entry";
  options.cache_path = "/proc/nowhere";
  all_tokens(options);  // a cache that cannot be written only warns
  set_log_level(LogLevel::kInfo);
}

TEST(RequestedSamples, FollowMegatron) {
  const auto by_iterations = requested_samples(1000, 0, 32, 100, 10);
  EXPECT_EQ(by_iterations[kTrain], 32000);
  EXPECT_EQ(by_iterations[kValid], 11 * 10 * 32);
  EXPECT_EQ(by_iterations[kTest], 320);
  const auto by_samples = requested_samples(0, 1000, 8, 50, 2);
  EXPECT_EQ(by_samples[kTrain], 1000);
  EXPECT_EQ(by_samples[kValid], (125 / 50 + 1) * 2 * 8);
}

TEST(SampleOrder, DealsBlocksAndDropsTheRest) {
  SampleOrder order{20, 2, 0, 3};  // blocks of 6
  EXPECT_EQ(order.start(0, 0), 0);
  EXPECT_EQ(order.start(0, 1), 6);
  EXPECT_EQ(order.start(6, 1), 12);
  EXPECT_EQ(order.start(0, 3), std::nullopt) << "2 samples are left, a block takes 6";
  order.data_parallel_rank = 2;
  EXPECT_EQ(order.start(6, 0), 10);
}

// Writes PREFIX_text_document, documents of these lengths with ids 1, 2, 3..., and its loss mask: 1 for even
// ids.
void write_masked(const std::string& prefix, std::vector<int32_t> lengths,
                  std::vector<int32_t> mask_lengths) {
  IndexedWriter text(prefix + "_text_document", TokenType::kU16);
  IndexedWriter mask(prefix + "_loss_mask_document", TokenType::kU16);
  int32_t id = 0, masked = 0;
  const auto put = [](IndexedWriter& writer, int32_t length, auto next) {
    std::vector<int32_t> values(static_cast<size_t>(length));
    std::generate(values.begin(), values.end(), next);
    writer.add_sequence(values);
    writer.end_document();
  };
  for (const int32_t length : lengths) put(text, length, [&] { return ++id; });
  for (const int32_t length : mask_lengths) put(mask, length, [&] { return ++masked % 2 == 0 ? 1 : 0; });
  for (IndexedWriter* writer : {&text, &mask}) writer->commit(), writer->remove_parts();
}

TEST(SeparatedLossMask, SaysWhichLabelsCount) {
  const TemporaryFolder folder;
  write_masked(folder.path + "/x", {7, 30, 5, 23}, {7, 30, 5, 23});
  auto options = options_of({folder.path + "/x_text_document"});
  options.split = "1";
  options.separated_loss_mask = true;
  const auto splits = build_datasets(options);
  const MaskOptions masks{.eod_token = 2, .eod_mask_loss = true};  // which the files overrule
  std::vector<int32_t> tokens(16), labels(16), positions(16), cu(2);
  std::vector<float> mask(16);
  for (int64_t s = 0; s < splits[kTrain]->size(); ++s) {
    fill_micro_batch(*splits[kTrain], s, masks, {tokens, labels, mask, positions, cu});
    for (size_t i = 0; i < 16; ++i) EXPECT_EQ(mask[i], labels[i] % 2 == 0 ? 1 : 0) << labels[i];
  }
}

TEST(SeparatedLossMask, OfOtherSequencesIsRefused) {
  const TemporaryFolder folder;
  const auto refusal = [&](std::vector<int32_t> mask_lengths) {
    write_masked(folder.path + "/x", {7, 30}, std::move(mask_lengths));
    auto options = options_of({folder.path + "/x_text_document"});
    options.separated_loss_mask = true;
    return error_of(options);
  };
  EXPECT_NE(refusal({7}).find("has 2 sequences, its loss mask"), std::string::npos);
  EXPECT_NE(refusal({7, 29}).find("sequence 1 has 30 tokens"), std::string::npos);
}

TEST(SeparatedLossMask, OneThatNoKeyAsksForIsNamed) {
  const TemporaryFolder folder;
  write_masked(folder.path + "/x", {7, 30, 5, 23}, {7, 30, 5, 23});
  auto options = options_of({folder.path + "/x_text_document"});
  options.split = "1";
  const auto warning = [&] {
    testing::internal::CaptureStderr();
    build_datasets(options);
    return testing::internal::GetCapturedStderr();
  };
  EXPECT_NE(warning().find("x_loss_mask_document is not used, every token is learnt"), std::string::npos);
  options.separated_loss_mask = true;
  EXPECT_EQ(warning(), "");
}

TEST(SeparatedLossMask, WhereThereIsNoneEveryTokenCounts) {
  auto options = options_of({kTrainDataGolden + "a"});
  options.separated_loss_mask = true;
  std::vector<int32_t> mask(17);
  EXPECT_FALSE(build_datasets(options)[kTrain]->loss_mask(0, mask));
}

TEST(FillMicroBatch, ComplainsWhenBoundariesDoNotFit) {
  auto options = options_of({kTrainDataGolden + "a"});
  options.sequence_length = 64;
  const auto splits = build_datasets(options);
  MaskOptions masks;
  masks.eod_token = 0;
  masks.reset_attention_mask = true;
  std::vector<int32_t> tokens(64), labels(64), positions(64), cu(2);
  std::vector<float> mask(64);
  EXPECT_THROW(fill_micro_batch(*splits[kTrain], 0, masks, {tokens, labels, mask, positions, cu}), Error);
  cu.resize(static_cast<size_t>(max_cu_seqlens(1, 64, masks)));
  const int64_t live = fill_micro_batch(*splits[kTrain], 0, masks, {tokens, labels, mask, positions, cu});
  EXPECT_GT(live, 2);
  EXPECT_EQ(cu.back(), 64) << "entries past the live ones repeat the last boundary";
}

TEST(SampleIndex, AMillionDocuments) {
  constexpr int64_t kDocuments = 1000000;
  SampleIndexOptions options{0, kDocuments, 512, 400000, 1234, true};
  const auto index = build_sample_index(options, [](int64_t s) { return static_cast<int32_t>(s % 401); });
  EXPECT_EQ(index.epochs, 2);
  EXPECT_EQ(static_cast<int64_t>(index.documents.size()), 2 * kDocuments);
  std::vector<uint32_t> sorted = index.shuffle;
  std::sort(sorted.begin(), sorted.end());
  for (size_t i = 0; i < sorted.size(); ++i) ASSERT_EQ(sorted[i], i);
}

TEST(SampleIndex, ThatTheMemoryDoesNotHoldIsNotMade) {
  SampleIndexOptions options{0, 10, 512, 1'000'000'000, 1234, true};
  options.memory = uint64_t{4} << 30;
  try {
    build_sample_index(options, [](int64_t) { return 100'000; });
    ADD_FAILURE() << "made";
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kResource);
    EXPECT_NE(std::string(error.what()).find("11.2 GiB of memory, 4.0 GiB are free"), std::string::npos)
        << error.what();
  }
}

}  // namespace
}  // namespace flagscale::data
