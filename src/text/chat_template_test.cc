// Templates against what transformers rendered from them (tests/oracle/text/make_templates.py), and their
// limits.

#include "text/chat_template.h"

#include <cstdlib>
#include <ctime>
#include <regex>

#include "base/error.h"
#include "text/text_test_support.h"

namespace flagscale::text {
namespace {

const std::vector<std::pair<std::string, std::string>> kVariables = {{"bos_token", "<s>"},
                                                                     {"eos_token", "</s>"}};

std::string render(const std::string& source, const std::string& messages = "[]") {
  return ChatTemplate(source, kVariables).render({.messages = messages, .tools = {}, .extra = {}});
}

template <class F>
Error error_of(F&& call) {
  try {
    call();
  } catch (const Error& error) {
    return error;
  }
  return Error(ErrorKind::kNotFound, "no error");
}

// «@TODAY %Y-%m-%d@» is the day, in that form.
std::string with_today(std::string text) {
  constexpr std::string_view kMark = "@TODAY ";
  const std::time_t now = std::time(nullptr);
  std::tm local{};
  localtime_r(&now, &local);
  for (size_t at = text.find(kMark); at != text.npos; at = text.find(kMark)) {
    const size_t form = at + kMark.size(), end = text.find('@', form);
    char day[64];
    const size_t size = std::strftime(day, sizeof day, text.substr(form, end - form).c_str(), &local);
    text.replace(at, end + 1 - at, day, size);
  }
  return text;
}

TEST(ChatTemplate, RendersAsTransformersDoes) {
  const char* longer = std::getenv("FLAGSCALE_TEMPLATES");  // what make_templates.py --all made
  const nlohmann::ordered_json file =
      nlohmann::ordered_json::parse(testing::read(longer ? longer : testing::golden("templates.json")));
  int refused = 0;
  for (const nlohmann::ordered_json& each : file["cases"]) {
    const std::string name = each["template"], chat_name = each["chat"];
    SCOPED_TRACE(name + ", " + chat_name);
    const nlohmann::ordered_json& chat = file["chats"][chat_name];
    const ChatTemplate compiled(file["templates"][name].get<std::string>(), kVariables);
    const std::string messages = chat["messages"].dump(),
                      tools = chat.contains("tools") ? chat["tools"].dump() : "",
                      extra = chat.contains("extra") ? chat["extra"].dump() : "";
    const ChatInput input{messages, tools, extra, each["add_generation_prompt"]};
    if (each.contains("error")) {
      ++refused;
      const Error error = error_of([&] { compiled.render(input); });
      EXPECT_EQ(error.kind(), ErrorKind::kInvalidArgument);
      EXPECT_NE(std::string(error.what()).find(each["error"]), std::string::npos) << error.what();
    } else {
      try {
        EXPECT_EQ(compiled.render(input), with_today(each["text"]));
      } catch (const Error& error) {
        ADD_FAILURE() << error.what();
      }
    }
  }
  EXPECT_GT(file["cases"].size(), 300u);
  EXPECT_GT(refused, 5);
}

TEST(ChatTemplate, StrftimeNowIsToday) {
  EXPECT_TRUE(std::regex_match(render("{{ strftime_now('%d %b %Y') }}"),
                               std::regex("\\d\\d [A-Z][a-z][a-z] 20\\d\\d")));
}

TEST(ChatTemplate, ErrorsNameTheLine) {
  const Error error = error_of([] { render("a\n{% if %}"); });
  EXPECT_EQ(error.kind(), ErrorKind::kCorrupt);
  EXPECT_NE(std::string(error.what()).find("line 2"), std::string::npos) << error.what();
}

TEST(ChatTemplate, MessagesMustBeAList) {
  EXPECT_EQ(error_of([] { render("x", "{}"); }).kind(), ErrorKind::kInvalidArgument);
  EXPECT_EQ(error_of([] { render("x", "[] , \"x\":1"); }).kind(), ErrorKind::kInvalidArgument);
  const std::string deep =
      R"([{"reasoning":"r","content":)" + std::string(100000, '[') + std::string(100000, ']') + "}]";
  EXPECT_EQ(error_of([&] { render("x", deep); }).kind(), ErrorKind::kInvalidArgument);
}

TEST(ChatTemplate, EndlessWorkRunsOutOfFuel) {
  const Error error = error_of([] {
    render(
        "{% for a in range(9999) %}{% for b in range(9999) %}{% for c in range(9999) %}{% endfor %}{% endfor "
        "%}{% endfor %}");
  });
  EXPECT_EQ(error.kind(), ErrorKind::kResource);
  EXPECT_NE(error_of([] { render("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}"); }).kind(),
            ErrorKind::kNotFound);
}

TEST(ChatTemplate, ATokenMayBeAnyBytes) {
  const ChatTemplate compiled("{{ bos_token }}|", {{"bos_token", "a\xfe"}});
  EXPECT_EQ(compiled.render({.messages = "[]", .tools = {}, .extra = {}}), "a\xef\xbf\xbd|");
}

// Memory that cannot be had would end the process.
TEST(ChatTemplate, WidthsHaveAnEnd) {
  for (const char* source :
       {"{{ '%9223372036854775807d' | format(1) }}", "{{ '{:99999}'.format(1) }}",
        "{{ 'a' | indent(99999999999) }}", "{{ 'a' | indent(width=99999999999) }}",
        "{{ [1] | batch(9223372036854775807) | list }}", "{{ [1] | slice(18446744073709551615) | list }}"})
    EXPECT_EQ(error_of([&] { render(source); }).kind(), ErrorKind::kInvalidArgument) << source;
  EXPECT_EQ(render("{{ '%5d|%.2f' | format(12, 0.5) }}{{ '{:>4}'.format(1) }}{{ 'a\nb' | indent(2) }}"),
            "   12|0.50   1a\n  b");
}

}  // namespace
}  // namespace flagscale::text
