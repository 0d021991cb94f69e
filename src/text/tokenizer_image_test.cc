#include "text/tokenizer_image.h"

#include <algorithm>

#include "text/rust_tokenizer.h"
#include "text/text_test_support.h"

namespace flagscale::text {
namespace {

using testing::golden;
using testing::Json;

// The image's bytes, aligned as a mapped file is.
struct Memory {
  explicit Memory(const std::string& image) : words((image.size() + 7) / 8) {
    std::ranges::copy(image, reinterpret_cast<char*>(words.data()));
  }
  std::span<const std::byte> bytes() const { return std::as_bytes(std::span(words)); }
  std::vector<uint64_t> words;
};

class Images : public ::testing::TestWithParam<const char*> {};

TEST_P(Images, GiveTheSameTokenizer) {
  const std::string file = GetParam();
  const auto tokenizer = load_tokenizer(golden(file));
  auto memory = std::make_shared<Memory>(tokenizer_image(*tokenizer));
  const std::weak_ptr<Memory> held = memory;
  const auto copy = tokenizer_from_image(memory->bytes(), memory);
  ASSERT_TRUE(copy);
  memory.reset();
  EXPECT_FALSE(held.expired());  // the tables lie there
  EXPECT_EQ(copy->source(), tokenizer->source());
  EXPECT_EQ(copy->vocab_size(), tokenizer->vocab_size());
  EXPECT_EQ(copy->eos(), tokenizer->eos());
  EXPECT_EQ(copy->chat_template_source(), tokenizer->chat_template_source());
  const std::string name = file.substr(0, file.find('.'));
  const Json cases = Json::parse(testing::read(golden(name + ".cases.json")));
  size_t compared = 0;
  for (const Json& each : cases.is_object() ? cases["cases"] : cases) {
    const std::string text = each.is_object() ? each["text"].get<std::string>() : each.get<std::string>();
    const auto ids = tokenizer->encode(text, true);
    EXPECT_EQ(copy->encode(text, true), ids);
    EXPECT_EQ(copy->decode(ids), tokenizer->decode(ids));
    ++compared;
  }
  EXPECT_GT(compared, 10u);
  for (int32_t id = 0; id < tokenizer->vocab_size(); ++id) {
    ASSERT_EQ(copy->id_to_token(id), tokenizer->id_to_token(id));
    ASSERT_EQ(copy->is_special(id), tokenizer->is_special(id));
  }
}
INSTANTIATE_TEST_SUITE_P(Text, Images,
                         ::testing::Values("smollm.json", "qwen2.json", "llama3.json", "metaspace.json",
                                           "metaspace_first.json", "spm_bpe.model", "spm_unigram.model"),
                         [](const auto& test) {
                           const std::string file = test.param;
                           return file.substr(0, file.find('.'));
                         });

TEST(Image, IsNoneOfTheCratesTokenizers) {
  const Tokenizer tokenizer(make_rust_tokenizer(testing::read(golden("gpt2.json"))), {});
  EXPECT_EQ(tokenizer_image(tokenizer), "");
}

// Damage is for a checksum to find; what is cut off is found here.
TEST(Image, CutOffIsNone) {
  for (const char* file : {"qwen2.json", "spm_unigram.model"}) {
    const std::string image = tokenizer_image(*load_tokenizer(golden(file)));
    for (size_t size = 0; size < image.size(); size += 8 + size / 64 * 8) {
      const Memory memory(image.substr(0, size));
      ASSERT_FALSE(tokenizer_from_image(memory.bytes(), nullptr)) << size;
    }
  }
}

}  // namespace
}  // namespace flagscale::text
