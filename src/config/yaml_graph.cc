#include "config/yaml_graph.h"

#include <map>

#include "base/error.h"
#include "config/libyaml.h"
#include "config/node.h"
#include "config/yaml_refusals.h"

namespace flagscale::config {
namespace {

constexpr size_t kMaxBytes = size_t{4} << 20;
constexpr size_t kMaxNodes = 50000;
const std::string kStandardTag = "tag:yaml.org,2002:";

std::string text_of(const yaml_char_t* text) {
  return text == nullptr ? "" : reinterpret_cast<const char*>(text);
}

// PyYAML's composer.
class Builder {
 public:
  Builder(YamlGraph& graph, std::string_view text, const std::string& source)
      : graph_(graph), parser_(text, source) {}

  void build() {
    for (bool more = true; more;) {
      const yaml_event_t& event = parser_.event();
      take(event);
      more = event.type != YAML_STREAM_END_EVENT;
    }
  }

 private:
  struct Open {
    YamlNode* node;
    YamlNode* key = nullptr;  // of a mapping: waits for its value
  };

  void take(const yaml_event_t& event) {
    const auto& data = event.data;
    const size_t line = event.start_mark.line;
    switch (event.type) {
      case YAML_DOCUMENT_START_EVENT:
        if (graph_.root != nullptr) parser_.stop(line, "holds a second document, expected one");
        return;
      case YAML_ALIAS_EVENT:
        return place(named(text_of(data.alias.anchor), line));
      case YAML_SCALAR_EVENT:
        return place(scalar(event));
      case YAML_SEQUENCE_START_EVENT:
        return open(
            add(YamlNode::Kind::kSequence, data.sequence_start.anchor, data.sequence_start.tag, line));
      case YAML_MAPPING_START_EVENT:
        return open(add(YamlNode::Kind::kMapping, data.mapping_start.anchor, data.mapping_start.tag, line));
      case YAML_SEQUENCE_END_EVENT:
      case YAML_MAPPING_END_EVENT:
        return open_.pop_back();
      default:
        return;
    }
  }

  YamlNode* named(const std::string& anchor, size_t line) const {
    const auto found = anchors_.find(anchor);
    if (found == anchors_.end()) parser_.stop(line, "has an alias without an anchor");
    return found->second;
  }

  // Behind a bare "!" a scalar is read as if it were unquoted. Where none follows libyaml leaves the tag.
  YamlNode* scalar(const yaml_event_t& event) {
    const auto& found = event.data.scalar;
    YamlNode* made = add(YamlNode::Kind::kScalar, found.anchor, found.tag, event.start_mark.line);
    made->text.assign(reinterpret_cast<const char*>(found.value), found.length);
    made->plain = found.plain_implicit != 0 || text_of(found.tag) == "!";
    return made;
  }

  YamlNode* add(YamlNode::Kind kind, const yaml_char_t* anchor, const yaml_char_t* written_tag, size_t line) {
    if (graph_.nodes.size() >= kMaxNodes) parser_.stop(line, "is too large for a configuration");
    auto made = std::make_unique<YamlNode>();
    made->kind = kind;
    made->line = static_cast<int>(line) + 1;
    const std::string tag = text_of(written_tag);
    if (tag.starts_with(kStandardTag))
      made->tag = tag.substr(kStandardTag.size());
    else if (tag != "!")
      made->tag = tag;
    if (anchor != nullptr && !anchors_.emplace(text_of(anchor), made.get()).second)
      parser_.stop(line, "has an anchor of the same name as another");
    graph_.nodes.push_back(std::move(made));
    return graph_.nodes.back().get();
  }

  void place(YamlNode* node) {
    if (open_.empty()) {
      graph_.root = node;
      return;
    }
    Open& around = open_.back();
    if (around.node->kind == YamlNode::Kind::kSequence) {
      around.node->items.push_back(node);
    } else if (around.key == nullptr) {
      around.key = node;
    } else {
      around.node->pairs.emplace_back(around.key, node);
      around.key = nullptr;
    }
  }

  void open(YamlNode* node) {
    if (open_.size() > static_cast<size_t>(kMaxDepth))
      parser_.stop(static_cast<size_t>(node->line) - 1, "is nested too deeply");
    place(node);
    open_.push_back({node});
  }

  YamlGraph& graph_;
  LibYaml parser_;
  std::vector<Open> open_;
  std::map<std::string, YamlNode*> anchors_;
};

}  // namespace

YamlGraph parse_yaml_graph(const std::string& text, const std::string& source) {
  if (text.size() > kMaxBytes) fail(ErrorKind::kConfig, "{} is too large for a configuration", source);
  std::string_view rest = text;
  if (rest.starts_with("\ufeff")) rest.remove_prefix(3);
  YamlGraph graph;
  Builder(graph, rest, source).build();
  refuse_what_pyyaml_refuses(rest, source);
  return graph;
}

}  // namespace flagscale::config
