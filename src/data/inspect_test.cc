#include "data/inspect.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

namespace flagscale::data {
namespace {

const std::string kInspectGolden = FLAGSCALE_SOURCE_DIR "/tests/golden/data/";

TEST(Inspect, CountsWhatIsThere) {
  const auto facts = inspect_dataset(kInspectGolden + "lines_text_document", "50,50");
  EXPECT_EQ(facts.type, "uint16");
  EXPECT_EQ(facts.documents, 7);
  EXPECT_EQ(facts.empty_documents, 2);
  EXPECT_EQ(facts.sequences, 6);
  EXPECT_EQ(facts.largest_id, 256);
  EXPECT_EQ(facts.shortest, 2);
  EXPECT_EQ(facts.unused_bin_bytes, 0u);
  ASSERT_EQ(facts.splits.size(), 2u);
  EXPECT_EQ(facts.splits[0].tokens + facts.splits[1].tokens, facts.tokens);
}

TEST(Inspect, PrintsOneLineOfJson) {
  const std::string text = to_json(inspect_dataset(kInspectGolden + "a", "95,5,0"));
  EXPECT_EQ(text.find('\n'), text.size() - 1);
  const auto json = nlohmann::json::parse(text);
  EXPECT_EQ(json["documents"], 60);
  EXPECT_EQ(json["splits"]["valid"]["sequences"], 3);
  EXPECT_GT(json["unigram_entropy"]["valid"].get<double>(), 0);
  EXPECT_FALSE(json["unigram_entropy"].contains("test"));
}

TEST(Inspect, ShowsTheFirstDocuments) {
  const auto decode = [](std::span<const int32_t> ids) {
    std::string text;
    for (const int32_t id : ids) text += id < 256 ? static_cast<char>(id) : '$';
    return text;
  };
  EXPECT_EQ(to_text(first_documents(kInspectGolden + "lines_text_document", 2, 48, decode)),
            "0: 17 tokens: In the beginning$\n1: 0 tokens: \n");
  EXPECT_EQ(to_text(first_documents(kInspectGolden + "lines_text_document", 1, 3, decode)),
            "0: 17 tokens: In  …\n");
  const auto json =
      nlohmann::json::parse(to_json(inspect_dataset(kInspectGolden + "lines_text_document"),
                                    first_documents(kInspectGolden + "lines_text_document", 2, 3, decode)));
  ASSERT_EQ(json["first_documents"].size(), 2u);
  EXPECT_EQ(json["first_documents"][0], (nlohmann::json{{"tokens", 17}, {"text", "In "}, {"cut", true}}));
  EXPECT_FALSE(
      nlohmann::json::parse(to_json(inspect_dataset(kInspectGolden + "a"))).contains("first_documents"));
}

}  // namespace
}  // namespace flagscale::data
