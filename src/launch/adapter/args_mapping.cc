#include "launch/adapter/args_mapping.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <filesystem>
#include <map>
#include <set>

#include "base/error.h"
#include "config/yaml.h"

namespace flagscale::launch {
namespace {

namespace fs = std::filesystem;
using config::Entry;
using config::Kind;
using config::Node;
using config::NodePtr;

const std::map<std::string, std::string> kLlamaCppNames{{"disable_uvicorn_access_log", "log_disable"},
                                                        {"ssl_keyfile", "ssl_key_file"},
                                                        {"ssl_certfile", "ssl_cert_file"},
                                                        {"rope_theta", "rope_freq_base"},
                                                        {"max_num_seqs", "parallel"}};
const std::map<std::string, std::string> kSglangNames{{"model", "model_path"},
                                                      {"seed", "random_seed"},
                                                      {"max_model_len", "context_length"},
                                                      {"max_num_seqs", "max_running_requests"},
                                                      {"uvicorn_log_level", "log_level"},
                                                      {"show_hidden_metrics_for_version", "enable_metrics"}};

struct Value {
  const std::string& key;
  const NodePtr& node;
  std::string text() const { return python_str(*node); }
  [[noreturn]] void refuse(const std::string& expected) const {
    const std::string where = describe(node->origin);
    fail(ErrorKind::kConfig, "{}{}engine argument {} is '{}': llama.cpp takes {}", where,
         where.empty() ? "" : ": ", key, text(), expected);
  }
};

// 4k is 4000, 4K is 4096.
void context_size(const Value& value, Node& out) {
  std::string text = value.text();
  int64_t unit = 1, number = 0;
  if (!text.empty() && (text.back() == 'k' || text.back() == 'K')) {
    unit = text.back() == 'k' ? 1000 : 1024;
    text.pop_back();
  }
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc() || end != text.data() + text.size() || number < 0 || number > (int64_t{1} << 40))
    value.refuse("a count of tokens, as 4096, 4k (4000) or 4K (4096)");
  out.set({"ctx_size"}, Node::integer(number * unit));
}

void log_verbosity(const Value& value, Node& out) {
  std::string level = value.text();
  std::transform(level.begin(), level.end(), level.begin(), [](unsigned char c) { return std::tolower(c); });
  const bool talks = level == "debug" || level == "info";
  if (!talks && !std::set<std::string>{"warning", "error", "critical", "trace"}.contains(level))
    value.refuse("debug, info, warning, error, critical or trace");
  out.set({"log_verbosity"}, Node::integer(talks ? 1 : 0));
}

void cache_types(const Value& value, Node& out) {
  static const std::set<std::string> kTypes{"f32",  "f16",    "bf16", "q8_0", "q4_0",
                                            "q4_1", "iq4_nl", "q5_0", "q5_1"};
  std::string type = value.text();
  if (type == "fp8" || type == "fp8_e4m3" || type == "fp8_e5m2") type = "q8_0";  // as many bits
  if (!kTypes.contains(type)) value.refuse(fmt::format("{} (fp8 is q8_0)", fmt::join(kTypes, ", ")));
  for (const char* key : {"cache_type_k", "cache_type_v"}) out.set({key}, Node::string(type));
}

void reasoning_format(const Value& value, Node& out) {
  static const std::set<std::string> kNames{"deepseek", "deepseek_r1", "deep-seek", "DeepSeek", "Deep-Seek"};
  if (!kNames.contains(value.text())) value.refuse("deepseek");
  out.set({"reasoning_format"}, Node::string("deepseek"));
}

void rope_scaling(const Value& value, Node& out) {
  const NodePtr given =
      value.node->kind == Kind::kString ? config::parse_yaml(value.node->text, value.key) : value.node;
  const NodePtr type = given->kind == Kind::kMap ? given->find({"rope_type"}) : nullptr;
  const NodePtr factor = given->kind == Kind::kMap ? given->find({"factor"}) : nullptr;
  if (!type || !factor || !std::set<std::string>{"none", "linear", "yarn"}.contains(python_str(*type)))
    value.refuse("a mapping with rope_type (none, linear or yarn) and factor");
  out.set({"rope_scaling"}, type->copy());
  out.set({"rope_scale"}, factor->copy());
}

// vLLM takes several names, one word each; here they are one word.
void alias(const Value& value, Node& out) {
  std::string names;
  for (const NodePtr& name : value.node->items) names += (names.empty() ? "" : ",") + python_str(*name);
  out.set({"alias"}, Node::string(value.node->kind == Kind::kList ? names : value.text()));
}

// vLLM's value is true in FlagScale's files and a version in its own manual; here it is a flag alone.
void metrics(const Value& value, Node& out) {
  out.set({"metrics"}, Node::boolean(value.node->kind != Kind::kBool || value.node->flag));
}

// A folder is its first .gguf file, in the order of names, that of a split model's first part.
void gguf_file(const Value& value, Node& out) {
  const fs::path path = value.text();
  std::error_code none;
  std::vector<std::string> files;
  if (fs::is_directory(path, none))
    for (const auto& entry : fs::recursive_directory_iterator(path, none)) {
      std::string end = entry.path().extension().string();
      std::transform(end.begin(), end.end(), end.begin(), [](unsigned char c) { return std::tolower(c); });
      if (end == ".gguf") files.push_back(entry.path().string());
    }
  std::sort(files.begin(), files.end());
  out.set({"model"}, Node::string(files.empty() ? path.string() : files[0]));
}

const std::map<std::string, void (*)(const Value&, Node&)> kLlamaCppValues{
    {"max_model_len", &context_size}, {"uvicorn_log_level", &log_verbosity},
    {"kv_cache_dtype", &cache_types}, {"reasoning_parser", &reasoning_format},
    {"rope_scaling", &rope_scaling},  {"model", &gguf_file},
    {"served_model_name", &alias},    {"show_hidden_metrics_for_version", &metrics}};

}  // namespace

NodePtr translated(const Node& arguments, Dialect dialect) {
  const auto& names = dialect == Dialect::kLlamaCpp ? kLlamaCppNames : kSglangNames;
  const NodePtr out = Node::map();
  for (const Entry& entry : arguments.entries) {
    std::string key = entry.key.text;
    std::replace(key.begin(), key.end(), '-', '_');
    const auto renamed = names.find(key);
    const auto converter = kLlamaCppValues.find(key);
    if (renamed != names.end())
      out->set({renamed->second}, entry.value->copy());
    else if (dialect == Dialect::kLlamaCpp && converter != kLlamaCppValues.end() &&
             entry.value->kind != Kind::kNull)
      converter->second({key, entry.value}, *out);
    else
      out->set({key}, entry.value->copy());
  }
  return out;
}

}  // namespace flagscale::launch
