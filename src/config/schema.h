#pragma once
// The typed schema: one descriptor for a key gives its parser, type, default, range, doc and other names. A
// layer registers its keys beside the struct that they fill:
//
//   Schema<TrainConfig> keys;
//   keys.acts("rotary_base", [](TrainConfig& c) -> auto& { return c.model.rotary_base; },
//             {.doc = "base of the rotary frequencies", .above = 0});
//
// Type and default are the field's own.

#include <fmt/format.h>

#include <functional>
#include <limits>
#include <map>
#include <string>
#include <type_traits>
#include <vector>

#include "base/error.h"
#include "config/key_table.h"
#include "config/read_value.h"

namespace flagscale::config {

struct Limits {
  std::string doc;
  double least = -std::numeric_limits<double>::infinity();  // numbers: at least, more than, at most
  double above = -std::numeric_limits<double>::infinity();
  double most = std::numeric_limits<double>::infinity();
  std::vector<std::string> choices = {};  // strings
  std::vector<std::string> aliases = {};
  bool required = false;
};

std::string range_text(const Limits& limits);
// Throws Error{kConfig} saying what is allowed.
void check_limits(const Limits& limits, double value);
void check_limits(const Limits& limits, const std::string& value);

template <class Target>
class Schema : public KeyTable {
 public:
  template <class Field>
  void acts(const std::string& key, Field field, Limits limits) {
    Target defaults{};
    const auto& value = field(defaults);
    add({key,
         KeyClass::kActs,
         type_name(value),
         value_text(value),
         range_text(limits),
         limits.doc,
         limits.aliases,
         {},
         limits.required,
         {},
         limits.required ? "null" : default_json(value)});
    readers_[key] = [field, limits](Target& target, const Node& node) {
      auto& into = field(target);
      read_value(node, into);
      check(limits, into);
    };
  }
  void ignored(const std::string& key, const std::string& why) {
    add({key, KeyClass::kIgnored, "", "", "", why, {}, {}, false, {}});
  }
  void refused(const std::string& key, const std::string& what, std::vector<std::string> harmless = {}) {
    add({key, KeyClass::kRefused, "", "", "", what, {}, std::move(harmless), false, {}});
  }

  // Fills the field of a key that acts. Throws Error{kConfig} without saying which key: the caller knows its
  // place.
  void read(const KeyInfo& key, const Node& value, Target& target) const {
    readers_.at(key.name)(target, value);
  }

 private:
  template <class T>
  static std::string default_json(const T& value) {
    if constexpr (requires { value_json(value); })
      return value_json(value);
    else  // a type of the layer's own
      return "null";
  }
  template <class T>
  static void check(const Limits& limits, const std::optional<T>& value) {
    if (value) check(limits, *value);
  }
  template <class T>
  static void check(const Limits& limits, const T& value) {
    if constexpr (std::is_same_v<T, std::string>)
      check_limits(limits, value);
    else if constexpr (std::is_arithmetic_v<T>)
      check_limits(limits, static_cast<double>(value));
  }

  std::map<std::string, std::function<void(Target&, const Node&)>> readers_;
};

}  // namespace flagscale::config
