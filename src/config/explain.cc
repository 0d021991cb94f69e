#include "config/explain.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "config/resolve.h"
#include "config/show.h"

namespace flagscale::config {
namespace {

constexpr int kMaxSteps = 20;

std::string last_name(const std::string& path) { return path.substr(path.rfind('.') + 1); }

// Where the table's key stands in the configuration: the last of several counts.
NodePtr find_flat(const Composed& composed, const std::vector<std::string>& sections, const KeyInfo& key,
                  std::string& path) {
  NodePtr found;
  for (const FlatKey& flat : flatten_keys(composed.root(), sections)) {
    const bool same =
        flat.name == key.name || std::count(key.aliases.begin(), key.aliases.end(), flat.name) > 0;
    if (!same) continue;
    path = flat.path;
    found = flat.node;
  }
  return found;
}

// "${a.b}" alone is followed to a.b; anything else ends the chain.
NodePtr next_step(const Composed& composed, const Node& node) {
  const Pieces pieces = parse_interpolation(node.text);
  if (pieces.size() != 1 || !pieces[0].interpolation || pieces[0].interpolation->path.empty()) return nullptr;
  std::string target;
  for (const Piece& piece : pieces[0].interpolation->path) {
    if (piece.interpolation) return nullptr;
    target += piece.text;
  }
  if (target.starts_with('.')) return nullptr;
  try {
    return select_raw(composed.root(), target);
  } catch (const Error&) {
    return nullptr;
  }
}

void follow(const Composed& composed, NodePtr node, Explanation& result) {
  try {
    const NodePtr value = resolve(node);
    result.value = python_str(*value);
    result.json = to_json(value);
  } catch (const ResolutionError& error) {
    result.unresolved = error.what();
  }
  for (int i = 0; node && i < kMaxSteps; ++i) {
    result.steps.push_back({python_str(*node), describe(node->origin)});
    if (!node->is_interpolation()) break;
    node = next_step(composed, *node);
  }
}

// A key that the table does not know, like those of `experiment` and `serve`, has what a configuration sets.
[[noreturn]] void not_found(const KeyTable& table, const std::string& key, bool in_sections,
                            bool configured) {
  if (!in_sections && configured) fail(ErrorKind::kConfig, "the configuration does not set '{}'", key);
  if (!in_sections)
    fail(ErrorKind::kConfig,
         "'{}' is no key of a training's system, model or data; with --config-path and --config-name its "
         "value in a configuration is shown",
         key);
  const std::string near = table.nearest_name(last_name(key));
  fail(ErrorKind::kConfig, "there is no key '{}'{}", key,
       near.empty() ? "" : fmt::format("; did you mean '{}'?", near));
}

std::string type_line(const KeyInfo& key) {
  if (key.key_class == KeyClass::kIgnored)
    return "ignored: it changes nothing here (speed, or logging elsewhere)";
  if (key.key_class == KeyClass::kRefused) return "refused: it would change the result and is not supported";
  std::string text = key.type.empty() ? "" : key.type + ", ";
  if (!key.range.empty()) text += key.range + ", ";
  if (key.required)
    text += required_text(key) + ", ";
  else if (!key.default_text.empty())
    text += "default " + key.default_text + ", ";
  else
    text += "no default, ";
  return text + name(key.key_class);
}

// "10000.0  (default; not set)" of a key that the configuration does not give.
std::string unset_line(const KeyInfo& key) {
  if (key.key_class != KeyClass::kActs) return "(not set)";
  if (key.required) return fmt::format("(not set, and {})", required_text(key));
  const std::string brought =
      key.brought_by.empty() ? "" : fmt::format("; {} brings its own", key.brought_by);
  return key.default_text.empty() ? fmt::format("(not set; there is no default{})", brought)
                                  : fmt::format("{}  (default; not set{})", key.default_text, brought);
}

}  // namespace

Explanation explain(const KeyTable& table, const std::vector<std::string>& sections, const std::string& key,
                    const Composed* composed) {
  Explanation result;
  result.path = key;
  const bool in_sections = key.find('.') == std::string::npos ||
                           std::any_of(sections.begin(), sections.end(),
                                       [&](const std::string& s) { return key.starts_with(s + "."); });
  if (in_sections) result.key = table.find(last_name(key));
  NodePtr node;
  result.configured = composed != nullptr;
  if (composed != nullptr) {
    if (result.key != nullptr) node = find_flat(*composed, sections, *result.key, result.path);
    if (!node) node = select_raw(composed->root(), key);
  }
  if (result.key == nullptr && !node) not_found(table, key, in_sections, result.configured);
  if (node) follow(*composed, node, result);
  return result;
}

std::string to_text(const Explanation& e) {
  std::string text = e.path + "\n";
  if (e.key != nullptr) {
    text += fmt::format("  {}\n", type_line(*e.key));
    text += fmt::format("  {}\n", e.key->doc);
    if (!e.key->harmless.empty())
      text += fmt::format("  fine where it is {}\n", fmt::join(e.key->harmless, ", "));
    if (!e.key->aliases.empty()) text += fmt::format("  also called {}\n", fmt::join(e.key->aliases, ", "));
  }
  for (const Step& step : e.steps) text += fmt::format("  {}  ({})\n", step.text, step.where);
  if (e.configured && e.steps.empty() && e.key != nullptr) text += fmt::format("  {}\n", unset_line(*e.key));
  if (!e.unresolved.empty())
    text += fmt::format("  does not resolve: {}\n", e.unresolved);
  else if (!e.steps.empty() && e.steps.back().text != e.value)
    text += fmt::format("  = {}\n", e.value);
  return text;
}

namespace {

// Infinity and NaN, which JSON has not, are texts.
nlohmann::ordered_json typed(const std::string& json, const std::string& text) {
  auto value = nlohmann::ordered_json::parse(json, nullptr, false);
  return value.is_discarded() ? nlohmann::ordered_json(text) : value;
}

}  // namespace

std::string to_json(const Explanation& e) {
  nlohmann::ordered_json json{{"key", e.path}};
  if (e.key != nullptr) {
    json["class"] = name(e.key->key_class);
    json["type"] = e.key->type;
    json["default"] = typed(e.key->default_json, e.key->default_text);
    json["required"] = e.key->required;
    if (!e.key->brought_by.empty()) json["brought_by"] = e.key->brought_by;
    json["range"] = e.key->range;
    json["doc"] = e.key->doc;
    json["aliases"] = e.key->aliases;
  }
  if (e.configured) json["set"] = !e.steps.empty();
  if (e.configured && e.steps.empty() && e.key != nullptr && !e.key->required && !e.key->default_text.empty())
    json["value"] = typed(e.key->default_json, e.key->default_text);
  if (!e.steps.empty()) {
    if (e.unresolved.empty()) json["value"] = typed(e.json, e.value);
    for (const Step& step : e.steps) json["from"].push_back({{"text", step.text}, {"where", step.where}});
  }
  if (!e.unresolved.empty()) json["unresolved"] = e.unresolved;
  return json.dump(2, ' ', false, nlohmann::ordered_json::error_handler_t::replace) + "\n";
}

}  // namespace flagscale::config
