#include "config/yaml_graph.h"

#include <yaml-cpp/anchor.h>
#include <yaml-cpp/eventhandler.h>
#include <yaml-cpp/exceptions.h>
#include <yaml-cpp/mark.h>
#include <yaml-cpp/parser.h>

#include <map>
#include <set>
#include <sstream>

#include "base/error.h"
#include "config/node.h"

namespace flagscale::config {
namespace {

constexpr size_t kMaxBytes = size_t{4} << 20;
constexpr size_t kMaxNodes = 50000;
const std::string kStandardTag = "tag:yaml.org,2002:";

class Builder : public YAML::EventHandler {
 public:
  Builder(YamlGraph& graph, const std::string& source) : graph_(graph), source_(source) {}

  void OnDocumentStart(const YAML::Mark& mark) override {
    if (graph_.root != nullptr) stop(mark, "holds a second document, expected one");
  }
  void OnDocumentEnd() override {}
  void OnAnchor(const YAML::Mark& mark, const std::string& anchor_name) override {
    if (!anchor_names_.insert(anchor_name).second) stop(mark, "has an anchor of the same name as another");
  }
  void OnNull(const YAML::Mark& mark, YAML::anchor_t anchor) override {
    YamlNode* node = add(YamlNode::Kind::kScalar, mark, "?", anchor);
    place(node, mark);
  }
  void OnAlias(const YAML::Mark& mark, YAML::anchor_t anchor) override {
    const auto it = anchors_.find(anchor);
    if (it == anchors_.end()) stop(mark, "has an alias without an anchor");
    place(it->second, mark);
  }
  void OnScalar(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                const std::string& value) override {
    YamlNode* node = add(YamlNode::Kind::kScalar, mark, tag, anchor);
    node->text = value;
    // YAML 1.1 takes the colon for a separator, yaml-cpp for text.
    if (node->plain && in_flow() && value.starts_with(':'))
      stop(mark, "has a colon where a value should start; quote it");
    place(node, mark);
  }
  void OnSequenceStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                       YAML::EmitterStyle::value style) override {
    open(add(YamlNode::Kind::kSequence, mark, tag, anchor), mark, style);
  }
  void OnSequenceEnd() override { open_.pop_back(); }
  void OnMapStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                  YAML::EmitterStyle::value style) override {
    open(add(YamlNode::Kind::kMapping, mark, tag, anchor), mark, style);
  }
  void OnMapEnd() override {
    if (open_.back().key != nullptr) stop({}, "has a mapping key without a value");
    open_.pop_back();
  }

 private:
  struct Open {
    YamlNode* node;
    bool flow;                // in [] or {}
    YamlNode* key = nullptr;  // of a mapping: waits for its value
  };

  [[noreturn]] void stop(const YAML::Mark& mark, const char* what) const {
    fail(ErrorKind::kConfig, "{}:{} {}", source_, mark.line + 1, what);
  }

  YamlNode* add(YamlNode::Kind kind, const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor) {
    if (graph_.nodes.size() >= kMaxNodes) stop(mark, "is too large for a configuration");
    auto node = std::make_unique<YamlNode>();
    node->kind = kind;
    node->line = mark.line + 1;
    node->plain = tag == "?";
    if (tag.starts_with(kStandardTag))
      node->tag = tag.substr(kStandardTag.size());
    else if (tag != "?" && tag != "!" && !tag.empty())
      node->tag = tag;
    if (anchor != 0) anchors_[anchor] = node.get();
    graph_.nodes.push_back(std::move(node));
    return graph_.nodes.back().get();
  }

  void place(YamlNode* node, const YAML::Mark& mark) {
    if (open_.empty()) {
      if (graph_.root != nullptr) stop(mark, "holds more than one value");
      graph_.root = node;
      return;
    }
    Open& top = open_.back();
    if (top.node->kind == YamlNode::Kind::kSequence) {
      top.node->items.push_back(node);
    } else if (top.key == nullptr) {
      top.key = node;
    } else {
      top.node->pairs.emplace_back(top.key, node);
      top.key = nullptr;
    }
  }

  bool in_flow() const { return !open_.empty() && open_.back().flow; }

  void open(YamlNode* node, const YAML::Mark& mark, YAML::EmitterStyle::value style) {
    if (open_.size() >= static_cast<size_t>(kMaxDepth)) stop(mark, "is nested too deeply");
    place(node, mark);
    open_.push_back({node, style == YAML::EmitterStyle::Flow || in_flow()});
  }

  YamlGraph& graph_;
  const std::string& source_;
  std::vector<Open> open_;
  std::map<YAML::anchor_t, YamlNode*> anchors_;
  std::set<std::string> anchor_names_;
};

}  // namespace

YamlGraph parse_yaml_graph(const std::string& text, const std::string& source) {
  if (text.size() > kMaxBytes) fail(ErrorKind::kConfig, "{} is too large for a configuration", source);
  YamlGraph graph;
  Builder builder(graph, source);
  std::istringstream stream(text);
  try {
    YAML::Parser parser(stream);
    while (parser.HandleNextDocument(builder)) {
    }
  } catch (const YAML::Exception& error) {
    fail(ErrorKind::kConfig, "{}:{} is no YAML: {}", source, error.mark.line + 1, error.msg);
  }
  return graph;
}

}  // namespace flagscale::config
