// The parts below a tokenizer: UTF-8, normalisation, words, added tokens, training.

#include <algorithm>

#include "base/error.h"
#include "base/temporary_folder_test_support.h"
#include "text/added_tokens.h"
#include "text/bpe_trainer.h"
#include "text/byte_alphabet.h"
#include "text/normalize.h"
#include "text/pre_tokenizer.h"
#include "text/rust_library.h"
#include "text/text_test_support.h"
#include "text/tokenizer.h"
#include "text/unicode.h"

namespace flagscale::text {
namespace {

using Words = std::vector<std::string_view>;

TEST(Utf8, LossyTextHasOneReplacementForEachBrokenPart) {
  EXPECT_EQ(utf8_lossy("a\xffz"), "a\xef\xbf\xbdz");
  EXPECT_EQ(utf8_lossy("\xe4\xb8z"), "\xef\xbf\xbdz");
  EXPECT_EQ(utf8_lossy("\xed\xa0\x80"), "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd");
  EXPECT_EQ(utf8_lossy("\xf0\x9f\x99\x82"), "\xf0\x9f\x99\x82");
}

TEST(Utf8, UnfinishedSuffix) {
  EXPECT_EQ(unfinished_utf8_suffix("abc"), 0u);
  EXPECT_EQ(unfinished_utf8_suffix("ab\xc3"), 1u);
  EXPECT_EQ(unfinished_utf8_suffix("\xf0\x9f\x99"), 3u);
  EXPECT_EQ(unfinished_utf8_suffix("\xe4\xb8\xad"), 0u);
  EXPECT_EQ(unfinished_utf8_suffix("\xff"), 0u);
  EXPECT_EQ(unfinished_utf8_suffix("\xe0\x80"), 0u) << "an overlong form never becomes a character";
}

TEST(ByteAlphabet, EveryByteHasItsCharacter) {
  std::string bytes;
  for (int byte = 0; byte < 256; ++byte) bytes += static_cast<char>(byte);
  EXPECT_EQ(alphabet_to_bytes(bytes_to_alphabet(bytes)), bytes);
  EXPECT_EQ(bytes_to_alphabet(" \n"), "\u0120\u010a");
  EXPECT_EQ(alphabet_to_bytes("\u4e2d"), std::nullopt);
}

// The crate normalises each text whole; ours only the parts that need it.
TEST(Nfc, PartsGiveWhatTheWholeGives) {
  const std::vector<std::string> parts = {"a",
                                          "e\u0301",
                                          "\u0301",
                                          "\u0323",
                                          "\u00e9",
                                          " ",
                                          "\uac00",
                                          "\u11a8",
                                          "\u1112",
                                          "\u1161",
                                          "\u093c",
                                          "\u0928",
                                          "\u212b",
                                          "\u0f71\u0f72",
                                          "\u4e2d",
                                          "\U0001d15e",
                                          "\u05d0\u05b7\u05bc"};
  uint32_t state = 1;
  for (int round = 0; round < 3000; ++round) {
    std::string text;
    for (int i = 0; i < 8; ++i) text += parts[(state = state * 1664525 + 1013904223) >> 16 & 15];
    std::string storage;
    EXPECT_EQ(nfc(text, storage), rust_nfc(text)) << text;
  }
}

TEST(PreTokenizer, WordsCoverTheText) {
  const std::string text = "It's  1234 x\u00b2,\r\n\n \u5317\u4eac2024 \u0e01\u0e34\u0e19!!\t\tend \x01\x02";
  for (const std::string& each : pre_tokenizer_names()) {
    std::string joined;
    for (const std::string_view word : words(*pre_tokenizer_by_name(each), text)) {
      EXPECT_FALSE(word.empty());
      joined += word;
    }
    EXPECT_EQ(joined, text) << each;
  }
}

TEST(PreTokenizer, FamiliesDifferWhereTheirExpressionsDo) {
  const std::string text = "I'LL  see 1234!\n";
  EXPECT_EQ(words(PreTokenizer::kGpt2, text), (Words{"I", "'", "LL", " ", " see", " 1234", "!", "\n"}));
  EXPECT_EQ(words(PreTokenizer::kGpt2Digits, text),
            (Words{"I", "'", "LL", " ", " see", " ", "1", "2", "3", "4", "!", "\n"}));
  EXPECT_EQ(words(PreTokenizer::kLlama3, text), (Words{"I", "'LL", " ", " see", " ", "123", "4", "!\n"}));
  EXPECT_EQ(words(PreTokenizer::kQwen2, text),
            (Words{"I", "'LL", " ", " see", " ", "1", "2", "3", "4", "!\n"}));
  EXPECT_EQ(words(PreTokenizer::kDeepSeek3, text), (Words{"I", "'LL", " ", " see", " ", "123", "4", "!\n"}));
}

TEST(AddedTokens, LeftmostThenLongest) {
  const AddedTokenMatcher matcher({{1, "<a>"}, {2, "<a>b"}, {3, "x", false, false, true, true}});
  std::string seen;
  matcher.split(
      "1<a>b2<a>3  x \u30004", [&](std::string_view text) { seen += "(" + std::string(text) + ")"; },
      [&](int32_t id) { seen += std::to_string(id); });
  EXPECT_EQ(seen, "(1)2(2)1(3)3(4)");
}

TextSource source_of(std::vector<std::string> texts) {
  return [texts = std::move(texts), at = size_t{0}](std::string& text) mutable {
    if (at == texts.size()) return false;
    text = texts[at++];
    return true;
  };
}

std::vector<std::string> training_texts() {
  std::vector<std::string> texts;
  for (const auto& each : testing::Json::parse(testing::read(testing::golden("gpt2.cases.json"))))
    texts.push_back(each["text"]);
  return texts;
}

TEST(BpeTrainer, TheMostFrequentPairComesFirst) {
  BpeTraining training;
  training.vocab_size = 256 + 1 + 3;
  const TrainedBpe trained = train_bpe(source_of({"aaab aaab ab", "ab ab"}), training);
  const auto json = testing::Json::parse(trained.tokenizer_json);
  // (a, b) comes 5 times. Then (a, a), (a, ab) and (space, ab) come twice each: the lowest ids win; then
  // (space, ab), (aa, ab).
  EXPECT_EQ(json["model"]["merges"].dump(), R"([["a","b"],["a","a"],["Ġ","ab"]])");
  EXPECT_EQ(trained.vocab_size, 260);
}

TEST(BpeTrainer, IsTheSameForAnyNumberOfThreadsAndLoads) {
  std::string first;
  for (const int threads : {1, 3}) {
    BpeTraining training;
    training.vocab_size = 600;
    training.pre_tokenizer = "llama3";
    training.special_tokens = {"<|endoftext|>", "<|im_end|>"};
    training.threads = threads;
    const TrainedBpe trained = train_bpe(source_of(training_texts()), training);
    if (first.empty()) first = trained.tokenizer_json;
    EXPECT_EQ(trained.tokenizer_json, first);
  }
  const TemporaryFolder folder;
  const auto tokenizer = load_tokenizer(folder.put("tokenizer.json", first));
  EXPECT_EQ(tokenizer->vocab_size(), 600);
  EXPECT_EQ(tokenizer->token_to_id("<|im_end|>"), 1);
  for (const std::string& text : training_texts())
    EXPECT_EQ(tokenizer->decode(tokenizer->encode(text), false), text);
  size_t tokens = 0, bytes = 0;
  for (const std::string& text : training_texts())
    tokens += tokenizer->encode(text).size(), bytes += text.size();
  EXPECT_LT(tokens, bytes * 3 / 4) << "it has learned no pairs";
}

TEST(BpeTrainer, RefusesWhatCannotBe) {
  BpeTraining training;
  training.vocab_size = 256;
  EXPECT_THROW(train_bpe(source_of({"text"}), training), Error);
  training.vocab_size = 300;
  EXPECT_THROW(train_bpe(source_of({}), training), Error);
  EXPECT_THROW(train_bpe(source_of({"\xff"}), training), Error);
  training.pre_tokenizer = "no such";
  EXPECT_THROW(train_bpe(source_of({"text"}), training), Error);
  training.pre_tokenizer = "gpt2";
  training.special_tokens = {"a"};
  EXPECT_THROW(train_bpe(source_of({"text"}), training), Error);
}

TEST(BpeTrainer, ReadsFilesAndWritesAFolder) {
  const TemporaryFolder folder;
  std::string text;
  for (int i = 0; i < 200000; ++i) text += "line " + std::to_string(i % 977) + "\n";
  const std::string file = folder.put("text.txt", text);
  BpeTraining training;
  training.vocab_size = 400;
  int64_t read = 0;
  training.progress = [&](std::string_view phase, int64_t done, int64_t) {
    if (phase == "read") read = done;
  };
  train_bpe_files({file}, training, folder.path + "/made/tokenizer");
  EXPECT_EQ(read, static_cast<int64_t>(text.size()));
  const auto tokenizer = load_tokenizer(folder.path + "/made/tokenizer");
  EXPECT_EQ(tokenizer->eos(), 0);
  EXPECT_EQ(tokenizer->encode("line").size(), 1u);
}

TEST(BpeTrainer, AFailureLeavesNoFolder) {
  const TemporaryFolder folder;
  const std::string good = folder.put("good.txt", "a text\n");
  const std::string wide = folder.put("wide.txt", std::string("\xff\xfe"
                                                              "a\0",
                                                              4));
  EXPECT_THROW(train_bpe_files({good, wide}, {}, folder.path + "/made/tokenizer"), Error);
  EXPECT_FALSE(std::filesystem::exists(folder.path + "/made"));
}

}  // namespace
}  // namespace flagscale::text
