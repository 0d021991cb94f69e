#include "config/yaml.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <deque>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <set>

#include "base/error.h"
#include "config/interpolation.h"
#include "config/utf8.h"
#include "config/yaml_graph.h"
#include "config/yaml_scalar.h"

namespace flagscale::config {
namespace {

constexpr size_t kMaxExpanded = 50000;  // nodes, after aliases are copied

using Pairs = std::vector<std::pair<YamlNode*, YamlNode*>>;

class Constructor {
 public:
  explicit Constructor(std::string file) : file_(std::make_shared<const std::string>(std::move(file))) {}

  NodePtr construct(YamlNode* root) {
    settle(root);
    return convert(*root, 0);
  }

 private:
  [[noreturn]] void stop(const YamlNode& node, const std::string& what) const {
    fail(ErrorKind::kConfig, "{}:{} {}", *file_, node.line, what);
  }

  static bool is_merge(const YamlNode& key) {
    return key.kind == YamlNode::Kind::kScalar && (key.tag == "merge" || (key.plain && key.text == "<<"));
  }

  // YAML 1.1 has a type of its own for it.
  static bool is_equal_sign(const YamlNode& node) {
    return node.plain && node.tag.empty() && node.text == "=";
  }

  bool is_string(const YamlNode& node) const {
    if (node.kind != YamlNode::Kind::kScalar || is_merge(node) || is_equal_sign(node)) return false;
    return convert_scalar(node)->kind == Kind::kString;
  }

  // PyYAML constructs containers breadth first, and looks for repeated keys when a mapping's turn comes: a
  // mapping that was merged into another before its turn has its own merged keys in place by then. The order
  // is kept.
  void settle(YamlNode* root) {
    std::deque<YamlNode*> waiting{root};
    std::set<YamlNode*> seen{root};
    const auto visit = [&](YamlNode* node) {
      if (node->kind != YamlNode::Kind::kScalar && seen.insert(node).second) waiting.push_back(node);
    };
    for (; !waiting.empty(); waiting.pop_front()) {
      YamlNode* node = waiting.front();
      for (YamlNode* item : node->items) visit(item);
      if (node->kind != YamlNode::Kind::kMapping) continue;
      refuse_repeated_keys(*node);
      flatten(*node, 0);
      for (const auto& [key, value] : node->pairs) visit(value);
    }
  }

  void refuse_repeated_keys(const YamlNode& node) const {
    std::set<std::string> names;
    for (const auto& [key, value] : node.pairs)
      if (is_string(*key) && !names.insert(key->text).second)
        stop(*key, fmt::format("repeats the key '{}'", key->text));
  }

  // Replaces "<<" by the keys that it names; a mapping's own keys come last and so win.
  void flatten(YamlNode& node, int depth) {
    if (depth > kMaxDepth) stop(node, "merges mappings in a circle");
    Pairs merged, own;
    for (const auto& pair : node.pairs) {
      if (!is_merge(*pair.first)) {
        own.push_back(pair);
        continue;
      }
      YamlNode& value = *pair.second;
      if (value.kind == YamlNode::Kind::kMapping) {
        merge(value, merged, depth);
      } else if (value.kind == YamlNode::Kind::kSequence) {
        for (auto it = value.items.rbegin(); it != value.items.rend(); ++it) merge(**it, merged, depth);
      } else {
        stop(value, "merges ('<<') something that is no mapping");
      }
    }
    if (merged.empty() && own.size() == node.pairs.size()) return;
    node.pairs = std::move(merged);
    node.pairs.insert(node.pairs.end(), own.begin(), own.end());
  }

  void merge(YamlNode& from, Pairs& into, int depth) {
    if (from.kind != YamlNode::Kind::kMapping) stop(from, "merges ('<<') something that is no mapping");
    flatten(from, depth + 1);
    if (into.size() + from.pairs.size() > kMaxExpanded) stop(from, "merges into too large a mapping");
    into.insert(into.end(), from.pairs.begin(), from.pairs.end());
  }

  NodePtr convert_scalar(const YamlNode& node) const {
    try {
      if (!node.tag.empty()) return tagged_scalar(node.tag, node.text);
      if (node.plain && (node.text == "=" || node.text == "<<"))
        fail(ErrorKind::kConfig, "'{}' must be quoted here", node.text);
      return node.plain ? plain_scalar(node.text) : Node::string(node.text);
    } catch (const Error& error) {
      stop(node, fmt::format("is refused: {}", error.what()));
    }
  }

  Key convert_key(const YamlNode& node) const {
    if (node.kind != YamlNode::Kind::kScalar) stop(node, "has a key that is no scalar");
    if (is_equal_sign(node)) return Key("=");
    const NodePtr value = convert_scalar(node);
    if (value->kind == Kind::kNull) stop(node, "has a null key");
    if (value->kind == Kind::kString) return Key(value->text);
    return Key(value->kind, python_str(*value),
               value->kind == Kind::kBool ? (value->flag ? 1 : 0) : value->floating);
  }

  NodePtr convert(const YamlNode& node, int depth) {
    if (depth > kMaxDepth) stop(node, "is nested too deeply, or contains itself");
    if (++expanded_ > kMaxExpanded)
      stop(node, "is too large for a configuration once its aliases are copied");
    NodePtr result;
    if (node.kind == YamlNode::Kind::kScalar) {
      result = convert_scalar(node);
      check_interpolation(node, *result);
    } else if (node.kind == YamlNode::Kind::kSequence) {
      if (!node.tag.empty() && node.tag != "seq")
        stop(node, fmt::format("has the tag !!{}, which is not allowed", node.tag));
      result = Node::list();
      for (const YamlNode* item : node.items) result->append(convert(*item, depth + 1));
    } else {
      if (!node.tag.empty() && node.tag != "map")
        stop(node, fmt::format("has the tag !!{}, which is not allowed", node.tag));
      result = Node::map();
      for (const auto& [key, value] : node.pairs) result->set(convert_key(*key), convert(*value, depth + 1));
    }
    result->origin = {file_, node.line, nullptr};
    return result;
  }

  void check_interpolation(const YamlNode& node, const Node& value) const {
    if (!value.is_interpolation()) return;
    try {
      parse_interpolation(value.text);
    } catch (const Error& error) {
      stop(node, fmt::format("is refused: {}", error.what()));
    }
  }

  std::shared_ptr<const std::string> file_;
  size_t expanded_ = 0;
};

}  // namespace

NodePtr parse_yaml(const std::string& text, const std::string& file) {
  if (const auto bad = first_bad_character(text))
    fail(ErrorKind::kConfig, "{}:{} {}", file, bad->line, bad->what);
  YamlGraph graph = parse_yaml_graph(text, file);
  if (graph.root == nullptr) return Node::map();
  return Constructor(file).construct(graph.root);
}

std::string read_text_file(const std::string& path) {
  if (std::filesystem::is_directory(path)) fail(ErrorKind::kConfig, "{} is a folder, expected a file", path);
  std::ifstream file(path, std::ios::binary);
  if (!file)
    fail(errno == ENOENT ? ErrorKind::kNotFound : ErrorKind::kResource, "cannot open {}: {}", path,
         std::strerror(errno));
  return {std::istreambuf_iterator<char>(file), {}};
}

}  // namespace flagscale::config
