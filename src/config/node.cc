#include "config/node.h"

#include <fmt/format.h>

#include <algorithm>

namespace flagscale::config {
namespace {

NodePtr make(Kind kind) {
  auto node = std::make_shared<Node>();
  node->kind = kind;
  return node;
}

bool is_number(Kind kind) { return kind == Kind::kBool || kind == Kind::kInt || kind == Kind::kFloat; }

double as_number(const Node& node) {
  if (node.kind == Kind::kBool) return node.flag ? 1 : 0;
  return node.floating;
}

}  // namespace

std::string describe(const Origin& origin) {
  if (origin.override_text) return fmt::format("override '{}'", *origin.override_text);
  if (origin.file) return fmt::format("{}:{}", *origin.file, origin.line);
  return "";
}

const char* name(Kind kind) {
  switch (kind) {
    case Kind::kNull:
      return "null";
    case Kind::kBool:
      return "bool";
    case Kind::kInt:
      return "int";
    case Kind::kFloat:
      return "float";
    case Kind::kString:
      return "string";
    case Kind::kMap:
      return "mapping";
    case Kind::kList:
      return "list";
  }
  return "";
}

bool Key::operator==(const Key& other) const {
  if (is_number(kind) && is_number(other.kind)) {
    const bool exact = kind == Kind::kInt && other.kind == Kind::kInt;
    return exact ? text == other.text : number == other.number;
  }
  return kind == other.kind && text == other.text;
}

NodePtr Node::null() { return make(Kind::kNull); }

NodePtr Node::boolean(bool value) {
  NodePtr node = make(Kind::kBool);
  node->flag = value;
  return node;
}

NodePtr Node::integer(int64_t value) {
  NodePtr node = make(Kind::kInt);
  node->number = value;
  node->floating = static_cast<double>(value);
  return node;
}

NodePtr Node::big_integer(std::string digits) {
  NodePtr node = make(Kind::kInt);
  node->floating = std::strtod(digits.c_str(), nullptr);
  node->text = std::move(digits);
  return node;
}

NodePtr Node::real(double value) {
  NodePtr node = make(Kind::kFloat);
  node->floating = value;
  return node;
}

NodePtr Node::string(std::string value) {
  NodePtr node = make(Kind::kString);
  node->text = std::move(value);
  return node;
}

NodePtr Node::map() { return make(Kind::kMap); }
NodePtr Node::list() { return make(Kind::kList); }

NodePtr Node::find(const Key& key) const {
  const auto it = std::find_if(entries.begin(), entries.end(), [&](const Entry& e) { return e.key == key; });
  return it == entries.end() ? nullptr : it->value;
}

void Node::set(const Key& key, NodePtr value) {
  value->parent = this;
  for (Entry& entry : entries) {
    if (entry.key == key) {
      entry.value = std::move(value);
      return;
    }
  }
  entries.push_back({key, std::move(value)});
}

bool Node::erase(const Key& key) {
  return std::erase_if(entries, [&](const Entry& entry) { return entry.key == key; }) > 0;
}

void Node::append(NodePtr value) {
  value->parent = this;
  items.push_back(std::move(value));
}

NodePtr Node::copy() const {
  auto result = std::make_shared<Node>(*this);
  result->parent = nullptr;
  for (Entry& entry : result->entries) {
    entry.value = entry.value->copy();
    entry.value->parent = result.get();
  }
  for (NodePtr& item : result->items) {
    item = item->copy();
    item->parent = result.get();
  }
  return result;
}

std::string Node::path() const {
  if (parent == nullptr) return "";
  std::string prefix = parent->path();
  if (parent->kind == Kind::kList) {
    const auto it = std::find_if(parent->items.begin(), parent->items.end(),
                                 [&](const NodePtr& item) { return item.get() == this; });
    return fmt::format("{}[{}]", prefix, it - parent->items.begin());
  }
  for (const Entry& entry : parent->entries)
    if (entry.value.get() == this) return prefix.empty() ? entry.key.text : prefix + "." + entry.key.text;
  return prefix;  // a resolver's result, which hangs below no key
}

bool equal(const Node& a, const Node& b) {
  if (is_number(a.kind) && is_number(b.kind)) {
    const bool exact = a.kind == Kind::kInt && b.kind == Kind::kInt;
    return exact ? a.number == b.number && a.text == b.text : as_number(a) == as_number(b);
  }
  if (a.kind != b.kind || a.text != b.text) return false;
  const auto same_item = [](const NodePtr& x, const NodePtr& y) { return equal(*x, *y); };
  if (!std::equal(a.items.begin(), a.items.end(), b.items.begin(), b.items.end(), same_item)) return false;
  if (a.entries.size() != b.entries.size()) return false;
  return std::all_of(a.entries.begin(), a.entries.end(), [&](const Entry& entry) {
    const NodePtr other = b.find(entry.key);
    return other && equal(*entry.value, *other);
  });
}

}  // namespace flagscale::config
