// Every case of tests/golden/compose, composed by hydra-core 1.3.2 and omegaconf 2.3 (tests/oracle/compose):
// the same values and types, the same leaves that do not resolve, the same refusals.
#include "config/compose.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <regex>

#include "base/error.h"
#include "base/temporary_folder_test_support.h"
#include "config/show.h"
#include "config/yaml.h"

namespace flagscale::config {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::json;

const fs::path kGolden = fs::path(FLAGSCALE_SOURCE_DIR) / "tests/golden/compose";

// Python's json also writes what JSON has no word for.
Json parsed(const fs::path& file) {
  std::ifstream in(file);
  std::string text((std::istreambuf_iterator<char>(in)), {});
  for (const auto& [python, special] :
       {std::pair("NaN", "nan"), std::pair("Infinity", "inf"), std::pair("-Infinity", "-inf")})
    text = std::regex_replace(text, std::regex(fmt::format("\": {}(?=[,\n}}])", python)),
                              fmt::format("\": {{\"special\": \"{}\"}}", special));
  return Json::parse(text);
}

struct Folder : TemporaryFolder {  // of a case's files
  explicit Folder(const Json& files) {
    for (const auto& [file, text] : files.items()) put(file, text.get<std::string>());
  }
};

bool same(const Leaf& leaf, const Json& want) {
  if (want.is_object() && want.contains("error")) return leaf.exception == want["error"].get<std::string>();
  if (!leaf.value) return false;
  const Node& value = *leaf.value;
  if (want.is_object() && want.contains("special"))
    return python_str(value) == want["special"].get<std::string>();
  switch (value.kind) {
    case Kind::kNull:
      return want.is_null();
    case Kind::kBool:
      return want.is_boolean() && want.get<bool>() == value.flag;
    case Kind::kInt:
      return want.is_number_integer() && want.get<int64_t>() == value.number && value.text.empty();
    case Kind::kFloat:
      return want.is_number_float() && want.get<double>() == value.floating;
    case Kind::kString:
      return want.is_string() && want.get<std::string>() == value.text;
    case Kind::kMap:
      return want.is_object() && want.empty();
    case Kind::kList:
      return want.is_array() && want.empty();
  }
  return false;
}

std::string shown(const Leaf& leaf) {
  return leaf.value ? std::string(name(leaf.value->kind)) + " " + python_repr(*leaf.value) : leaf.exception;
}

void compare(const std::vector<Leaf>& got, const Json& want) {
  EXPECT_EQ(got.size(), want.size());
  for (const Leaf& leaf : got) {
    if (!want.contains(leaf.path))
      ADD_FAILURE() << leaf.path << " is not expected, got " << shown(leaf);
    else
      EXPECT_TRUE(same(leaf, want[leaf.path]))
          << leaf.path << ": want " << want[leaf.path] << ", got " << shown(leaf);
  }
}

void check(const fs::path& folder, const Json& test) {
  ComposeRequest request{folder.string(), test["name"], test["overrides"]};
  SCOPED_TRACE(test.dump());
  try {
    const Composed composed = compose(request);
    if (test.contains("error"))
      ADD_FAILURE() << "Hydra refuses this with " << test["error"];
    else
      compare(leaves(composed.root()), test["want"]);
  } catch (const Error& error) {
    if (!test.contains("error")) ADD_FAILURE() << "refused: " << error.what();
    EXPECT_FALSE(std::string(error.what()).empty());
  }
}

TEST(Compose, AsHydra) {
  setenv("FUZZ_VAR", "env value", 1);
  const Json cases = parsed(kGolden / "cases.json");
  EXPECT_GT(cases.size(), 1000u);
  for (const Json& test : cases) {
    if (test.contains("tree")) {
      check(kGolden / "trees" / test["tree"].get<std::string>(), test);
    } else {
      const Folder folder(test["files"]);
      check(folder.path, test);
    }
  }
}

TEST(Compose, KnowsWhereValuesCameFrom) {
  const ComposeRequest request{(kGolden / "trees/self_first").string(), "config", {"train.model.lr=3"}};
  const Composed composed = compose(request);
  EXPECT_EQ(describe(composed.value("train.model.lr")->origin), "override 'train.model.lr=3'");
  const NodePtr raw =
      composed.root()->find(Key("train"))->find(Key("system"))->find(Key("checkpoint"))->find(Key("dir"));
  EXPECT_TRUE(describe(raw->origin).ends_with("train/7b.yaml:4")) << describe(raw->origin);
  EXPECT_EQ(composed.files(), (std::vector<std::string>{"config", "train/7b"}));
}

TEST(Compose, ErrorsNameTheFileAndLine) {
  const auto message = [](const char* name) -> std::string {
    try {
      compose({(kGolden / "trees/yaml").string(), name, {}});
    } catch (const Error& error) {
      return error.what();
    }
    return "";
  };
  EXPECT_NE(message("config_duplicate").find("config_duplicate.yaml:2 repeats the key 'a'"),
            std::string::npos)
      << message("config_duplicate");
  EXPECT_NE(message("config_tab").find("config_tab.yaml:2"), std::string::npos) << message("config_tab");
  EXPECT_NE(message("config_open_quote").find("never closed"), std::string::npos)
      << message("config_open_quote");
}

TEST(Compose, AKeyThatIsNotThereIsLookedForElsewhere) {
  const TemporaryFolder folder;
  folder.put("c.yaml", "model: {width: 1, optimizer: {schedule: {lr: 2}}}\n");
  const auto said = [&](const char* override_) -> std::string {
    try {
      compose({folder.path, "c", {override_}});
    } catch (const Error& error) {
      return error.what();
    }
    return "";
  };
  EXPECT_NE(said("model.lr=1").find("no key 'model.lr' (did you mean 'model.optimizer.schedule.lr'?)"),
            std::string::npos)
      << said("model.lr=1");
  EXPECT_NE(said("model.widht=1").find("(did you mean 'width'?)"), std::string::npos)
      << said("model.widht=1");
  EXPECT_NE(said("model.other=1").find("'model.other'; to add one"), std::string::npos)
      << said("model.other=1");
}

TEST(Compose, WhatDoesNotResolveSaysWhereItIsSet) {
  const TemporaryFolder folder;
  folder.put("c.yaml", "a: 1\nb:\n  c: x${nope}\n");
  try {
    compose({folder.path, "c", {}}).value("b.c");
    ADD_FAILURE() << "resolved";
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find("c.yaml:3: b.c: there is no key 'nope'"), std::string::npos)
        << error.what();
  }
}

