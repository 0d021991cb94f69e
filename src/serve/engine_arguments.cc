#include "serve/engine_arguments.h"

#include "base/error.h"
#include "config/read_value.h"
#include "config/yaml.h"

namespace flagscale::serve {

using config::Kind;
using config::NodePtr;

namespace {

// A mapping, written as one or as JSON in a string.
NodePtr mapping_of(const config::Node& node, const char* what) {
  const NodePtr map = node.kind == Kind::kString ? config::parse_yaml(node.text, what) : node.copy();
  if (map->kind != Kind::kMap)
    fail(ErrorKind::kConfig, "expected a mapping, got {}", config::python_repr(node));
  return map;
}

void read_count(const config::Entry& entry, int most, int& value) {
  int64_t number = 0;
  config::read_value(*entry.value, number);
  if (number < 1 || number > most)
    fail(ErrorKind::kConfig, "{} is {}, expected 1 to {}", entry.key.text, number, most);
  value = static_cast<int>(number);
}

}  // namespace

void read_value(const config::Node& node, SpeculativeConfig& value) {
  constexpr int kMostTokens = 64, kLongestLookup = 1024;
  const NodePtr map = mapping_of(node, "speculative_config");
  std::string method = "ngram";
  engine::Speculation s{0, 0, 0};
  for (const config::Entry& entry : map->entries) {
    const std::string& name = entry.key.text;
    if (name == "method")
      config::read_value(*entry.value, method);
    else if (name == "num_speculative_tokens")
      read_count(entry, kMostTokens, s.draft_tokens);
    else if (name == "prompt_lookup_max")
      read_count(entry, kLongestLookup, s.lookup_max);
    else if (name == "prompt_lookup_min")
      read_count(entry, kLongestLookup, s.lookup_min);
    else
      fail(ErrorKind::kConfig,
           "'{}' is not supported: speculation is by prompt lookup, with method \"ngram\", "
           "num_speculative_tokens, prompt_lookup_max and prompt_lookup_min",
           name);
  }
  if (method != "ngram")
    fail(ErrorKind::kConfig, "method is '{}': only \"ngram\", prompt lookup, is supported", method);
  if (s.draft_tokens == 0) fail(ErrorKind::kConfig, "num_speculative_tokens is missing");
  constexpr int kLookup = 5;  // vLLM's
  if (s.lookup_max == 0) s.lookup_max = s.lookup_min > 0 ? s.lookup_min : kLookup;
  if (s.lookup_min == 0) s.lookup_min = s.lookup_max;
  if (s.lookup_min > s.lookup_max)
    fail(ErrorKind::kConfig, "prompt_lookup_min is {}, above prompt_lookup_max, {}", s.lookup_min,
         s.lookup_max);
  value.value = s;
}

LoraModule parse_lora_module(const std::string& text) {
  const size_t equals = text.find('=');
  if (equals == std::string::npos || equals == 0 || equals + 1 == text.size())
    fail(ErrorKind::kConfig, "expected NAME=FOLDER of a LoRA adapter, got '{}'", text);
  return {text.substr(0, equals), text.substr(equals + 1)};
}

void read_value(const config::Node& node, LoraModules& value) {
  const auto one = [](const config::Node& item) -> LoraModule {
    if (item.kind == Kind::kString && !item.text.starts_with('{')) return parse_lora_module(item.text);
    const NodePtr map = mapping_of(item, "lora_modules");
    LoraModule module;
    for (const config::Entry& entry : map->entries)
      if (entry.key.text == "name")
        config::read_value(*entry.value, module.name);
      else if (entry.key.text == "path")
        config::read_value(*entry.value, module.path);
      else if (entry.key.text != "base_model_name")
        fail(ErrorKind::kConfig, "'{}' of a LoRA module is not supported; there are name and path",
             entry.key.text);
    if (module.name.empty() || module.path.empty())
      fail(ErrorKind::kConfig, "a LoRA module needs name and path");
    return module;
  };
  if (node.kind != Kind::kList) return value.list.push_back(one(node));
  for (const NodePtr& item : node.items) value.list.push_back(one(*item));
}

}  // namespace flagscale::serve
