#include "config/yaml_scalar.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <limits>
#include <string_view>
#include <vector>

#include "base/error.h"

namespace flagscale::config {
namespace {

constexpr size_t kMaxDigits = 4000;  // Python refuses longer ones too (4300)

// A regular expression in the small: eats characters from the front of what is left.
class Eater {
 public:
  explicit Eater(std::string_view text) : left_(text) {}
  bool done() const { return left_.empty(); }
  bool one(std::string_view set) {
    if (left_.empty() || set.find(left_.front()) == std::string_view::npos) return false;
    left_.remove_prefix(1);
    return true;
  }
  bool some(std::string_view set) {
    const bool any = one(set);
    while (one(set)) {
    }
    return any;
  }
  void any(std::string_view set) { some(set); }
  bool literal(std::string_view word) {
    if (!left_.starts_with(word)) return false;
    left_.remove_prefix(word.size());
    return true;
  }
  // [0-9]+(?:_[0-9]+)*
  bool grouped() {
    if (!some(kDigits)) return false;
    while (left_.size() > 1 && left_[0] == '_' && kDigits.find(left_[1]) != std::string_view::npos) {
      one("_");
      some(kDigits);
    }
    return true;
  }
  // (?::[0-5]?[0-9])+ : at least one. Two digits where the first is at most 5.
  bool sexagesimal() {
    bool any = false;
    while (left_.starts_with(':')) {
      const std::string_view before = left_;
      one(":");
      const bool two = left_.size() > 1 && left_[0] >= '0' && left_[0] <= '5' &&
                       kDigits.find(left_[1]) != std::string_view::npos;
      if (two)
        left_.remove_prefix(2);
      else if (!one(kDigits)) {
        left_ = before;
        return any;
      }
      any = true;
    }
    return any;
  }
  static constexpr std::string_view kDigits = "0123456789";

