#include "config/edit.h"

#include <algorithm>

#include "base/error.h"
#include "base/nearest.h"
#include "config/resolve.h"

namespace flagscale::config {
namespace {

// Where a key of this name stands, or "".
std::string path_of(const Node& node, const std::string& key) {
  if (node.kind == Kind::kMap)
    if (const NodePtr found = node.find(Key(key))) return found->path();
  for (const Entry& entry : node.entries)
    if (const std::string path = path_of(*entry.value, key); !path.empty()) return path;
  return "";
}

[[noreturn]] void no_such_key(const Node& parent, const std::string& key) {
  std::vector<std::string> names;
  for (const Entry& entry : parent.entries) names.push_back(entry.key.text);
  const Node* root = &parent;
  while (root->parent != nullptr) root = root->parent;
  std::string near = path_of(*root, key);  // in another section
  if (near.empty()) near = nearest(key, names);
  const std::string path = parent.path();
  fail(ErrorKind::kConfig, "there is no key '{}{}{}'{}; to add one, put + before the override", path,
       path.empty() ? "" : ".", key, near.empty() ? "" : fmt::format(" (did you mean '{}'?)", near));
}

void assign(Node& map, const Key& key, NodePtr value, Mode mode) {
  if (mode == Mode::kStruct && !map.find(key)) no_such_key(map, key.text);
  map.set(key, std::move(value));
}

size_t list_position(const Node& list, const std::string& key) {
  const bool number =
      !key.empty() && key.size() < 10 && key.find_first_not_of("0123456789") == std::string::npos;
  if (!number || std::stoul(key) >= list.items.size())
    fail(ErrorKind::kConfig, "'{}' is no position of the list {}, which has {} items", key, list.path(),
         list.items.size());
  return std::stoul(key);
}

NodePtr child(const Node& container, const std::string& key) {
  if (container.kind == Kind::kMap) return container.find(Key(key));
  return container.items[list_position(container, key)];
}

void set_child(Node& container, const std::string& key, NodePtr value, Mode mode) {
  if (container.kind == Kind::kMap) return assign(container, Key(key), std::move(value), mode);
  value->parent = &container;
  container.items[list_position(container, key)] = std::move(value);
}

// A destination that stands for a container elsewhere: a copy of that, so that merging does not change the
// original.
NodePtr expanded(Node& dest, const Key& key, const NodePtr& node) {
  NodePtr target;
  try {
    target = resolve(node);
  } catch (const ResolutionError&) {
    return node;
  }
  if (!target->is_container()) return node;
  NodePtr copied = target->copy();
  dest.set(key, copied);
  return copied;
}

void merge_containers(Node& dest, const Node& src, Mode mode) {
  if (dest.kind != src.kind)
    fail(ErrorKind::kConfig, "{} cannot merge a {} ({}) into the {} of {}", dest.path(), name(src.kind),
         describe(src.origin), name(dest.kind), describe(dest.origin));
  if (dest.kind == Kind::kMap) return merge(dest, src, mode);
  dest.items.clear();
  for (const NodePtr& item : src.items) dest.append(item->copy());
  dest.origin = src.origin;
}

}  // namespace

void merge(Node& dest, const Node& src, Mode mode) {
  if (dest.kind != Kind::kMap || src.kind != Kind::kMap)
    fail(ErrorKind::kConfig, "cannot merge a {} ({}) into a {}", name(src.kind), describe(src.origin),
         name(dest.kind));
  for (const Entry& entry : src.entries) {
    const Node& from = *entry.value;
    NodePtr to = dest.find(entry.key);
    if (to && to->is_interpolation()) to = expanded(dest, entry.key, to);
    if (to && to->is_container() && from.is_container())
      merge_containers(*to, from, mode);
    else if (!to || !from.is_missing())
      assign(dest, entry.key, from.copy(), mode);
  }
}

void update(Node& root, const std::string& path, const NodePtr& value, Update how, bool add) {
  const Mode mode = add ? Mode::kOpen : Mode::kStruct;
  const std::vector<std::string> keys = split_path(path);
  Node* at = &root;
  for (size_t i = 0; i + 1 < keys.size(); ++i) {
    NodePtr next = child(*at, keys[i]);
    if (!next || !next->is_container()) {
      next = Node::map();
      next->origin = value->origin;
      set_child(*at, keys[i], next, mode);
    }
    at = next.get();
  }
  const std::string& last = keys.back();
  if (how == Update::kMerge && value->is_container()) {
    const NodePtr old = child(*at, last);
    if (old && old->is_container()) return merge_containers(*old, *value, mode);
  }
  set_child(*at, last, value->copy(), mode);
}

}  // namespace flagscale::config
