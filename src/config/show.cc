#include "config/show.h"

#include <fmt/format.h>

#include <cmath>
#include <optional>
#include <string_view>
#include <utility>

#include "config/resolve.h"
#include "config/yaml_scalar.h"

namespace flagscale::config {
namespace {

constexpr size_t kMaxLeaves = 200000;  // interpolations can repeat a container without end

// Takes the character that text starts with, where it is one that YAML has no raw text for: a control, an end
// of line, a byte order mark, or what is no character.
std::optional<unsigned> take_unprintable(std::string_view& text) {
  static constexpr std::pair<std::string_view, unsigned> kOthers[] = {
      {"\u2028", 0x2028}, {"\u2029", 0x2029}, {"\ufeff", 0xfeff}, {"\ufffe", 0xfffe}, {"\uffff", 0xffff}};
  const auto byte = [&](size_t i) { return i < text.size() ? static_cast<unsigned char>(text[i]) : 0u; };
  const auto taken = [&](size_t bytes, unsigned code) { return (text.remove_prefix(bytes), code); };
  if (byte(0) < 0x20 || byte(0) == 0x7f) return taken(1, byte(0));
  if (byte(0) == 0xc2 && byte(1) >= 0x80 && byte(1) < 0xa0) return taken(2, byte(1));
  for (const auto& [bytes, code] : kOthers)
    if (text.starts_with(bytes)) return taken(bytes.size(), code);
  return std::nullopt;
}

std::string json_string(std::string_view text) {
  std::string result = "\"";
  while (!text.empty()) {
    if (const auto code = take_unprintable(text)) {
      result += *code == '\n' ? "\\n" : *code == '\t' ? "\\t" : fmt::format("\\u{:04x}", *code);
      continue;
    }
    if (text[0] == '"' || text[0] == '\\') result += '\\';
    result += text[0];
    text.remove_prefix(1);
  }
  return result + "\"";
}

std::string json_scalar(const Node& node) {
  switch (node.kind) {
    case Kind::kNull:
      return "null";
    case Kind::kBool:
      return node.flag ? "true" : "false";
    case Kind::kString:
      return json_string(node.text);
    case Kind::kMap:
      return "{}";
    case Kind::kList:
      return "[]";
    case Kind::kFloat:
      if (std::isnan(node.floating)) return "NaN";
      if (std::isinf(node.floating)) return node.floating < 0 ? "-Infinity" : "Infinity";
      return python_float(node.floating);
    case Kind::kInt:
      return python_str(node);
  }
  return "";
}

// A node's value, or why there is none.
struct Shown {
  NodePtr value;
  std::string exception, reason;
};

class Viewer {
 public:
  Shown look(const NodePtr& node, int depth) {
    if (++leaves_ > kMaxLeaves || depth > kMaxDepth)
      fail(ErrorKind::kConfig, "{} repeats itself without end through its interpolations", node->path());
    try {
      return {resolve(node), "", ""};
    } catch (const ResolutionError& error) {
      return {nullptr, error.exception(), error.what()};
    }
  }

 private:
  size_t leaves_ = 0;
};

std::string error_object(const std::string& exception) {
  return fmt::format("{{\"error\": {}}}", json_string(exception));
}

class LeafCollector {
 public:
  void visit(const NodePtr& node, const std::string& path, int depth) {
    const Shown shown = viewer_.look(node, depth);
    const bool leaf = !shown.value || (shown.value->entries.empty() && shown.value->items.empty());
    if (leaf) {
      const bool empty_root = path.empty() && shown.value && shown.value->is_container();
      if (!empty_root) result.push_back({path, shown.value, shown.exception});
      return;
    }
    for (const Entry& entry : shown.value->entries)
      visit(entry.value, path.empty() ? entry.key.text : path + "." + entry.key.text, depth + 1);
    for (size_t i = 0; i < shown.value->items.size(); ++i)
      visit(shown.value->items[i], fmt::format("{}[{}]", path, i), depth + 1);
  }
  std::vector<Leaf> result;

