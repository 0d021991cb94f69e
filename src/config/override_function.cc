#include "config/override_function.h"

#include <algorithm>
#include <cmath>

#include "base/error.h"
#include "config/value_token.h"

namespace flagscale::config {
namespace {

std::string lowered(std::string text) {
  std::transform(text.begin(), text.end(), text.begin(),
                 [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; });
  return text;
}

std::string stripped(const std::string& text) {
  const size_t begin = text.find_first_not_of(" \t\n\r");
  return begin == std::string::npos ? "" : text.substr(begin, text.find_last_not_of(" \t\n\r") - begin + 1);
}

// Python's int() and float() of a string: leading zeros are fine for both.
NodePtr number_from_text(const std::string& original, bool integer) {
  std::string text = stripped(original);
  std::string sign;
  if (text.starts_with('+') || text.starts_with('-')) sign = text.substr(0, 1), text.erase(0, 1);
  while (text.size() > 1 && text[0] == '0' && text[1] >= '0' && text[1] <= '9') text.erase(0, 1);
  if (!integer && lowered(text) == "infinity") text = "inf";
  const std::string whole = sign + text;
  const Token token = value_token(whole, false);
  const bool is_int = token.kind == TokenKind::kInt, is_float = token.kind == TokenKind::kFloat;
  if (token.text.size() != whole.size() || whole.empty() || !(is_int || (is_float && !integer)))
    fail(ErrorKind::kInvalidArgument, "'{}' is no {}", original, integer ? "int" : "float");
  NodePtr node = token_value(token);
  return integer || is_float ? node : Node::real(node->floating);
}

NodePtr cast_scalar(const std::string& type, const Node& value) {
  if (value.kind == Kind::kNull) fail(ErrorKind::kInvalidArgument, "null cannot be cast to {}", type);
  const bool text = value.kind == Kind::kString;
  const double number = value.kind == Kind::kBool ? (value.flag ? 1 : 0) : value.floating;
  if (type == "str")
    return Node::string(value.kind == Kind::kBool ? lowered(python_str(value)) : python_str(value));
  if (type == "bool") {
    if (!text) return Node::boolean(number != 0);
    const std::string word = lowered(value.text);
    if (word != "true" && word != "false") fail(ErrorKind::kInvalidArgument, "'{}' is no bool", value.text);
    return Node::boolean(word == "true");
  }
  if (text) return number_from_text(value.text, type == "int");
  if (type == "float") return Node::real(number);
  if (value.kind == Kind::kInt) return value.copy();
  if (!(std::abs(number) < 9.2e18)) fail(ErrorKind::kInvalidArgument, "{} is no int", python_str(value));
  return Node::integer(static_cast<int64_t>(number));
}

NodePtr cast(const std::string& type, const Node& value) {
  NodePtr result;
  if (value.kind == Kind::kList) {
    result = Node::list();
    for (const NodePtr& item : value.items) result->append(cast(type, *item));
  } else if (value.kind == Kind::kMap) {
    result = Node::map();
    for (const Entry& entry : value.entries) result->set(entry.key, cast(type, *entry.value));
  } else {
    result = cast_scalar(type, value);
  }
  return result;
}

bool less(const NodePtr& a, const NodePtr& b) {
  const bool numbers = a->kind != Kind::kString && b->kind != Kind::kString && !a->is_container() &&
                       !b->is_container() && a->kind != Kind::kNull && b->kind != Kind::kNull;
  if (!numbers && !(a->kind == Kind::kString && b->kind == Kind::kString))
    fail(ErrorKind::kInvalidArgument, "sort() cannot compare a {} with a {}", name(a->kind), name(b->kind));
  if (!numbers) return a->text < b->text;
  const auto number = [](const NodePtr& n) {
    return n->kind == Kind::kBool ? (n->flag ? 1.0 : 0.0) : n->floating;
  };
  return number(a) < number(b);
}

Argument sort(const std::vector<Argument>& arguments) {
  bool reverse = false;
  std::vector<Argument> rest;
  for (const Argument& argument : arguments) {
    if (argument.keyword != "reverse") {
      rest.push_back(argument);
      continue;
    }
    if (argument.sweep || argument.value->kind != Kind::kBool)
      fail(ErrorKind::kInvalidArgument, "sort()'s reverse is true or false");
    reverse = argument.value->flag;
  }
  if (rest.size() != 1 || rest[0].sweep) return {nullptr, true, ""};
  NodePtr result = rest[0].value->copy();
  if (result->kind != Kind::kList) fail(ErrorKind::kInvalidArgument, "sort() takes a list");
  const auto end = result->items.end();
  if (reverse)
    std::stable_sort(result->items.begin(), end,
                     [](const NodePtr& a, const NodePtr& b) { return less(b, a); });
  else
    std::stable_sort(result->items.begin(), end, less);
  return {result, false, ""};
}

}  // namespace

Argument call_function(const std::string& name, const std::vector<Argument>& arguments) {
  const bool is_cast = name == "int" || name == "float" || name == "str" || name == "bool";
  const auto is_one_of = [&](std::initializer_list<const char*> names) {
    return std::any_of(names.begin(), names.end(), [&](const char* n) { return name == n; });
  };
  if (!is_cast && !is_one_of({"choice", "range", "interval", "tag", "sort", "shuffle", "glob"}))
    fail(ErrorKind::kInvalidArgument, "there is no function '{}'", name);
  if (arguments.empty()) fail(ErrorKind::kInvalidArgument, "{}() needs an argument", name);
  if (name == "sort") return sort(arguments);
  if (name == "shuffle" && !arguments[0].sweep && arguments.size() == 1)
    fail(ErrorKind::kInvalidArgument, "shuffle() would give every run another configuration");
  if (!is_cast || arguments.size() > 1 || arguments[0].sweep) return {nullptr, true, ""};
  if (!arguments[0].keyword.empty() && arguments[0].keyword != "value")
    fail(ErrorKind::kInvalidArgument, "{}() has no argument '{}'", name, arguments[0].keyword);
  return {cast(name, *arguments[0].value), false, ""};
}

}  // namespace flagscale::config