 private:
  std::string_view left_;
};

constexpr std::string_view kDigitsOr_ = "0123456789_";

bool exponent(Eater& e, bool sign_needed) {
  if (!e.one("eE")) return false;
  if (!e.one("+-") && sign_needed) return false;
  return e.some(Eater::kDigits);
}

// One alternative of the two regular expressions: PyYAML's and OmegaConf's, which are both in force.
bool float_with_point(std::string_view text, bool pyyaml) {
  Eater e(text);
  e.one("+-");
  if (pyyaml ? !(e.one(Eater::kDigits) && (e.any(kDigitsOr_), true)) : !e.grouped()) return false;
  if (!e.one(".")) return false;
  e.any(kDigitsOr_);
  return e.done() || (exponent(e, pyyaml) && e.done());
}

bool float_without_point(std::string_view text) {
  Eater e(text);
  e.one("+-");
  return e.grouped() && exponent(e, false) && e.done();
}

bool float_point_first(std::string_view text, bool pyyaml) {
  Eater e(text);
  if (!e.one(".")) return false;
  if (pyyaml ? !(e.one(Eater::kDigits) && (e.any(kDigitsOr_), true)) : !e.grouped()) return false;
  return e.done() || (exponent(e, true) && e.done());
}

bool float_sexagesimal(std::string_view text, bool pyyaml) {
  Eater e(text);
  e.one("+-");
  if (pyyaml ? !(e.one(Eater::kDigits) && (e.any(kDigitsOr_), true)) : !e.grouped()) return false;
  if (!e.sexagesimal() || !e.one(".")) return false;
  e.any(kDigitsOr_);
  return e.done();
}

bool is_special_float(std::string_view text) {
  for (const char* nan : {".nan", ".NaN", ".NAN"})
    if (text == nan) return true;
  Eater e(text);
  e.one("+-");
  return (e.literal(".inf") || e.literal(".Inf") || e.literal(".INF")) && e.done();
}

bool looks_float(std::string_view text) {
  for (const bool pyyaml : {true, false})
    if (float_with_point(text, pyyaml) || float_point_first(text, pyyaml) || float_sexagesimal(text, pyyaml))
      return true;
  return float_without_point(text) || is_special_float(text);
}

bool looks_int(std::string_view text) {
  const auto matches = [&](auto&& rule) {
    Eater e(text);
    e.one("+-");
    return rule(e) && e.done();
  };
  return matches([](Eater& e) { return e.literal("0b") && e.some("01_"); }) ||
         matches([](Eater& e) { return e.one("0") && e.some("01234567_"); }) ||
         matches([](Eater& e) { return e.one("0"); }) ||
         matches([](Eater& e) { return e.one("123456789") && (e.any(kDigitsOr_), true); }) ||
         matches([](Eater& e) { return e.literal("0x") && e.some("0123456789abcdefABCDEF_"); }) ||
         matches([](Eater& e) { return e.one("123456789") && (e.any(kDigitsOr_), true) && e.sexagesimal(); });
}

std::string without_underscores(std::string text) {
  std::erase(text, '_');
  return text;
}

[[noreturn]] void unreadable(const char* type, const std::string& text) {
  fail(ErrorKind::kConfig, "'{}' looks like a number but is no {}; quote it to have a string", text, type);
}

NodePtr sexagesimal(const std::string& text, bool negative, bool integer) {
  double value = 0;
  size_t begin = 0;
  while (begin <= text.size()) {
    const size_t end = std::min(text.find(':', begin), text.size());
    const std::string part = text.substr(begin, end - begin);
    char* rest = nullptr;
    value = value * 60 + std::strtod(part.c_str(), &rest);
    const auto allowed = integer ? "0123456789" : "0123456789.";
    if (part.empty() || *rest != '\0' || part.find_first_not_of(allowed) != part.npos)
      unreadable(integer ? "integer" : "float", text);
    begin = end + 1;
  }
  if (negative) value = -value;
  if (!integer) return Node::real(value);
  if (std::abs(value) > 9e15) unreadable("integer", text);
  return Node::integer(static_cast<int64_t>(value));
}

NodePtr read_int(const std::string& original) {
  std::string text = without_underscores(original);
  const bool negative = text.starts_with('-');
  if (text.starts_with('-') || text.starts_with('+')) text.erase(0, 1);
  NodePtr node;
  if (text.empty()) unreadable("integer", original);
  if (text == "0") return Node::integer(0);
  if (text.starts_with("0b"))
    node = integer_from_digits(text.substr(2), 2, negative);
  else if (text.starts_with("0x"))
    node = integer_from_digits(text.substr(2), 16, negative);
  else if (text[0] == '0')
    node = integer_from_digits(text.substr(1), 8, negative);
  else if (text.find(':') != std::string::npos)
    node = sexagesimal(text, negative, true);
  else
    node = integer_from_digits(text, 10, negative);
  if (!node) unreadable("integer", original);
  return node;
}

NodePtr read_float(const std::string& original) {
  std::string text = without_underscores(original);
  std::transform(text.begin(), text.end(), text.begin(),
                 [](unsigned char c) { return static_cast<char>(c >= 'A' && c <= 'Z' ? c + 32 : c); });
  const bool negative = text.starts_with('-');
  if (text.starts_with('-') || text.starts_with('+')) text.erase(0, 1);
  if (text == ".inf") return Node::real(negative ? -INFINITY : INFINITY);
  if (text == ".nan") return Node::real(std::numeric_limits<double>::quiet_NaN());
  if (text.find(':') != std::string::npos) return sexagesimal(text, negative, false);
  char* end = nullptr;
  const double value = std::strtod(text.c_str(), &end);
  const bool plain = !text.empty() && text.find_first_not_of("0123456789.e+-") == std::string::npos;
  if (!plain || end != text.c_str() + text.size()) unreadable("float", original);
  return Node::real(negative ? -value : value);
}

bool one_of(const std::string& text, std::initializer_list<const char*> words) {
  return std::any_of(words.begin(), words.end(), [&](const char* word) { return text == word; });
}

}  // namespace

NodePtr integer_from_digits(const std::string& digits, int base, bool negative) {
  if (digits.empty() || digits.size() > kMaxDigits) return nullptr;
  int64_t value = 0;
  const auto [end, code] = std::from_chars(digits.data(), digits.data() + digits.size(), value, base);
  if (code == std::errc() && end == digits.data() + digits.size())
    return Node::integer(negative ? -value : value);
  if (code != std::errc::result_out_of_range || end != digits.data() + digits.size()) return nullptr;
  std::vector<int> decimal{0};  // least significant first
  for (const char c : digits) {
    int carry = c <= '9' ? c - '0' : (c | 0x20) - 'a' + 10;
    for (int& place : decimal) {
      carry += place * base;
      place = carry % 10;
      carry /= 10;
    }
    for (; carry > 0; carry /= 10) decimal.push_back(carry % 10);
  }
  std::string text = negative ? "-" : "";
  for (auto it = decimal.rbegin(); it != decimal.rend(); ++it) text += static_cast<char>('0' + *it);
  return text == "-9223372036854775808" ? Node::integer(std::numeric_limits<int64_t>::min())
                                        : Node::big_integer(text);
}

bool is_null_text(const std::string& text) { return one_of(text, {"", "~", "null", "Null", "NULL"}); }

NodePtr plain_scalar(const std::string& text) {
  if (is_null_text(text)) return Node::null();
  if (one_of(text, {"yes", "Yes", "YES", "true", "True", "TRUE", "on", "On", "ON"}))
    return Node::boolean(true);
  if (one_of(text, {"no", "No", "NO", "false", "False", "FALSE", "off", "Off", "OFF"}))
    return Node::boolean(false);
  if (looks_float(text)) return read_float(text);
  if (looks_int(text)) return read_int(text);
  return Node::string(text);
}

NodePtr tagged_scalar(const std::string& tag, const std::string& text) {
  if (tag == "str") return Node::string(text);
  if (tag == "null") return Node::null();
  if (tag == "int") return read_int(text);
  if (tag == "float") return read_float(text);
  if (tag == "bool") {
    const NodePtr node = plain_scalar(text);
    if (node->kind == Kind::kBool) return node;
    fail(ErrorKind::kConfig, "'{}' is no bool", text);
  }
  fail(ErrorKind::kConfig, "the YAML tag !!{} is not allowed in a configuration", tag);
}

}  // namespace flagscale::config
