#include "config/show.h"

#include <fmt/format.h>

#include <cmath>

#include "config/resolve.h"
#include "config/yaml_scalar.h"

namespace flagscale::config {
namespace {

constexpr size_t kMaxLeaves = 200000;  // interpolations can repeat a container without end

std::string json_string(const std::string& text) {
  std::string result = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\')
      result += {'\\', c};
    else if (c == '\n')
      result += "\\n";
    else if (c == '\t')
      result += "\\t";
    else if (static_cast<unsigned char>(c) < 0x20)
      result += fmt::format("\\u{:04x}", c);
    else
      result += c;
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
