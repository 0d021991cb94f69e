#include "config/yaml_graph.h"

#include <yaml-cpp/anchor.h>
#include <yaml-cpp/eventhandler.h>
#include <yaml-cpp/exceptions.h>
#include <yaml-cpp/mark.h>
#include <yaml-cpp/parser.h>

#include <algorithm>
#include <map>
#include <set>
#include <sstream>
#include <string_view>

#include "base/error.h"
#include "config/node.h"

namespace flagscale::config {
namespace {

constexpr size_t kMaxBytes = size_t{4} << 20;
constexpr size_t kMaxNodes = 50000;
const std::string kStandardTag = "tag:yaml.org,2002:";

// Two characters that the text does not have. The first stands for a tab, which PyYAML takes only in quotes,
// comments and block scalars, and yaml-cpp in more places. The second ends the text in a comment: a scalar
// that has swallowed it is a quote that was never closed, which yaml-cpp lets pass.
struct Marks {
  std::string tab, end;
};

class Builder : public YAML::EventHandler {
 public:
  Builder(YamlGraph& graph, const std::string& text, const std::string& source, const Marks& marks)
      : graph_(graph), text_(text), source_(source), marks_(marks) {}

  void OnDocumentStart(const YAML::Mark& mark) override {
    if (graph_.root != nullptr) stop(mark, "holds a second document, expected one");
  }
  void OnDocumentEnd() override {}
  void OnAnchor(const YAML::Mark& mark, const std::string& anchor_name) override {
    if (!anchor_names_.insert(anchor_name).second) stop(mark, "has an anchor of the same name as another");
  }
  void OnNull(const YAML::Mark& mark, YAML::anchor_t anchor) override {
    YamlNode* node = add(YamlNode::Kind::kScalar, mark, "?", anchor);
    const auto at = static_cast<size_t>(mark.pos);
    if (in_flow() && open_.back().node->kind == YamlNode::Kind::kSequence && at < text_.size() &&
        text_[at] == ',')
      stop(mark, "has a comma with nothing before it");
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
    const Properties properties = properties_at(mark);
    const char first = at(properties.end);
    if (first == '|' || first == '>') check_block_header(mark, properties.end);
    // PyYAML takes what follows a bare "!" for unquoted, whatever it is.
    if (properties.tagged && tag == "!") node->plain = true;
    if (value.find(marks_.end) != std::string::npos) stop(mark, "opens a quote that is never closed");
    restore_tabs(*node, mark);
    // YAML 1.1 takes the colon for a separator, yaml-cpp for text.
    if (node->plain && in_flow() && value.starts_with(':'))
      stop(mark, "has a colon where a value should start; quote it");
    place(node, mark);
  }
  void OnSequenceStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                       YAML::EmitterStyle::value style) override {
    properties_at(mark);
    open(add(YamlNode::Kind::kSequence, mark, tag, anchor), mark, style);
  }
  void OnSequenceEnd() override { open_.pop_back(); }
  void OnMapStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                  YAML::EmitterStyle::value style) override {
    properties_at(mark);
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

  static constexpr size_t npos = std::string::npos;
  char at(size_t position) const { return position < text_.size() ? text_[position] : '\n'; }
  bool space(size_t position) const {
    return std::string_view(" \r\n").find(at(position)) != npos ||
           text_.compare(position, marks_.tab.size(), marks_.tab) == 0;
  }

  // The tag and the anchor before a node, as PyYAML reads them: up to a space.
  struct Properties {
    bool tagged = false;
    size_t end = 0;  // where the node itself starts
  };
  Properties properties_at(const YAML::Mark& mark) const {
    Properties result{false, static_cast<size_t>(std::max(mark.pos, 0))};
    size_t& p = result.end;
    while (at(p) == '!' || at(p) == '&') {
      const size_t begin = p;
      const bool tag = at(p) == '!', verbatim = tag && at(p + 1) == '<';
      while (!space(p) && !(verbatim && at(p) == '>')) ++p;
      if (verbatim && at(p) == '>' && !space(++p)) stop(mark, "has a tag without a space after it");
      // To PyYAML these are a part of the tag, which yaml-cpp ends at them.
      if (tag && !verbatim && text_.substr(begin, p - begin).find_first_of(",[]{}") != npos)
        stop(mark, "has a tag without a space after it");
      result.tagged |= tag;
      while (p < text_.size() && space(p)) p += at(p) == marks_.tab[0] ? marks_.tab.size() : 1;
    }
    return result;
  }

  void check_block_header(const YAML::Mark& mark, size_t indicator) const {
    const size_t end = text_.find_first_not_of("+-0123456789", indicator + 1);
    if (at(end) == '#') stop(mark, "has a comment without a space before it");
  }

  void restore_tabs(YamlNode& node, const YAML::Mark& mark) const {
    size_t at = node.text.find(marks_.tab);
    if (at == std::string::npos) return;
    if (node.plain) stop(mark, "has a tab outside quotes; use spaces");
    std::string text;
    size_t done = 0;
    for (; at != std::string::npos; at = node.text.find(marks_.tab, done)) {
      text.append(node.text, done, at - done);
      text.push_back('\t');
      done = at + marks_.tab.size();
    }
    text.append(node.text, done);
    node.text = std::move(text);
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
  const std::string& text_;
  const std::string& source_;
  const Marks& marks_;
  std::vector<Open> open_;
  std::map<YAML::anchor_t, YamlNode*> anchors_;
  std::set<std::string> anchor_names_;
};

// Private-use characters, U+E000 to U+E0FF, in UTF-8.
Marks unused_marks(const std::string& text) {
  std::vector<std::string> found;
  for (int i = 0; i < 256 && found.size() < 2; ++i) {
    std::string mark = "\xee";
    mark += static_cast<char>(0x80 + i / 64);
    mark += static_cast<char>(0x80 + i % 64);
    if (text.find(mark) == std::string::npos) found.push_back(mark);
  }
  if (found.size() < 2) fail(ErrorKind::kConfig, "a configuration cannot use every private character");
  return {found[0], found[1]};
}

YamlGraph parse(const std::string& text, const std::string& source, const Marks& marks) {
  YamlGraph graph;
  Builder builder(graph, text, source, marks);
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

}  // namespace

YamlGraph parse_yaml_graph(const std::string& text, const std::string& source) {
  if (text.size() > kMaxBytes) fail(ErrorKind::kConfig, "{} is too large for a configuration", source);
  const Marks marks = unused_marks(text);
  std::string marked;
  for (const char c : text) c == '\t' ? marked += marks.tab : marked += c;
  const bool ends_line = text.empty() || text.back() == '\n';
  std::string ended = marked;
  ended.append(ends_line ? "# " : "\n# ").append(marks.end).append("\n");
  YamlGraph graph = parse(ended, source, marks);
  if (ends_line) return graph;
  return parse(marked, source, marks);  // a block scalar at the very end has no line break then
}

}  // namespace flagscale::config
