#include "text/messages.h"

#include "base/error.h"
#include "text/text_test_support.h"

namespace flagscale::text {
namespace {

std::string prepared(const std::string& message) {
  nlohmann::ordered_json json = nlohmann::ordered_json::parse(message);
  try {
    prepare_message(json, "messages[2]");
  } catch (const Error& error) {
    return error.what();
  }
  return json.dump();
}

TEST(Messages, ContentsBecomeText) {
  EXPECT_EQ(prepared(R"({"role":"user","content":"a"})"), R"({"role":"user","content":"a"})");
  EXPECT_EQ(prepared(R"({"role":"user","content":null})"), R"({"role":"user","content":""})");
  EXPECT_EQ(prepared(R"({"role":"user","content":[]})"), R"({"role":"user","content":""})");
  EXPECT_EQ(
      prepared(R"({"role":"user","content":[{"type":"text","text":"a"},"b",{"type":"input_text","text":"c"},
                         {"type":"output_text","text":"d"}],"name":"n"})"),
      R"({"role":"user","content":"a\nb\nc\nd","name":"n"})");
  EXPECT_EQ(prepared(R"({"role":"assistant","reasoning":"r"})"),
            R"({"role":"assistant","reasoning":"r","content":""})");
}

TEST(Messages, CallsHaveTheirArgumentsAsJson) {
  EXPECT_EQ(
      prepared(
          R"({"role":"assistant","content":null,"tool_calls":[{"id":"1","function":{"name":"f","arguments":
                         "{\"z\": 1, \"a\": [2]}"}},{"function":{"name":"g","arguments":""}},{"function":{"name":"h"}}]})"),
      R"({"role":"assistant","content":"","tool_calls":[{"id":"1","function":{"name":"f","arguments":{"z":1,"a":[2]}}},)"
      R"({"function":{"name":"g","arguments":{}}},{"function":{"name":"h"}}]})");
  EXPECT_EQ(prepared(R"({"role":"assistant","content":"a","tool_calls":[]})"),
            R"({"role":"assistant","content":"a"})");
  EXPECT_EQ(prepared(R"({"role":"assistant","content":"a","tool_calls":null})"),
            R"({"role":"assistant","content":"a"})");
}

TEST(Messages, RefusalsSayWhereAndWhat) {
  EXPECT_EQ(prepared("7"), "messages[2] must be an object with role and content");
  EXPECT_EQ(prepared(R"({"content":"a"})"), "messages[2].role must be a string");
  EXPECT_EQ(prepared(R"({"role":"user"})"), "messages[2].content is missing");
  EXPECT_EQ(prepared(R"({"role":"user","content":5})"),
            "messages[2].content must be a string or a list of parts");
  EXPECT_EQ(prepared(R"({"role":"user","content":[{"type":"image_url"}]})"),
            "messages[2].content: parts of type 'image_url' are not supported, this model reads text");
  EXPECT_EQ(prepared(R"({"role":"user","content":[{"type":"text"}]})"),
            "messages[2].content: a part of type text has no text");
  EXPECT_EQ(prepared(R"({"role":"assistant","tool_calls":[{}]})"),
            "messages[2].tool_calls: a call has no function");
  EXPECT_EQ(prepared(R"({"role":"assistant","tool_calls":[{"function":{"name":"f","arguments":"{"}}]})"),
            "messages[2].tool_calls: the arguments of 'f' are not JSON");
  const std::string deep(100000, '[');
  EXPECT_EQ(prepared(R"({"role":"assistant","tool_calls":[{"function":{"name":"f","arguments":")" + deep +
                     "\"}}]}"),
            "messages[2].tool_calls: the arguments of 'f' are nested too deep or have too many keys");
}

}  // namespace
}  // namespace flagscale::text