TEST(Compose, ADirectiveOrAnEndAloneIsNoDocument) {
  for (const char* text : {"%YAML 1.1\n", "...\n", "# c\n\n... # c\n", "%YAML 1.1\na: 1\n"})
    EXPECT_THROW(parse_yaml(text, "f.yaml"), Error) << text;
  for (const char* text : {"%YAML 1.1\n---\na: 1\n", "a: 1\n...\n", "", "# c\n", "---\n...\n"})
    EXPECT_NO_THROW(parse_yaml(text, "f.yaml")) << text;
}

// What PyYAML reads (docs/configuration.md): the place and the fix are told.
TEST(Compose, YamlThatLibYamlCannotReadIsRefused) {
  const auto message = [](const std::string& text) -> std::string {
    try {
      parse_yaml(text, "f.yaml");
    } catch (const Error& error) {
      return error.what();
    }
    return "";
  };
  const std::vector<std::pair<std::string, std::string>> texts = {
      {"a: 1\nk: [?a]\n", "f.yaml:2 has a '?' inside [] or {}; quote the text"},
      {"k: {? a : 1}\n", "f.yaml:1 has a '?' inside [] or {}; quote the text"},
      {"k: {\n  a:}\n", "f.yaml:2:4 has a ':' right before a sign of [] or {}; put a space"},
      {"k: |\n  \tx\n",
       "f.yaml:2:3 is no YAML: found a tab character where an indentation space is expected"},
      {"%FOO x\n---\na: 1\n", "f.yaml:1:5 is no YAML: found unknown directive name"},
      {"# \xc3\xa9\n\xef\xbb\xbf# c\na: b\n", "f.yaml:2 has a byte order mark (U+FEFF) outside quotes"},
  };
  for (const auto& [text, words] : texts)
    EXPECT_TRUE(message(text).starts_with(words)) << text << ": " << message(text);
  EXPECT_EQ(message("\xef\xbb\xbf"
                    "a: '?'\nb: \"\\ufeff\t\" # \t?\nc: [' ?', a]\n"),
            "");
}

