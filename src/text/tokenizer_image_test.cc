#include "text/tokenizer_image.h"

#include <cstring>

#include "text/text_test_support.h"

namespace flagscale::text {
namespace {

using testing::golden;
using testing::Json;

// The image's bytes, aligned as a mapped file is.
struct Memory {
  explicit Memory(const std::string& image) : words((image.size() + 7) / 8) {
    std::memcpy(words.data(), image.data(), image.size());
  }
  std::span<const std::byte> bytes() const { return std::as_bytes(std::span(words)); }
  std::vector<uint64_t> words;
};

class Images : public ::testing::TestWithParam<const char*> {};

TEST_P(Images, GiveTheSameTokenizer) {
  const auto tokenizer = load_tokenizer(golden(std::string(GetParam()) + ".json"));
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
  const Json cases = Json::parse(testing::read(golden(std::string(GetParam()) + ".cases.json")));
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
INSTANTIATE_TEST_SUITE_P(Text, Images, ::testing::Values("smollm", "qwen2", "llama3"),
                         [](const auto& test) { return std::string(test.param); });

TEST(Image, IsNoneOfASentencePieceModel) {
  EXPECT_EQ(tokenizer_image(*load_tokenizer(golden("metaspace.json"))), "");
}

// Damage is for a checksum to find; what is cut off is found here.
TEST(Image, CutOffIsNone) {
  const std::string image = tokenizer_image(*load_tokenizer(golden("qwen2.json")));
  for (size_t size = 0; size < image.size(); size += 8 + size / 64 * 8) {
    const Memory memory(image.substr(0, size));
    ASSERT_FALSE(tokenizer_from_image(memory.bytes(), nullptr)) << size;
  }
}

}  // namespace
}  // namespace flagscale::text
