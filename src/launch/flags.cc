#include "launch/flags.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "config/show.h"

namespace flagscale::launch {
namespace {

using config::Entry;
using config::Kind;
using config::Node;
using config::NodePtr;

std::string with(std::string text, char from, char to) {
  std::replace(text.begin(), text.end(), from, to);
  return text;
}

void append_flags(const Node& tree, const FlagStyle& style, std::vector<std::string>& out) {
  for (const Entry& entry : tree.entries) {
    if (style.without.contains(with(entry.key.text, '-', '_'))) continue;
    const Node& value = *entry.value;
    if (value.kind == Kind::kMap && style.nested == Nested::kSection) {
      append_flags(value, style, out);
      continue;
    }
    if (value.kind == Kind::kNull || (value.kind == Kind::kBool && !value.flag)) continue;
    out.push_back("--" + (style.dashes ? with(entry.key.text, '_', '-') : entry.key.text));
    if (value.kind == Kind::kBool) continue;
    if (value.kind == Kind::kMap)
      out.push_back(json_line(entry.value));
    else if (value.kind != Kind::kList)
      out.push_back(python_str(value));
    for (const NodePtr& item : value.items)
      out.push_back(item->kind == Kind::kMap && style.nested == Nested::kJson ? json_line(item)
                                                                              : python_str(*item));
  }
}

// Text that Hydra's grammar takes as it stands; anything else goes in quotes.
std::string hydra_string(const std::string& text) {
  constexpr std::string_view kPlain =
      "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_/-+.%*@?|:$ ";
  if (!text.empty() && text.front() != ' ' && text.back() != ' ' &&
      text.find_first_not_of(kPlain) == std::string::npos)
    return text;
  std::string quoted = "'";
  for (size_t i = 0; i < text.size(); ++i) {
    const size_t backslashes = std::min(text.find_first_not_of('\\', i), text.size()) - i;
    const bool before_quote = i + backslashes == text.size() || text[i + backslashes] == '\'';
    // Hydra reads backslashes as escapes only in front of a quote.
    quoted += std::string(before_quote ? 2 * backslashes : backslashes, '\\');
    i += backslashes;
    if (i == text.size()) break;
    quoted += text[i] == '\'' ? "\\'" : std::string(1, text[i]);
  }
  return quoted + "'";
}

std::string hydra_value(const Node& node) {
  std::string inner;
  switch (node.kind) {
    case Kind::kNull:
      return "null";
    case Kind::kString:
      return hydra_string(node.text);
    case Kind::kList:
      for (const NodePtr& item : node.items) inner += (inner.empty() ? "" : ",") + hydra_value(*item);
      return "[" + inner + "]";
    case Kind::kMap:
      for (const Entry& entry : node.entries)
        inner += (inner.empty() ? "" : ",") + hydra_string(entry.key.text) + ":" + hydra_value(*entry.value);
      return "{" + inner + "}";
    default:
      return python_str(node);
  }
}

void append_overrides(const Node& tree, const std::string& path, bool adds, std::vector<std::string>& out) {
  for (const Entry& entry : tree.entries) {
    const std::string& key = entry.key.text;
    const Node& value = *entry.value;
    if (value.kind == Kind::kMap && key == "append_kargs") {
      append_overrides(value, path, true, out);
    } else if (value.kind == Kind::kMap) {
      append_overrides(value, path + key + ".", adds, out);
    } else {
      const bool one =
          value.kind == Kind::kList && value.items.size() == 1 && !value.items[0]->is_container();
      out.push_back((adds ? "+" : "") + path + key + "=" + hydra_value(one ? *value.items[0] : value));
    }
  }
}

}  // namespace

std::string json_line(const NodePtr& node) {
  const auto json = nlohmann::ordered_json::parse(config::to_json(node), nullptr, false);
  if (json.is_discarded())
    fail(ErrorKind::kConfig, "{}: this value is passed on as JSON, which has no infinity and no NaN",
         config::describe(node->origin));
  return json.dump();
}

std::vector<std::string> flags_of(const Node& tree, const FlagStyle& style) {
  std::vector<std::string> out;
  append_flags(tree, style, out);
  return out;
}

std::vector<std::string> overrides_of(const Node& tree) {
  std::vector<std::string> out;
  const NodePtr rest = tree.copy();
  for (const char* key : {"config-path", "config-name"}) {
    if (const NodePtr value = rest->find({key}); value && value->kind != Kind::kNull)
      out.push_back(fmt::format("--{}={}", key, python_str(*value)));
    rest->erase({key});
  }
  append_overrides(*rest, "", false, out);
  return out;
}

}  // namespace flagscale::launch
