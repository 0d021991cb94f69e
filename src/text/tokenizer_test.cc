// Every tokenizer of tests/golden/text against what Hugging Face's tokenizers and SentencePiece made of the
// same texts.

#include "text/tokenizer.h"

#include <thread>

#include "base/error.h"
#include "base/temporary_folder_test_support.h"
#include "text/gguf_vocab.h"
#include "text/text_test_support.h"

namespace flagscale::text {
namespace {

using testing::golden;
using testing::Json;

using Ids = std::vector<int32_t>;

std::string shown(const std::string& text) { return Json(text).dump().substr(0, 200); }

struct Golden {
  const char* file;
  const char* cases;
  const char* kind;
};

class GoldenTokenizer : public ::testing::TestWithParam<Golden> {
 protected:
  void SetUp() override {
    tokenizer_ = load_tokenizer(golden(GetParam().file));
    cases_ = Json::parse(testing::read(golden(GetParam().cases)));
    ASSERT_GT(cases_.size(), 80u);
  }
  std::unique_ptr<Tokenizer> tokenizer_;
  Json cases_;
};

TEST_P(GoldenTokenizer, GivesTheSameIds) {
  EXPECT_STREQ(tokenizer_->encoder().kind(), GetParam().kind);
  for (const Json& each : cases_) {
    const std::string text = each["text"];
    const Ids expected = each["ids"];
    // The library itself has no special tokens in text; ours have (as transformers' LLaMA tokenizer).
    if (std::string(GetParam().file).ends_with(".model") && text.find("</s>") != text.npos) continue;
    EXPECT_EQ(tokenizer_->encode(text), expected) << shown(text);
    EXPECT_EQ(tokenizer_->encode(text, true), each.value("special", expected)) << shown(text);
  }
}

TEST_P(GoldenTokenizer, DecodesTheSame) {
  for (const Json& each : cases_) {
    const std::string text = each["text"];
    const Ids ids = each["ids"];
    EXPECT_EQ(tokenizer_->decode(ids, false), each.value("decoded", text)) << shown(text);
    EXPECT_EQ(tokenizer_->decode(ids, true), each.value("skipped", text)) << shown(text);
  }
}

TEST_P(GoldenTokenizer, StreamsWhatItDecodesAndOnlyWholeCharacters) {
  for (const Json& each : cases_) {
    const Ids ids = each["ids"];
    for (const bool skip : {true, false}) {
      StreamDecoder stream(*tokenizer_, {}, skip);
      std::string text;
      for (const int32_t id : ids) {
        const std::string part = stream.put(id);
        EXPECT_FALSE(Json(part).dump(-1, ' ', false, Json::error_handler_t::ignore).empty());
        EXPECT_NO_THROW(Json(part).dump()) << "a part that is not UTF-8";
        text += part;
      }
      text += stream.finish();
      EXPECT_EQ(text, tokenizer_->decode(ids, skip));
    }
  }
}

TEST_P(GoldenTokenizer, StreamsOnFromAnySplit) {
  int splits = 0;
  for (const Json& each : cases_) {
    Ids ids = each.value("special", each["ids"].get<Ids>());
    ids.resize(std::min<size_t>(ids.size(), 60));
    while (tokenizer_->decode(ids).ends_with("\xef\xbf\xbd")) ids.pop_back();  // inside a character
    const std::string whole = tokenizer_->decode(ids);
    for (size_t split = 0; split <= ids.size(); ++split) {
      const std::span<const int32_t> context(ids.data(), split);
      std::string text = tokenizer_->decode(context);
      if (text.ends_with("\xef\xbf\xbd")) continue;  // inside a character
      StreamDecoder stream(*tokenizer_, context);
      for (size_t i = split; i < ids.size(); ++i) text += stream.put(ids[i]);
      EXPECT_EQ(text + stream.finish(), whole) << shown(each["text"]) << " split at " << split;
      ++splits;
    }
  }
  EXPECT_GT(splits, 1000);
}

TEST_P(GoldenTokenizer, NamesItsTokens) {
  int32_t named = 0;
  for (int32_t id = 0; id < tokenizer_->vocab_size(); ++id) {
    const std::string token = tokenizer_->id_to_token(id);
    if (token.empty()) continue;
    ++named;
    EXPECT_EQ(tokenizer_->token_to_id(token), id) << token;
  }
  EXPECT_GT(named, 400);
  EXPECT_EQ(tokenizer_->id_to_token(tokenizer_->vocab_size()), "");
  EXPECT_EQ(tokenizer_->id_to_token(-1), "");
  EXPECT_EQ(tokenizer_->token_to_id("no such token"), std::nullopt);
  EXPECT_EQ(tokenizer_->decode(Ids{-5, tokenizer_->vocab_size() + 7, 1 << 30}), "");
}

INSTANTIATE_TEST_SUITE_P(
    All, GoldenTokenizer,
    ::testing::Values(Golden{"gpt2.json", "gpt2.cases.json", "bpe"},
                      Golden{"prefix_space.json", "prefix_space.cases.json", "bpe"},
                      Golden{"smollm.json", "smollm.cases.json", "bpe"},
                      Golden{"llama3.json", "llama3.cases.json", "bpe"},
                      Golden{"qwen2.json", "qwen2.cases.json", "bpe"},
                      Golden{"qwen35.json", "qwen35.cases.json", "bpe"},
                      Golden{"deepseek3.json", "deepseek3.cases.json", "bpe"},
                      Golden{"metaspace.json", "metaspace.cases.json", "sentencepiece"},
                      Golden{"metaspace_first.json", "metaspace_first.cases.json", "sentencepiece"},
                      Golden{"spm_bpe.model", "spm_bpe.cases.json", "sentencepiece"},
                      Golden{"spm_unigram.model", "spm_unigram.cases.json", "sentencepiece"}),
    [](const auto& each) {
      const std::string file = each.param.file;
      return file.substr(0, file.find('.'));
    });

TEST(Tokenizer, RefusesTextThatIsNotUtf8) {
  const auto tokenizer = load_tokenizer(golden("gpt2.json"));
  for (const std::string bad :
       {"abc\xff", "abc\xc3", "abc\xed\xa0\x80", "abc\xc0\x80", "abc\xf4\x90\x80\x80"}) {
    try {
      tokenizer->encode(bad);
      FAIL() << "accepted " << bad;
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::kInvalidArgument);
      EXPECT_NE(std::string(error.what()).find("byte 3"), std::string::npos) << error.what();
    }
  }
}

TEST(Tokenizer, IsOneForManyThreads) {
  const auto tokenizer = load_tokenizer(golden("qwen2.json"));
  const Json cases = Json::parse(testing::read(golden("qwen2.cases.json")));
  std::vector<std::thread> threads;
  std::atomic<int> wrong = 0;
  for (int i = 0; i < 4; ++i)
    threads.emplace_back([&] {
      for (const Json& each : cases)
        wrong += tokenizer->encode(each["text"].get<std::string>()) != each["ids"].get<Ids>();
    });
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(wrong, 0);
}

TEST(Tokenizer, LongWordsTakeNoQuadraticTime) {
  const auto tokenizer = load_tokenizer(golden("gpt2.json"));
  const std::string word(2'000'000, 'a');
  const Ids ids = tokenizer->encode(word);
  EXPECT_EQ(tokenizer->decode(ids), word);
}

TEST(Megatron, VocabularyAndMergesWithSpecialTokens) {
  const TemporaryFolder folder;
  const std::string special = folder.put("special_tokens.txt", "<|endoftext|>\n[CLS]\n</s>\n");
  const auto tokenizer = load_megatron_tokenizer({.type = "AquilaTokenizerFS",
                                                  .vocab_file = golden("gpt2-vocab.json"),
                                                  .merge_file = golden("gpt2-merges.txt"),
                                                  .special_tokens_file = special,
                                                  .tokenizer_model = "",
                                                  .tokenizer_path = ""});
  EXPECT_EQ(tokenizer->eos(), tokenizer->token_to_id("</s>"));
  EXPECT_EQ(tokenizer->bos(), tokenizer->token_to_id("[CLS]"));
  EXPECT_EQ(tokenizer->pad(), tokenizer->token_to_id("<|endoftext|>"));
  EXPECT_EQ(tokenizer->encode("</s>"), Ids{tokenizer->eos()});
  const auto same = load_tokenizer(golden("gpt2.json"));
  EXPECT_EQ(tokenizer->encode("The river doesn't run 1234 times"),
            same->encode("The river doesn't run 1234 times"));
}

TEST(Megatron, AquilaReadsItsOwnFiles) {
  const std::string folder = FLAGSCALE_SOURCE_DIR "/../shared/flagscale/examples/aquila/tokenizer";
  if (!std::filesystem::exists(folder)) GTEST_SKIP() << "no FlagScale tree beside this one";
  MegatronTokenizer spec;
  spec.type = "AquilaTokenizerFS";
  spec.vocab_file = folder + "/vocab.json";
  spec.merge_file = folder + "/merges.txt";
  spec.special_tokens_file = folder + "/special_tokens.txt";
  const auto tokenizer = load_megatron_tokenizer(spec);
  EXPECT_EQ(tokenizer->vocab_size(), 100008);
  EXPECT_EQ(tokenizer->eos(), 100007);
  for (const Json& each : Json::parse(testing::read(golden("aquila.cases.json")))) {
    const std::string text = each["text"];
    const Ids ids = each["ids"];
    EXPECT_EQ(tokenizer->encode(text), ids) << shown(text);
    EXPECT_EQ(tokenizer->decode(ids, false), each.value("decoded", text)) << shown(text);
    EXPECT_EQ(tokenizer->decode(ids, true), each.value("skipped", text)) << shown(text);
  }
}

TEST(Megatron, NullTokenizerReadsNumbers) {
  MegatronTokenizer spec;
  spec.type = "NullTokenizer";
  spec.vocab_size = 100;
  const auto tokenizer = load_megatron_tokenizer(spec);
  EXPECT_EQ(tokenizer->encode(" 1 22\n99"), (Ids{1, 22, 99}));
  EXPECT_EQ(tokenizer->decode(Ids{1, 22, 99}), "1 22 99");
  EXPECT_EQ(tokenizer->eos(), 100);
  EXPECT_EQ(tokenizer->vocab_size(), 101);
  EXPECT_THROW(tokenizer->encode("1 x"), Error);
  EXPECT_THROW(tokenizer->encode("101"), Error);
}

template <class F>
std::string message_of(F&& call) {
  try {
    call();
  } catch (const Error& error) {
    return error.what();
  }
  return "no error";
}

TEST(Megatron, ErrorsNameWhatIsMissing) {
  MegatronTokenizer spec;
  spec.type = "BertWordPieceLowerCase";
  EXPECT_NE(message_of([&] { load_megatron_tokenizer(spec); }).find("AquilaTokenizerFS"), std::string::npos);
  spec.type = "QwenTokenizerFS";
  EXPECT_NE(message_of([&] { load_megatron_tokenizer(spec); }).find("train.data.tokenizer.tokenizer_path"),
            std::string::npos);
}

TEST(LoadTokenizer, ErrorsNameTheFile) {
  const TemporaryFolder folder;
  EXPECT_NE(message_of([&] { load_tokenizer("no/such/path"); }).find("no/such/path"), std::string::npos);
  EXPECT_NE(message_of([&] { load_tokenizer(folder.path); }).find("tokenizer.json"), std::string::npos);
  for (const auto& [name, content] : std::vector<std::pair<std::string, std::string>>{
           {"tokenizer.json", "{"},
           {"tokenizer.json", "[]"},
           {"tokenizer.json", R"({"model": {"type": "BPE"}})"},
           {"tokenizer.json", R"({"model": {"type": "BPE", "vocab": {"a": 99999999999}, "merges": []}})"},
           {"x.model", "not a model"},
           {"x.tiktoken", "YQ== 0\nYg== 1\n"},
           {"x.tiktoken", "YQ== 0\n!! 1\n"}}) {
    const std::string path = folder.put(name, content);
    EXPECT_NE(message_of([&] { load_tokenizer(path); }).find(path), std::string::npos)
        << name << ": " << message_of([&] { load_tokenizer(path); });
  }
}

// A file our own code reads, seen as a GGUF vocabulary.
TEST(Gguf, BytePairVocabularyGivesTheIdsOfItsJson) {
  const Json json = Json::parse(testing::read(golden("smollm.json")));
  std::vector<std::string> tokens, merges;
  for (const auto& [token, id] : json["model"]["vocab"].items()) {
    tokens.resize(std::max(tokens.size(), id.get<size_t>() + 1));
    tokens[id] = token;
  }
  GgufVocab vocab{.model = "gpt2",
                  .pre = "smollm",
                  .tokens = {},
                  .merges = {},
                  .types = {},
                  .scores = {},
                  .chat_template = {}};
  for (const Json& added : json["added_tokens"]) {
    if (added["content"] == "[PAD]" || added["content"] == "tail") continue;
    tokens.resize(std::max(tokens.size(), added["id"].get<size_t>() + 1));
    tokens[added["id"]] = added["content"];
  }
  for (const Json& pair : json["model"]["merges"])
    merges.push_back(pair[0].get<std::string>() + " " + pair[1].get<std::string>());
  vocab.tokens.assign(tokens.begin(), tokens.end());
  vocab.merges.assign(merges.begin(), merges.end());
  vocab.types.assign(tokens.size(), 1);
  for (size_t id = 0; id < tokens.size(); ++id)
    if (tokens[id].starts_with("<|") && tokens[id].ends_with("|>")) vocab.types[id] = 3;
  vocab.bos = vocab.eos = 0;
  const auto tokenizer = tokenizer_from_gguf(vocab, "test.gguf");
  const TemporaryFolder folder;
  const auto written = load_tokenizer(folder.put("tokenizer.json", tokenizer_json(vocab, "test.gguf")));
  EXPECT_STREQ(written->encoder().kind(), "bpe");
  int compared = 0;
  for (const Json& each : Json::parse(testing::read(golden("smollm.cases.json")))) {
    const std::string text = each["text"];
    EXPECT_EQ(written->encode(text), tokenizer->encode(text)) << shown(text);
    if (text.find("[PAD]") != text.npos || text.find("tail") != text.npos) continue;
    EXPECT_EQ(tokenizer->encode(text), each["ids"].get<Ids>()) << shown(text);
    ++compared;
  }
  EXPECT_GT(compared, 50);
  vocab.pre = "no-such";
  EXPECT_NE(message_of([&] { tokenizer_from_gguf(vocab, "test.gguf"); }).find("no-such"), std::string::npos);
  vocab.pre = "smollm";
  vocab.types.pop_back();
  EXPECT_NE(message_of([&] { tokenizer_from_gguf(vocab, "test.gguf"); }).find("types"), std::string::npos);
}

}  // namespace
}  // namespace flagscale::text
