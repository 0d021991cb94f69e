// The keys of train.data.tokenizer act: on the size of the vocabulary, which the plan shows, or on what is
// refused.

#include <nlohmann/json.hpp>

#include "tests/e2e/workshop.h"

namespace flagscale::e2e {
namespace {

using Words = std::vector<std::string>;

class TokenizerKeys : public Workshop {
 protected:
  static void SetUpTestSuite() {
    Workshop::SetUpTestSuite();
    must({"data", "train-tokenizer", "--input", "text.txt", "--vocab-size", "700", "--output", "larger"});
    write_vocabulary_and_merges("aquila");
    write("aquila/more.txt", "<|one|>\n<|two|>\n<|three|>\n");
    auto short_vocabulary = nlohmann::json::parse(contents("aquila/vocab.json"));
    for (auto it = short_vocabulary.begin(); it != short_vocabulary.end();)
      it = it.value().get<int>() >= 400 ? short_vocabulary.erase(it) : std::next(it);
    write("aquila/short.json", short_vocabulary.dump());
    write("aquila/no_merges.txt", "#version: 0.2\n");
  }

  // Parameters of the planned model; what was complained of where it is refused.
  static std::string planned(const Words& keys) {
    Words words = training("plan", {"action=dryrun", "--json", "~train.data.tokenizer",
                                    "++train.data.make_vocab_size_divisible_by=1"});
    for (const std::string& key : keys) words.push_back("++train.data.tokenizer." + key);
    const Result result = run(words, folder_);
    return result.code == 0 ? nlohmann::json::parse(result.out).at("parameters").dump() : result.err;
  }
  // Of a model that is not refused: what is complained of names the keys, and so would always be another.
  static int64_t parameters(const Words& keys) {
    const std::string said = planned(keys);
    EXPECT_EQ(said.find_first_not_of("0123456789"), std::string::npos) << said;
    return std::atoll(said.c_str());
  }
};

TEST_F(TokenizerKeys, TheFolderDecidesTheVocabulary) {
  const std::string small = planned({"tokenizer_path=tokenizer"}), large = planned({"tokenizer_path=larger"});
  EXPECT_EQ(std::stoll(large) - std::stoll(small), (700 - 512) * 2 * 64)
      << "rows of the embedding and the output layer";
  EXPECT_EQ(planned({"tokenizer_model=larger"}), large);
  EXPECT_EQ(planned({"tokenizer_type=HuggingFaceTokenizer", "tokenizer_path=larger"}), large);
  EXPECT_NE(planned({"tokenizer_path=nowhere"}).find("nowhere"), std::string::npos);
}

TEST_F(TokenizerKeys, AGgufFileIsATokenizerToo) {
  std::filesystem::copy_file(FLAGSCALE_SOURCE_DIR "/tests/golden/io/llama.gguf", folder_ / "m.gguf");
  const std::string small = planned({"tokenizer_path=m.gguf"}), large = planned({"tokenizer_path=larger"});
  EXPECT_EQ(std::stoll(large) - std::stoll(small), (700 - 40) * 2 * 64);
  EXPECT_EQ(planned({"tokenizer_type=HuggingFaceTokenizer", "tokenizer_path=m.gguf"}), small);
  const Words own{"generate", "m.gguf", "--prompt", "5", "--max-tokens", "4", "--temperature", "0"};
  Words named = own;
  named.insert(named.end(), {"--tokenizer", "m.gguf"});
  EXPECT_EQ(must(named).out, must(own).out);
}

TEST_F(TokenizerKeys, TheTypeDecidesTheReader) {
  EXPECT_NE(planned({"tokenizer_type=Nonesuch", "tokenizer_path=larger"}).find("'Nonesuch' is not known"),
            std::string::npos);
  EXPECT_EQ(parameters({"tokenizer_type=NullTokenizer", "vocab_size=901"}) -
                parameters({"tokenizer_type=NullTokenizer", "vocab_size=900"}),
            2 * 64);
}

TEST_F(TokenizerKeys, VocabularyMergesAndSpecialTokens) {
  const Words aquila{"tokenizer_type=AquilaTokenizerFS", "merge_file=aquila/merges.txt"};
  const auto with = [&](Words more) {
    more.insert(more.begin(), aquila.begin(), aquila.end());
    return planned(more);
  };
  const auto parameters_with = [&](Words more) {
    more.insert(more.begin(), aquila.begin(), aquila.end());
    return parameters(more);
  };
  const int64_t plain = parameters_with({"vocab_file=aquila/vocab.json"});
  EXPECT_LT(parameters_with({"vocab_file=aquila/short.json", "merge_file=aquila/no_merges.txt"}), plain);
  EXPECT_NE(with({"vocab_file=aquila/short.json"}).find("merges.txt"), std::string::npos)
      << "a merge that makes no token of the vocabulary";
  EXPECT_NE(with({}).find("required value train.data.tokenizer.vocab_file is not set"), std::string::npos)
      << with({});
  EXPECT_NE(parameters_with({"vocab_file=aquila/vocab.json", "special_tokens_file=aquila/more.txt"}), plain);
  EXPECT_NE(planned({"tokenizer_type=AquilaTokenizerFS", "vocab_file=aquila/vocab.json"})
                .find("merge_file is not set"),
            std::string::npos);
  EXPECT_NE(with({"vocab_file=aquila/vocab.json", "merge_file=aquila/more.txt"}).find("more.txt"),
            std::string::npos);
}

}  // namespace
}  // namespace flagscale::e2e
