// Templates against what transformers rendered from them (tests/oracle/text/make_templates.py), and their
// limits.

#include "text/chat_template.h"

#include <sys/resource.h>

#include <chrono>
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

// What fuel does not see: a few instructions that double a text, or show one again and again.
TEST(ChatTemplate, TextsAndMemoryHaveAnEnd) {
  const std::string doubled = "{% set ns = namespace(s='ab', l=[1]) %}{% for i in range(60) %}";
  for (const std::string& source :
       {doubled + "{% set ns.s = ns.s ~ ns.s %}{% endfor %}",
        doubled + "{% set ns.s = ns.s + ns.s %}{% endfor %}{{ ns.s }}",
        doubled + "{% set ns.s = ns.s * 9 %}{% endfor %}",
        doubled + "{% set ns.s = ns.s | replace('a', 'aa') %}{% endfor %}",
        doubled + "{% set ns.s = ns.s.replace('b', ns.s) %}{% endfor %}",
        doubled + "{% set ns.s = [ns.s, ns.s] | join('-') %}{% endfor %}",
        doubled + "{% set ns.s = '-'.join([ns.s, ns.s]) %}{% endfor %}",
        doubled + "{% set ns.s = '%s%s' | format(ns.s, ns.s) %}{% endfor %}",
        doubled + "{% set ns.s = '{0}{0}'.format(ns.s) %}{% endfor %}",
        doubled + "{% set ns.s %}{{ ns.s }}{{ ns.s }}{% endset %}{% endfor %}",
        doubled + "{% set ns.l = [ns.l, ns.l] %}{% endfor %}{{ ns.l }}",
        doubled + "{% set ns.l = [ns.l, ns.l] %}{% endfor %}{{ ns.l | tojson }}",
        doubled + "{% set ns.l = [ns.l, ns.l] %}{% endfor %}{% set x = ns.l ~ '' %}",
        doubled + "{% set ns.l = ns.l + ns.l %}{% endfor %}{{ ns.l | length }}",
        doubled + "{% set ns.l = ns.l * 99 %}{% endfor %}{{ ns.l | list | length }}",
        std::string(
            "{% macro f(s, n) %}{{ f(s ~ s, n - 1) if n > 0 else s }}{% endmacro %}{{ f('ab', 60) }}"),
        std::string("{% macro f() %}{% for i in range(99999) %}" + std::string(1000, 'x') +
                    "{% endfor %}{% endmacro %}{% set x = f() %}"),
        std::string("{% for i in range(99999) %}" + std::string(1000, 'x') + "{% endfor %}"),
        std::string("{% set s = 'x' * 999999 %}{% set ns = namespace(l=[]) %}{% for i in range(9999) %}"
                    "{% set ns.l = ns.l + [s ~ i] %}{% endfor %}"),
        std::string("{% set s = 'x' * 9999999 %}{% for i in range(9999) %}{% set y = s ~ i %}{% endfor %}"),
        std::string("{% set s = '\n' * 9999999 %}{{ s | indent(9999) | length }}"),
        std::string("{% set s = 'x' * 9999999 %}{% set l = [s[1:]") +
            [] {
              std::string rest;
              for (int i = 0; i < 500; ++i) rest += ", s[1:]";
              return rest;
            }() +
            "] %}"}) {
    const auto start = std::chrono::steady_clock::now();
    const Error error = error_of([&] { render(source); });
    EXPECT_EQ(error.kind(), ErrorKind::kResource) << source.substr(0, 200) << ": " << error.what();
    EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(10)) << source.substr(0, 200);
  }
  rusage use{};
  getrusage(RUSAGE_SELF, &use);
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
  EXPECT_LT(use.ru_maxrss, 200 << 10) << "kB";
#endif
  // As much as a long conversation has is none of that.
  const std::string mega(1 << 20, 'y');
  EXPECT_EQ(render("{% set ns = namespace(s='') %}{% for m in messages %}{% set ns.s = ns.s ~ m %}{% endfor "
                   "%}{{ ns.s }}",
                   "[\"" + mega + "\",\"" + mega + "\"]"),
            mega + mega);
}

TEST(ChatTemplate, StandsAlone) {
  for (const char* source : {"{% include 'chat' %}", "{% import 'chat' as x %}", "{% extends 'chat' %}"})
    EXPECT_EQ(error_of([&] { render(source); }).kind(), ErrorKind::kInvalidArgument) << source;
}

// The instructions that are put in move jumps, and concatenation is Python's.
TEST(ChatTemplate, JoinsAsPythonPrints) {
  EXPECT_EQ(render("{% for m in messages %}{{ 'a' ~ m ~ [m, 'b'] }};{% endfor %}|{{ messages | join(', ') }}",
                   "[true, null, 1.5, \"c\"]"),
            "aTrue[True, 'b'];aNone[None, 'b'];a1.5[1.5, 'b'];ac['c', 'b'];|True, None, 1.5, c");
  EXPECT_EQ(
      render(
          "{% macro f(x) %}<{{ x ~ x }}{% endmacro %}{% block b %}{% for m in messages if m %}"
          "{% if m == 2 or m == 9 %}x{% else %}{{ f(m) }}{% endif %}{% else %}none{% endfor %}{% endblock %}",
          "[0, 1, 2, 3]"),
      "<11x<33");
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