TEST(Compose, AMergeThatPyYamlsVersionsReadDifferentlyIsRefused) {
  const auto message = [](const std::string& text) -> std::string {
    const TemporaryFolder folder;
    folder.put("c.yaml", text);
    try {
      compose({folder.path, "c", {}});
    } catch (const Error& error) {
      return error.what();
    }
    return "";
  };
  // By PyYAML 6.0.2 and 6.0.4 from PyPI.
  const std::string list = message("m: &m {lr: 1}\nn: &n\n  lr: 2\nk: {<<: [*m, *n]}\n");
  EXPECT_NE(list.find("c.yaml:1: '<<' brings this key more than once"), std::string::npos) << list;
  EXPECT_NE(list.find("(6.0.2: 1, 6.0.4: 2)"), std::string::npos) << list;
  for (const char* text :
       {"k: {<<: {a: 1, a: 2}}", "k: {<<: {<<: {a: 1}, a: 2}}", "k: {<<: {a: 1}, <<: {a: 2}}",
        "k: {<<: {\xc3\xa9: 1, \xc3\xa9: 2}}", "m: &m\n  <<: {a: 1}\n  a: 2\nk:\n  <<: *m",
        "m: &m {lr: 1}\nn: &n {lr: 2}\nk: {<<: [*m, *n, *m]}"})
    EXPECT_NE(message(text).find("more than once"), std::string::npos) << text << ": " << message(text);
  for (const char* text : {"k: {<<: [{a: 1}, {a: 2}]}", "k: {<<: [{a: 1}, {a: 1}]}",
                           "m: &m {lr: 1}\nn: &n {lr: 2}\nk: {<<: [*m, *n], lr: 3}",
                           "k: {<<: {\xe4\xb8\x96: 1, \xe4\xb8\x96: 2}}"})
    EXPECT_EQ(message(text), "") << text;
}

TEST(Compose, ShownYamlReadsBackAsTheSameText) {
  const NodePtr root = Node::map();
  std::map<std::string, std::string> texts;
  for (unsigned code = 0; code < 0x11000; code += code < 0x3000 || code >= 0xfe00 ? 1 : 0x100) {
    if (code >= 0xd800 && code < 0xe000) continue;  // surrogates, no characters of their own
    std::string character;
    if (code < 0x80)
      character = {static_cast<char>(code)};
    else if (code < 0x800)
      character = {static_cast<char>(0xc0 | code >> 6), static_cast<char>(0x80 | (code & 63))};
    else if (code < 0x10000)
      character = {static_cast<char>(0xe0 | code >> 12), static_cast<char>(0x80 | (code >> 6 & 63)),
                   static_cast<char>(0x80 | (code & 63))};
    else
      character = {static_cast<char>(0xf0), static_cast<char>(0x80 | (code >> 12 & 63)),
                   static_cast<char>(0x80 | (code >> 6 & 63)), static_cast<char>(0x80 | (code & 63))};
    texts[fmt::format("k{:x}", code)] = "a" + character + "b";
  }
  for (const auto& [key, text] : texts) root->set({key}, Node::string(text));
  const NodePtr read = parse_yaml(to_yaml(root), "f.yaml");
  for (const auto& [key, text] : texts) {
    const NodePtr value = read->find({key});
    ASSERT_TRUE(value) << key;
    EXPECT_EQ(value->text, text) << key;
  }
}

// The cases of the shared FlagScale examples, compared as their check_config.py does.
TEST(Compose, FlagScaleExamples) {
  const fs::path shared = fs::path(FLAGSCALE_SOURCE_DIR) / "../shared/flagscale";
  if (!fs::exists(shared / "golden/resolved.json")) GTEST_SKIP() << "../shared is not here";
  const Json resolved = parsed(shared / "golden/resolved.json");
  const auto check_file = [&](const std::string& config, const Json& overrides, const char* kind,
                              const Json& want) {
    const fs::path file = shared / config;
    ASSERT_TRUE(fs::exists(file)) << file;
    check(file.parent_path(), {{"name", file.stem()}, {"overrides", overrides}, {kind, want}});
  };
  for (const auto& [config, want] : resolved.items())
    check_file(config, Json::array(), want.contains("compose_error") ? "error" : "want", want);
  for (const Json& test : parsed(shared / "golden/overrides.json")) {
    if (test.contains("error")) {
      check_file(test["config"], test["overrides"], "error", test["error"]);
      continue;
    }
    Json want = resolved.at(test["config"].get<std::string>());
    for (const Json& path : test["removed"]) want.erase(path.get<std::string>());
    want.update(test["changed"]);
    check_file(test["config"], test["overrides"], "want", want);
  }
}

}  // namespace
}  // namespace flagscale::config
