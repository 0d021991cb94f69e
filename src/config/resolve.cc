#include "config/resolve.h"

#include <fmt/format.h>

#include <algorithm>
#include <set>

#include "config/resolver_functions.h"

namespace flagscale::config {
namespace {

constexpr size_t kMaxSteps = 100000;          // interpolations a value may lead through
constexpr size_t kMaxText = size_t{1} << 20;  // bytes of a string value

[[noreturn]] void unresolved(std::string exception, std::string message) {
  throw ResolutionError(std::move(exception), std::move(message));
}

const char* const kKeyError = "InterpolationKeyError";
const char* const kResolutionError = "InterpolationResolutionError";

// A node on a path that is no container: selecting gives nothing there, an interpolation fails.
struct NotAContainer : Error {
  using Error::Error;
};

class Evaluator : public ResolverContext {
 public:
  NodePtr value(const NodePtr& node) {
    if (!node->is_interpolation()) return node;
    if (++steps_ > kMaxSteps || depth_ > kMaxDepth)
      unresolved(kResolutionError, fmt::format("'{}' leads through too many interpolations", node->text));
    if (node->parent == nullptr) unresolved(kResolutionError, "an interpolation without a parent");
    ++depth_;
    Node* const outer = container_;
    const NodePtr outer_node = node_;
    container_ = node->parent;
    node_ = node;
    const NodePtr result = guarded([&] { return join(parse_interpolation(node->text)); });
    container_ = outer;
    node_ = outer_node;
    --depth_;
    return result;
  }

  // See select_raw(); resolve_last: the last node's value instead, and a missing one throws.
  NodePtr walk(Node* root, const std::string& path, bool resolve_last) {
    if (path.empty()) return root->shared_from_this();
    NodePtr at = root->shared_from_this();
    const std::vector<std::string> keys = split_path(path);
    for (size_t i = 0; i < keys.size(); ++i) {
      at = child(*at, keys[i], resolve_last);
      if (!at) return nullptr;
      if (i + 1 == keys.size()) break;
      at = value(at);
      if (!at->is_container())
        throw NotAContainer(ErrorKind::kConfig,
                            fmt::format("'{}' on the way to '{}' is no container", keys[i], path));
    }
    if (!resolve_last) return at;
    if (!visiting_.insert(at.get()).second) unresolved(kResolutionError, "Recursive interpolation detected");
    struct Leave {
      std::set<const Node*>& set;
      const Node* node;
      ~Leave() { set.erase(node); }
    } const leave{visiting_, at.get()};
    return value(at);
  }

  // ResolverContext
  Node& container() override { return *container_; }
  NodePtr absolute(const std::string& key) override {
    const auto [root, path] = root_of(key);
    try {
      return walk(root, path, true);
    } catch (const NotAContainer&) {
      return nullptr;
    }
  }
  NodePtr decode(const std::string& text) override { return element(parse_element(text)); }
  std::string node_path() override { return node_ ? node_->path() : ""; }

 private:
  // Anything that fails inside an interpolation is OmegaConf's InterpolationResolutionError, unless it is one
  // already.
  template <class Body>
  NodePtr guarded(Body&& body) {
    try {
      return body();
    } catch (const ResolutionError& error) {
      if (error.exception() != "MissingMandatoryValue") throw;
      unresolved("InterpolationToMissingValueError", error.what());
    } catch (const Error& error) {
      unresolved(kResolutionError, error.what());
    }
  }

  static NodePtr child(const Node& node, const std::string& key, bool missing_throws) {
    NodePtr result;
    if (node.kind == Kind::kMap) {
      result = node.find(Key(key));
    } else if (node.kind == Kind::kList) {
      const bool number =
          !key.empty() && key.size() < 10 && key.find_first_not_of("0123456789") == std::string::npos;
      if (!number) fail(ErrorKind::kConfig, "'{}' is no position of the list {}", key, node.path());
      const size_t index = std::stoul(key);
      if (index < node.items.size()) result = node.items[index];
    }
    if (result && missing_throws && result->is_missing())
      unresolved("MissingMandatoryValue", fmt::format("required value {} is not set", result->path()));
    return result;
  }

  // Leading dots go up from the container that holds the interpolation.
  std::pair<Node*, std::string> root_of(const std::string& key) {
    Node* root = container_;
    size_t dots = std::min(key.find_first_not_of('.'), key.size());
    if (dots == 0) {
      while (root->parent != nullptr) root = root->parent;
      return {root, key};
    }
    for (size_t i = 1; i < dots; ++i) {
      root = root->parent;
      if (root == nullptr) unresolved(kKeyError, fmt::format("'{}' goes above the root", key));
    }
    return {root, key.substr(dots)};
  }