 private:
  Viewer viewer_;
};

class JsonWriter {
 public:
  std::string write(const NodePtr& node, int depth) {
    const Shown shown = viewer_.look(node, depth);
    if (!shown.value) return error_object(shown.exception);
    const Node& value = *shown.value;
    if (value.entries.empty() && value.items.empty()) return json_scalar(value);
    const std::string indent(static_cast<size_t>(depth + 1) * 2, ' ');
    std::string inner;
    for (const Entry& entry : value.entries)
      inner += (inner.empty() ? "" : ",\n") + indent + json_string(entry.key.text) + ": " +
               write(entry.value, depth + 1);
    for (const NodePtr& item : value.items)
      inner += (inner.empty() ? "" : ",\n") + indent + write(item, depth + 1);
    const std::string close = "\n" + indent.substr(2);
    return value.kind == Kind::kMap ? "{\n" + inner + close + "}" : "[\n" + inner + close + "]";
  }

 private:
  Viewer viewer_;
};

// Plain where that reads back as the same string, else in JSON's quotes, which YAML understands.
std::string yaml_string(const std::string& text) {
  constexpr std::string_view kPlain =
      "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_./-+$@ ";
  bool plain = !text.empty() && text.find_first_not_of(kPlain) == std::string::npos && text.front() != ' ' &&
               text.back() != ' ';
  plain = plain && std::string_view("-@ ").find(text.front()) == std::string_view::npos;
  if (plain) {
    try {
      plain = plain_scalar(text)->kind == Kind::kString;
    } catch (const Error&) {
      plain = false;
    }
  }
  return plain ? text : json_string(text);
}

std::string yaml_scalar(const Node& node) {
  if (node.kind == Kind::kString) return yaml_string(node.text);
  if (node.kind != Kind::kFloat) return json_scalar(node);
  if (std::isnan(node.floating)) return ".nan";
  if (std::isinf(node.floating)) return node.floating < 0 ? "-.inf" : ".inf";
  return python_float(node.floating);
}

class YamlWriter {
 public:
  std::string write(const NodePtr& root) {
    const Shown shown = viewer_.look(root, 0);
    if (shown.value && shown.value->entries.empty() && shown.value->items.empty())
      return json_scalar(*shown.value) + "\n";
    if (shown.value) block(*shown.value, 0);
    return out_;
  }

 private:
  void block(const Node& node, int depth) {
    const std::string indent(static_cast<size_t>(depth) * 2, ' ');
    for (const Entry& entry : node.entries) {
      out_ += indent + (entry.key.kind == Kind::kString ? yaml_string(entry.key.text) : entry.key.text) + ":";
      value(entry.value, depth);
    }
    for (const NodePtr& item : node.items) {
      out_ += indent + "-";
      value(item, depth);
    }
  }

  void value(const NodePtr& node, int depth) {
    const Shown shown = viewer_.look(node, depth);
    if (!shown.value) {
      out_ += fmt::format(" {}  # {}\n", json_string(node->text), shown.reason);
    } else if (shown.value->entries.empty() && shown.value->items.empty()) {
      out_ += " " + yaml_scalar(*shown.value) + "\n";
    } else {
      out_ += "\n";
      block(*shown.value, depth + 1);
    }
  }

  Viewer viewer_;
  std::string out_;
};

}  // namespace

std::vector<Leaf> leaves(const NodePtr& root) {
  LeafCollector collector;
  collector.visit(root, "", 0);
  return std::move(collector.result);
}

std::string to_flat_json(const NodePtr& root) {
  std::string text;
  for (const Leaf& leaf : leaves(root))
    text += (text.empty() ? "  " : ",\n  ") + json_string(leaf.path) + ": " +
            (leaf.value ? json_scalar(*leaf.value) : error_object(leaf.exception));
  return text.empty() ? "{}\n" : "{\n" + text + "\n}\n";
}

std::string to_json(const NodePtr& root) { return JsonWriter().write(root, 0) + "\n"; }

std::string to_yaml(const NodePtr& root) { return YamlWriter().write(root); }

}  // namespace flagscale::config
