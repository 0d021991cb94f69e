#pragma once
// A configuration's tree: YAML 1.1 scalars, mappings and lists as OmegaConf types them, each with where it
// came from. Strings may be interpolations ("${a.b}") or the mandatory-missing mark "???"; both stay lazy
// (resolve.h).

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace flagscale::config {

// Where a value was written: a line of a file, or an override of the command line.
struct Origin {
  std::shared_ptr<const std::string> file;  // null: the override
  int line = 0;                             // 1 is the first
  std::shared_ptr<const std::string> override_text;
};
std::string describe(const Origin& origin);  // "conf/train.yaml:12", "override 'a=1'", "" when unknown

enum class Kind { kNull, kBool, kInt, kFloat, kString, kMap, kList };
const char* name(Kind kind);  // as users call them: "null", "bool", ...

// A mapping's key. Python's rules: 1, 1.0 and true are one key, "1" is another.
struct Key {
  Key(std::string string) : kind(Kind::kString), text(std::move(string)) {}  // NOLINT: a name is a key
  Key(Kind key_kind, std::string key_text, double key_number)
      : kind(key_kind), text(std::move(key_text)), number(key_number) {}
  bool operator==(const Key& other) const;

  Kind kind;
  std::string text;  // as Python's str() writes it
  double number = 0;
};

class Node;
using NodePtr = std::shared_ptr<Node>;

struct Entry {
  Key key;
  NodePtr value;
};

// Children point to their container; a Node has at most one. Depth is bounded by kMaxDepth wherever nodes are
// made from text.
constexpr int kMaxDepth = 100;
class Node : public std::enable_shared_from_this<Node> {
 public:
  static NodePtr null();
  static NodePtr boolean(bool value);
  static NodePtr integer(int64_t value);
  static NodePtr big_integer(std::string digits);  // outside int64, in decimal
  static NodePtr real(double value);
  static NodePtr string(std::string value);
  static NodePtr map();
  static NodePtr list();

  Kind kind = Kind::kNull;
  bool flag = false;           // kBool
  int64_t number = 0;          // kInt
  double floating = 0;         // kFloat; kInt too, rounded
  std::string text;            // kString; kInt beyond int64
  std::vector<Entry> entries;  // kMap, in order
  std::vector<NodePtr> items;  // kList
  Node* parent = nullptr;
  Origin origin;

  bool is_container() const { return kind == Kind::kMap || kind == Kind::kList; }
  bool is_missing() const { return kind == Kind::kString && text == "???"; }
  bool is_interpolation() const { return kind == Kind::kString && text.find("${") != std::string::npos; }

  NodePtr find(const Key& key) const;  // of a map; null when absent
  void set(const Key& key, NodePtr value);
  bool erase(const Key& key);
  void append(NodePtr value);

  NodePtr copy() const;
  std::string path() const;  // "train.model.lr", "serve[0].engine"; "" for the root
};

bool equal(const Node& a, const Node& b);  // Python's ==, without resolving

// As Python writes values: 1e-05, True, None, [1, 'a'], {'k': 1}.
std::string python_float(double value);
std::string python_str(const Node& node);
std::string python_repr(const Node& node);

}  // namespace flagscale::config
