#include "config/resolver_functions.h"

#include <cstdlib>
#include <ctime>
#include <map>

#include "base/error.h"
#include "base/log.h"
#include "config/resolve.h"
#include "config/yaml.h"

namespace flagscale::config {
namespace {

using Arguments = std::vector<NodePtr>;

void expect_count(const char* name, const Arguments& arguments, size_t least, size_t most) {
  if (arguments.size() >= least && arguments.size() <= most) return;
  fail(ErrorKind::kConfig, "{} takes {} to {} arguments, not {}", name, least, most, arguments.size());
}

const std::string& string_argument(const char* resolver, const Node& node) {
  if (node.kind != Kind::kString)
    fail(ErrorKind::kConfig, "{} takes a string, not {}", resolver, python_repr(node));
  return node.text;
}

// A default is made a string; only null stays what it is.
NodePtr env(ResolverContext&, const Arguments& arguments) {
  expect_count("oc.env", arguments, 1, 2);
  const std::string& variable = string_argument("oc.env", *arguments[0]);
  if (const char* value = std::getenv(variable.c_str())) return Node::string(value);
  if (arguments.size() < 2) fail(ErrorKind::kConfig, "the environment variable {} is not set", variable);
  return arguments[1]->kind == Kind::kNull ? arguments[1] : Node::string(python_str(*arguments[1]));
}

NodePtr decode(ResolverContext& context, const Arguments& arguments) {
  expect_count("oc.decode", arguments, 1, 1);
  if (arguments[0]->kind == Kind::kNull) return arguments[0];
  return context.decode(string_argument("oc.decode", *arguments[0]));
}

NodePtr select(ResolverContext& context, const Arguments& arguments) {
  expect_count("oc.select", arguments, 1, 2);
  NodePtr value;
  try {
    value = context.absolute(string_argument("oc.select", *arguments[0]));
  } catch (const ResolutionError& error) {
    if (error.exception() != "MissingMandatoryValue") throw;
  }
  if (value) return value;
  return arguments.size() > 1 ? arguments[1] : Node::null();
}

NodePtr create(ResolverContext& context, const Arguments& arguments) {
  expect_count("oc.create", arguments, 1, 1);
  const Node& from = *arguments[0];
  NodePtr result;
  if (from.kind == Kind::kString)
    result = parse_yaml(from.text, "oc.create");
  else if (from.is_container())
    result = from.copy();
  else if (from.kind == Kind::kNull)
    return arguments[0];
  else
    fail(ErrorKind::kConfig, "oc.create takes a list or a mapping, not {}", python_repr(from));
  result->parent = &context.container();
  return result;
}

NodePtr mapping_at(ResolverContext& context, const char* name, const Arguments& arguments) {
  expect_count(name, arguments, 1, 1);
  const NodePtr map = context.absolute(string_argument(name, *arguments[0]));
  if (!map) fail(ErrorKind::kConfig, "{}: there is no key '{}'", name, arguments[0]->text);
  if (map->kind != Kind::kMap)
    fail(ErrorKind::kConfig, "{}: '{}' is a {}, not a mapping", name, arguments[0]->text,
         flagscale::config::name(map->kind));
  return map;
}

NodePtr dict_keys(ResolverContext& context, const Arguments& arguments) {
  NodePtr result = Node::list();
  for (const Entry& entry : mapping_at(context, "oc.dict.keys", arguments)->entries) {
    const Key& key = entry.key;
    if (key.kind == Kind::kString)
      result->append(Node::string(key.text));
    else if (key.kind == Kind::kBool)
      result->append(Node::boolean(key.number != 0));
    else if (key.kind == Kind::kFloat)
      result->append(Node::real(key.number));
    else
      result->append(Node::integer(static_cast<int64_t>(key.number)));
  }
  result->parent = &context.container();
  return result;
}

NodePtr dict_values(ResolverContext& context, const Arguments& arguments) {
  const NodePtr map = mapping_at(context, "oc.dict.values", arguments);
  NodePtr result = Node::list();
  // References, as OmegaConf makes them: one level further down when the key is relative.
  const std::string& key = arguments[0]->text;
  for (const Entry& entry : map->entries)
    result->append(
        Node::string("${" + std::string(key.starts_with('.') ? "." : "") + key + "." + entry.key.text + "}"));
  result->parent = &context.container();
  return result;
}

NodePtr deprecated(ResolverContext& context, const Arguments& arguments) {
  expect_count("oc.deprecated", arguments, 1, 2);
  const NodePtr target = context.absolute(string_argument("oc.deprecated", *arguments[0]));
  if (arguments.size() > 1) string_argument("oc.deprecated", *arguments[1]);
  if (!target) fail(ErrorKind::kConfig, "oc.deprecated: there is no key '{}'", arguments[0]->text);
  warn("'{}' is deprecated; use '{}'", context.node_path(), arguments[0]->text);
  return target;
}

// Hydra's: the local time, one reading a process.
NodePtr now(ResolverContext&, const Arguments& arguments) {
  expect_count("now", arguments, 1, 1);
  static const std::time_t started = std::time(nullptr);
  std::tm parts{};
  localtime_r(&started, &parts);
  char buffer[256];
  const size_t length =
      std::strftime(buffer, sizeof buffer, string_argument("now", *arguments[0]).c_str(), &parts);
  return Node::string(std::string(buffer, length));
}

// Hydra's: its own settings, which it knows while it runs a program, and not when a configuration is
// composed.
NodePtr hydra(ResolverContext&, const Arguments& arguments) {
  expect_count("hydra", arguments, 1, 1);
  fail(ErrorKind::kConfig, "hydra: '{}' is known to a program that Hydra runs, and not here",
       python_str(*arguments[0]));
}

}  // namespace

ResolverFunction find_resolver(const std::string& name) {
  static const std::map<std::string, ResolverFunction> kResolvers{
      {"oc.env", &env},
      {"oc.decode", &decode},
      {"oc.select", &select},
      {"oc.create", &create},
      {"oc.dict.keys", &dict_keys},
      {"oc.dict.values", &dict_values},
      {"oc.deprecated", &deprecated},
      {"now", &now},
      {"hydra", &hydra},
  };
  const auto it = kResolvers.find(name);
  return it == kResolvers.end() ? nullptr : it->second;
}

}  // namespace flagscale::config
