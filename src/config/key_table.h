#pragma once
// What is known about every key of a schema, for reading, explaining and listing.

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "config/node.h"

namespace flagscale::config {

enum class KeyClass {
  kActs,     // changes the model, the loss, the data, the log or the files
  kIgnored,  // speed, or logging elsewhere: the result is the same without it
  kRefused,  // would change the result and is not supported
};
const char* name(KeyClass key_class);  // "acts", "ignored", "refused"

struct KeyInfo {
  std::string name;
  KeyClass key_class = KeyClass::kActs;
  std::string type;                   // "int", "flag", ...; empty: any
  std::string default_text;           // empty: none
  std::string range;                  // in words; empty: any value of the type
  std::string doc;                    // what it means; why it is ignored or refused
  std::vector<std::string> aliases;   // other names it is read under
  std::vector<std::string> harmless;  // refused: values, as text, that change nothing and so are fine
  bool required = false;
  std::string brought_by;  // "a model to start from", which has a value where none is given; empty: nothing
  std::string default_json = "null";  // `default_text` with its type
};

class KeyTable {
 public:
  const std::vector<KeyInfo>& keys() const { return keys_; }  // in order of registration

  // By name or alias, dashes and underscores alike. Null when unknown.
  const KeyInfo* find(const std::string& key) const;
  // What a name that is none may mean: the key that it is elsewhere(), else the nearest name. "" for nothing.
  std::string nearest_name(const std::string& key) const;

  // True when a refused key's value changes nothing: null, false, or one of `harmless`.
  static bool is_harmless(const KeyInfo& key, const Node& value);

  // Names that other programs have for a key: suggested, not read.
  void elsewhere(const std::string& key, const std::vector<std::string>& names);

  // Says of keys that are there what else may bring their value.
  void bring(const std::string& what, const std::vector<std::string>& names);

 protected:
  KeyInfo& add(KeyInfo info);

 private:
  std::vector<KeyInfo> keys_;
  std::map<std::string, std::string> elsewhere_;
};

// "required", or what makes it needless: "required unless a model to start from brings it".
std::string required_text(const KeyInfo& key);

// The table as a Markdown page's body: one table a class.
std::string to_markdown(const KeyTable& table);

// A key as written in a configuration, flattened as FlagScale does: the last name of each leaf below
// `sections` of `root`, in that order; a later one of the same name replaces an earlier.
struct FlatKey {
  std::string name;                    // with underscores
  std::string path;                    // "train.model.optimizer.lr"
  NodePtr node;                        // unresolved
  std::vector<FlatKey> replaced = {};  // the earlier ones, in order
};
std::vector<FlatKey> flatten_keys(const NodePtr& root, const std::vector<std::string>& sections);

}  // namespace flagscale::config
