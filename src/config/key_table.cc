#include "config/key_table.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/check.h"
#include "base/nearest.h"
#include "config/resolve.h"

namespace flagscale::config {
namespace {

std::string with_underscores(std::string key) {
  std::replace(key.begin(), key.end(), '-', '_');
  return key;
}

void flatten(const NodePtr& node, const std::string& path, std::vector<FlatKey>& out, int depth) {
  if (depth > kMaxDepth) return;
  for (const Entry& entry : node->entries) {
    const std::string inner = path + "." + entry.key.text;
    NodePtr value = entry.value;
    if (value->is_interpolation()) {
      try {
        const NodePtr target = resolve(value);
        if (target->kind == Kind::kMap) value = target;
      } catch (const ResolutionError&) {  // told when the key is read
      }
    }
    if (value->kind == Kind::kMap && !value->entries.empty()) {
      flatten(value, inner, out, depth + 1);
      continue;
    }
    if (value->kind == Kind::kMap) continue;
    const std::string key = with_underscores(entry.key.text);
    FlatKey flat{key, inner, entry.value};
    const auto earlier =
        std::find_if(out.begin(), out.end(), [&](const FlatKey& other) { return other.name == key; });
    if (earlier != out.end()) {
      flat.replaced = std::move(earlier->replaced);
      flat.replaced.push_back({key, earlier->path, earlier->node});
      out.erase(earlier);
    }
    out.push_back(std::move(flat));
  }
}

std::string escaped(std::string text) {
  for (size_t at = text.find('|'); at != std::string::npos; at = text.find('|', at + 2))
    text.insert(at, "\\");
  return text;
}

std::string row(const KeyInfo& key) {
  std::string doc = key.doc;
  if (!key.aliases.empty()) doc += fmt::format(" Also `{}`.", fmt::join(key.aliases, "`, `"));
  if (key.key_class == KeyClass::kActs) {
    const std::string fallback = key.required               ? required_text(key)
                                 : key.default_text.empty() ? "none"
                                                            : "`" + key.default_text + "`";
    return fmt::format("| `{}` | {} | {} | {} | {} |\n", key.name, key.type, escaped(fallback),
                       escaped(key.range), escaped(doc));
  }
  if (key.key_class == KeyClass::kIgnored) return fmt::format("| `{}` | {} |\n", key.name, escaped(doc));
  return fmt::format("| `{}` | {} | {} |\n", key.name, fmt::join(key.harmless, ", "), escaped(doc));
}

}  // namespace

std::string required_text(const KeyInfo& key) {
  return key.brought_by.empty() ? "required" : fmt::format("required unless {} brings it", key.brought_by);
}

const char* name(KeyClass key_class) {
  const char* names[] = {"acts", "ignored", "refused"};
  return names[static_cast<int>(key_class)];
}

const KeyInfo* KeyTable::find(const std::string& key) const {
  const std::string wanted = with_underscores(key);
  const auto it = std::find_if(keys_.begin(), keys_.end(), [&](const KeyInfo& info) {
    return info.name == wanted || std::count(info.aliases.begin(), info.aliases.end(), wanted) > 0;
  });
  return it == keys_.end() ? nullptr : &*it;
}

std::string KeyTable::nearest_name(const std::string& key) const {
  if (const auto it = elsewhere_.find(with_underscores(key)); it != elsewhere_.end()) return it->second;
  std::vector<std::string> names;
  for (const KeyInfo& info : keys_) {
    names.push_back(info.name);
    names.insert(names.end(), info.aliases.begin(), info.aliases.end());
  }
  return nearest(with_underscores(key), names);
}

bool KeyTable::is_harmless(const KeyInfo& key, const Node& value) {
  if (value.kind == Kind::kNull || (value.kind == Kind::kBool && !value.flag)) return true;
  const std::string text = python_str(value);
  return std::any_of(key.harmless.begin(), key.harmless.end(), [&](const std::string& harmless) {
    return harmless == text || harmless + ".0" == text;
  });
}

void KeyTable::elsewhere(const std::string& key, const std::vector<std::string>& names) {
  FLAGSCALE_CHECK(find(key) != nullptr);
  for (const std::string& name : names) elsewhere_[name] = key;
}

void KeyTable::bring(const std::string& what, const std::vector<std::string>& names) {
  for (const std::string& name : names) {
    const auto it =
        std::find_if(keys_.begin(), keys_.end(), [&](const KeyInfo& k) { return k.name == name; });
    FLAGSCALE_CHECK(it != keys_.end());
    it->brought_by = what;
  }
}

KeyInfo& KeyTable::add(KeyInfo info) {
  FLAGSCALE_CHECK(find(info.name) == nullptr);
  keys_.push_back(std::move(info));
  return keys_.back();
}

std::string to_markdown(const KeyTable& table) {
  const char* heads[] = {
      "## Keys that act\n\n| Key | Type | Default | Values | Meaning |\n|---|---|---|---|---|\n",
      "## Keys that change nothing here\n\nOne line of a run lists those that were given.\n\n| Key | Why "
      "|\n|---|---|\n",
      "## Keys that are refused\n\nThey would change the result and are not supported yet. `false` and "
      "`null` are always fine.\n\n| Key | Fine too | What it asks for |\n|---|---|---|\n"};
  std::string text;
  for (const KeyClass key_class : {KeyClass::kActs, KeyClass::kIgnored, KeyClass::kRefused}) {
    text += (text.empty() ? "" : "\n") + std::string(heads[static_cast<int>(key_class)]);
    for (const KeyInfo& key : table.keys())
      if (key.key_class == key_class) text += row(key);
  }
  return text;
}

std::vector<FlatKey> flatten_keys(const NodePtr& root, const std::vector<std::string>& sections) {
  std::vector<FlatKey> keys;
  for (const std::string& section : sections)
    if (const NodePtr node = select_value(root, section); node && node->kind == Kind::kMap)
      flatten(node, section, keys, 0);
  return keys;
}

}  // namespace flagscale::config