  NodePtr node_interpolation(const std::string& key) {
    const auto [root, path] = root_of(key);
    const NodePtr target = walk(root, path, true);
    if (!target) unresolved(kKeyError, fmt::format("there is no key '{}'", key));
    for (const Node* node = container_; node != nullptr; node = node->parent)
      if (node == target.get())
        unresolved(kResolutionError, fmt::format("'{}' contains the value that asks for it", key));
    return target;
  }

  NodePtr evaluate(const Interpolation& interpolation) {
    if (interpolation.resolver.empty()) return node_interpolation(key_text(interpolation.path));
    const std::string name = key_text(interpolation.resolver);
    const ResolverFunction function = find_resolver(name);
    std::vector<NodePtr> arguments;
    for (const Element& argument : interpolation.arguments) arguments.push_back(element(argument));
    if (function == nullptr)
      unresolved("UnsupportedInterpolationType",
                 fmt::format("there is no resolver '{}'{}", name,
                             name == "env" ? ": a variable of the environment is oc.env:NAME" : ""));
    return function(*this, arguments);
  }

  // Nested interpolations in a key must be strings.
  std::string key_text(const Pieces& pieces) {
    std::string result;
    for (const Piece& piece : pieces) {
      if (!piece.interpolation) {
        result += piece.text;
        continue;
      }
      const NodePtr part = evaluate(*piece.interpolation);
      if (part->kind != Kind::kString)
        unresolved(kResolutionError, fmt::format("an interpolation inside a key gives {}, expected a string",
                                                 python_str(*part)));
      result += part->text;
    }
    return result;
  }

  NodePtr join(const Pieces& pieces) {
    if (pieces.size() == 1 && pieces[0].interpolation) return evaluate(*pieces[0].interpolation);
    std::string text;
    for (const Piece& piece : pieces) {
      text += piece.interpolation ? python_str(*evaluate(*piece.interpolation)) : piece.text;
      if (text.size() > kMaxText) unresolved(kResolutionError, "a string grows without bound");
    }
    return Node::string(text);
  }

  NodePtr element(const Element& element_tree) {
    if (element_tree.kind == Element::Kind::kValue) return element_tree.value;
    if (element_tree.kind == Element::Kind::kText) return join(element_tree.pieces);
    NodePtr result = element_tree.kind == Element::Kind::kList ? Node::list() : Node::map();
    for (size_t i = 0; i < element_tree.items.size(); ++i) {
      NodePtr item = element(element_tree.items[i])->copy();
      if (element_tree.kind == Element::Kind::kList) {
        result->append(std::move(item));
        continue;
      }
      const Node& key = *element_tree.keys[i];
      const double number = key.kind == Kind::kBool ? (key.flag ? 1 : 0) : key.floating;
      result->set(key.kind == Kind::kString ? Key(key.text) : Key(key.kind, python_str(key), number),
                  std::move(item));
    }
    return result;
  }

  Node* container_ = nullptr;  // where relative keys start
  NodePtr node_;               // whose interpolation is being evaluated
  std::set<const Node*> visiting_;
  size_t steps_ = 0;
  int depth_ = 0;
};

}  // namespace

NodePtr resolve(const NodePtr& node) {
  if (node->is_missing())
    unresolved("MissingMandatoryValue", fmt::format("required value {} is not set", node->path()));
  return Evaluator().value(node);
}

NodePtr select_raw(const NodePtr& root, const std::string& path) {
  try {
    return Evaluator().walk(root.get(), path, false);
  } catch (const NotAContainer&) {
    return nullptr;
  }
}

NodePtr select_value(const NodePtr& root, const std::string& path) {
  const NodePtr node = select_raw(root, path);
  if (!node || node->is_missing()) return nullptr;
  const NodePtr value = Evaluator().value(node);
  return value->kind == Kind::kNull || value->is_missing() ? nullptr : value;
}

// "a.b[c].d" is a, b, c, d; a leading dot makes a leading "".
std::vector<std::string> split_path(const std::string& path) {
  std::vector<std::string> keys;
  size_t at = std::min(path.find_first_of(".["), path.size());
  if (at > 0 || path.empty() || path[0] == '.') keys.push_back(path.substr(0, at));
  while (at < path.size()) {
    if (path[at] == '.') {
      const size_t end = std::min(path.find_first_of(".[", at + 1), path.size());
      keys.push_back(path.substr(at + 1, end - at - 1));
      at = end;
    } else {
      const size_t end = path.find(']', at);
      if (path[at] != '[' || end == std::string::npos) break;
      keys.push_back(path.substr(at + 1, end - at - 1));
      at = end + 1;
    }
  }
  return keys;
}

}  // namespace flagscale::config
