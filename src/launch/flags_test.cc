#include "launch/flags.h"

#include <gtest/gtest.h>

#include "base/error.h"
#include "config/compose.h"
#include "config/override.h"
#include "config/yaml.h"

namespace flagscale::launch {
namespace {

using Words = std::vector<std::string>;

Words flags(const std::string& yaml, const FlagStyle& style = {}) {
  return flags_of(*config::parse_yaml(yaml, "test.yaml"), style);
}
Words overrides(const std::string& yaml) { return overrides_of(*config::parse_yaml(yaml, "test.yaml")); }

TEST(Flags, SectionsAreForTheEye) {
  EXPECT_EQ(flags("{num_layers: 2, optimizer: {weight_decay: 0.1, schedule: {lr: 1e-5}}, empty: {}}"),
            (Words{"--num-layers", "2", "--weight-decay", "0.1", "--lr", "1e-05"}));
}

TEST(Flags, OfOneNameInTwoSectionsBothStay) {
  EXPECT_EQ(flags("{a: {weight_decay: 0.1}, b: {weight_decay: 0.01}}"),
            (Words{"--weight-decay", "0.1", "--weight-decay", "0.01"}));
}

TEST(Flags, TrueIsTheFlagAndFalseAndNullAreNothing) {
  EXPECT_EQ(flags("{bf16: true, fp16: false, vocab_file: null, empty_too: ~, text: 'true'}"),
            (Words{"--bf16", "--text", "true"}));
}

TEST(Flags, NumbersAsPythonPrintsThem) {
  EXPECT_EQ(flags("{a: 1.0, b: 3.0e-4, c: 1e-6, d: 5e10, e: 1e16, f: 42, g: 0.0001, h: 9e-5, i: '1e-6'}"),
            (Words{"--a", "1.0", "--b", "0.0003", "--c", "1e-06", "--d", "50000000000.0", "--e", "1e+16",
                   "--f", "42", "--g", "0.0001", "--h", "9e-05", "--i", "1e-6"}));
}

TEST(Flags, ListsAreTheFlagAndItsItems) {
  EXPECT_EQ(
      flags("{split: [12, 12], mesh: [[1, 30], ['a', True]], names: [], text: [a b, '']}"),
      (Words{"--split", "12", "12", "--mesh", "[1, 30]", "['a', True]", "--names", "--text", "a b", ""}));
}

// FlagScale puts the command in double quotes, where the shell takes these away and expands the dollar.
TEST(Flags, ValuesStayAsTheyAre) {
  EXPECT_EQ(flags(R"({json: '{"a": "b c"}', home: '$HOME `id`', quote: "it's", empty: '', lines: "a\nb"})"),
            (Words{"--json", R"({"a": "b c"})", "--home", "$HOME `id`", "--quote", "it's", "--empty", "",
                   "--lines", "a\nb"}));
}

TEST(Flags, SomeAreLeftOutOnEveryLevel) {
  FlagStyle style;
  style.without = {"log_dir"};
  EXPECT_EQ(flags("{logging: {log_dir: a, log-dir: b, log_interval: 1}}", style),
            (Words{"--log-interval", "1"}));
}

TEST(Flags, UnderscoresMayStay) {
  FlagStyle style;
  style.dashes = false;
  EXPECT_EQ(flags("{policy: {n_obs_steps: 1}, use_amp: true}", style),
            (Words{"--n_obs_steps", "1", "--use_amp"}));
}

TEST(Flags, MappingsAsJson) {
  FlagStyle style;
  style.nested = Nested::kJson;
  EXPECT_EQ(
      flags("{rope_scaling: {rope_type: yarn, factor: 4.0, yes_: true, none: null}, l: [{a: 1}]}", style),
      (Words{"--rope-scaling", R"({"rope_type":"yarn","factor":4.0,"yes_":true,"none":null})", "--l",
             R"({"a":1})"}));
  EXPECT_THROW(flags("{a: {b: .inf}}", style), Error);
}

TEST(Overrides, AreDotted) {
  EXPECT_EQ(overrides("{algorithm: {adv_estimator: grpo, use_kl: false}, lr: {actor: {optim: 1e-6}}, n: 5}"),
            (Words{"algorithm.adv_estimator=grpo", "algorithm.use_kl=False", "lr.actor.optim=1e-06", "n=5"}));
}

TEST(Overrides, NameTheirConfigurationAndAddKeys) {
  EXPECT_EQ(
      overrides(
          "{config-path: config, config-name: ppo.yaml, a: {b: 1}, append_kargs: {a: {c: True}, d: 2}}"),
      (Words{"--config-path=config", "--config-name=ppo.yaml", "a.b=1", "+a.c=True", "+d=2"}));
}

// FlagScale glues a list's items together: ["console", "wandb"] becomes "consolewandb".
TEST(Overrides, ListsAreHydras) {
  EXPECT_EQ(
      overrides("{one: [console], two: [console, wandb], files: ['a b', 'c,d'], none: [], deep: [[1, 2]], "
                "maps: [{k: v}]}"),
      (Words{"one=console", "two=[console,wandb]", "files=[a b,'c,d']", "none=[]", "deep=[[1,2]]",
             "maps=[{k:v}]"}));
}

TEST(Overrides, NullIsNullAndNotTheWordNone) { EXPECT_EQ(overrides("{a: {b: null}}"), (Words{"a.b=null"})); }

// What is written reads back through the grammar it is for.
TEST(Overrides, AnyTextReadsBack) {
  for (const std::string text :
       {"/models/Qwen2-7B", "a=b", "x, y", "{\"a\": [1, 2]}", "it's", "\\", "a\\'b", "tail\\", "(x)", "a:b",
        "\"q\"", " lead", "", "hdfs://a/b?c=1", "50%", "[1", "#no", "a\\\\'"}) {
    const auto tree = config::Node::map();
    tree->set({"key"}, config::Node::string(text));
    const std::string word = overrides_of(*tree)[0];
    EXPECT_EQ(python_str(*config::parse_override(word).value), text) << word;
  }
}

}  // namespace
}  // namespace flagscale::launch
