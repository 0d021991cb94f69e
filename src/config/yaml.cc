#include "config/yaml.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <deque>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <set>
#include <utility>

#include "base/error.h"
#include "base/text_encoding.h"
#include "config/interpolation.h"
#include "config/utf8.h"
#include "config/yaml_graph.h"
#include "config/yaml_scalar.h"

namespace flagscale::config {
namespace {

constexpr size_t kMaxExpanded = 50000;  // nodes, after aliases are copied

using Pairs = std::vector<std::pair<YamlNode*, YamlNode*>>;

// Which of several keys of one name that '<<' brings counts: to PyYAML up to 6.0.3 the last of a mapping, and
// the one of the first mapping of a list; to 6.0.4 the first where the key is one Latin-1 character or one
// node of the text, else the last.
enum class Merging { kPyYaml602, kPyYaml604 };

class Constructor {
 public:
  Constructor(std::string file, Merging merging)
      : file_(std::make_shared<const std::string>(std::move(file))), merging_(merging) {}

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
    merged_names_.emplace_back();
    for (const auto& pair : node.pairs) {
      if (!is_merge(*pair.first)) {
        own.push_back(pair);
        continue;
      }
      YamlNode& value = *pair.second;
      if (value.kind == YamlNode::Kind::kMapping) {
        merge(value, merged, depth);
      } else if (value.kind == YamlNode::Kind::kSequence) {
        std::vector<YamlNode*> items = value.items;
        if (merging_ == Merging::kPyYaml602) std::ranges::reverse(items);
        for (YamlNode* item : items) merge(*item, merged, depth);
      } else {
        stop(value, "merges ('<<') something that is no mapping");
      }
    }
    merged_names_.pop_back();
    if (merged.empty() && own.size() == node.pairs.size()) return;
    node.pairs = std::move(merged);
    node.pairs.insert(node.pairs.end(), own.begin(), own.end());
  }

  void merge(YamlNode& from, Pairs& into, int depth) {
    if (from.kind != YamlNode::Kind::kMapping) stop(from, "merges ('<<') something that is no mapping");
    flatten(from, depth + 1);
    if (into.size() + from.pairs.size() > kMaxExpanded) stop(from, "merges into too large a mapping");
    for (const auto& pair : from.pairs)
      if (merging_ == Merging::kPyYaml602 || merged_names_.back().insert(identity(*pair.first)).second)
        into.push_back(pair);
  }

  // CPython has one object of each text of one Latin-1 character, and PyYAML 6.0.4 compares objects.
  static std::pair<const YamlNode*, std::string> identity(const YamlNode& key) {
    const std::string& text = key.text;
    const bool shared = text.size() <= 1 || (text.size() == 2 && (text[0] == '\xc2' || text[0] == '\xc3'));
    return shared && key.kind == YamlNode::Kind::kScalar
               ? std::pair<const YamlNode*, std::string>(nullptr, text)
               : std::pair<const YamlNode*, std::string>(&key, "");
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
    if (value->kind == Kind::kNull && !replaced_) stop(node, "has a null key");
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
      convert_pairs(node, depth, *result);
    }
    result->origin = {file_, node.line, nullptr};
    return result;
  }

  // Of equal keys (1, 1.0 and true are, and what '<<' brings beside a mapping's own) the last has the value.
  // PyYAML makes the others all the same; what only OmegaConf would refuse is not seen in them.
  void convert_pairs(const YamlNode& node, int depth, Node& result) {
    std::vector<Key> keys;
    for (const auto& [key, value] : node.pairs) keys.push_back(convert_key(*key));
    for (size_t i = 0; i < keys.size(); ++i) {
      const bool last =
          std::find(keys.begin() + static_cast<std::ptrdiff_t>(i) + 1, keys.end(), keys[i]) == keys.end();
      const bool replaced = std::exchange(replaced_, replaced_ || !last);
      result.set(keys[i], convert(*node.pairs[i].second, depth + 1));
      replaced_ = replaced;
    }
  }

  void check_interpolation(const YamlNode& node, const Node& value) const {
    if (!value.is_interpolation() || replaced_) return;
    try {
      parse_interpolation(value.text);
    } catch (const Error& error) {
      stop(node, fmt::format("is refused: {}", error.what()));
    }
  }

  std::shared_ptr<const std::string> file_;
  const Merging merging_;
  std::vector<std::set<std::pair<const YamlNode*, std::string>>> merged_names_;  // of each open flatten()
  size_t expanded_ = 0;
  bool replaced_ = false;  // what is converted stands in a value that another one replaces
};

NodePtr construct(const std::string& text, const std::string& file, Merging merging) {
  YamlGraph graph = parse_yaml_graph(text, file);
  return graph.root == nullptr ? Node::map() : Constructor(file, merging).construct(graph.root);
}

// Refuses what versions of PyYAML read differently, at the first value that differs.
void require_same(const Node& one, const Node& other) {
  if (one.kind == Kind::kMap && other.kind == Kind::kMap && one.entries.size() == other.entries.size()) {
    for (const Entry& entry : one.entries)
      if (const NodePtr found = other.find(entry.key)) require_same(*entry.value, *found);
    return;
  }
  if (one.kind == Kind::kList && other.kind == Kind::kList && one.items.size() == other.items.size()) {
    for (size_t i = 0; i < one.items.size(); ++i) require_same(*one.items[i], *other.items[i]);
    return;
  }
  if (python_repr(one) == python_repr(other)) return;
  fail(ErrorKind::kConfig,
       "{}: '<<' brings this key more than once, and versions of PyYAML differ in which one counts (6.0.2: "
       "{}, "
       "6.0.4: {}); give it once, or beside '<<'",
       describe(one.origin), python_repr(one), python_repr(other));
}

}  // namespace

NodePtr parse_yaml(const std::string& text, const std::string& file) {
  if (const auto bad = first_bad_character(text))
    fail(ErrorKind::kConfig, "{}:{} {}", file, bad->line, bad->what);
  NodePtr root = construct(text, file, Merging::kPyYaml602);
  const bool may_merge = text.find("<<") != std::string::npos || text.find("merge") != std::string::npos;
  if (may_merge) require_same(*root, *construct(text, file, Merging::kPyYaml604));
  return root;
}

std::string read_text_file(const std::string& path) {
  std::error_code error;
  if (std::filesystem::is_directory(path, error))
    fail(ErrorKind::kConfig, "{} is a folder, expected a file", path);
  std::ifstream file(path, std::ios::binary);
  if (!file)
    fail(errno == ENOENT ? ErrorKind::kNotFound : ErrorKind::kResource, "cannot open {}: {}", path,
         std::strerror(errno));
  std::string text{std::istreambuf_iterator<char>(file), {}};
  refuse_other_encoding(text, path, ErrorKind::kConfig);
  return text;
}

}  // namespace flagscale::config
