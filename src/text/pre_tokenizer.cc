#include "text/pre_tokenizer.h"

#include "text/scanners.h"

namespace flagscale::text {
namespace {

constexpr char kGpt2Regex[] = R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";
constexpr char kLlama3Regex[] =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr char kQwen2Regex[] =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr char kQwen35Regex[] =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr char kNumbersOfThree[] = R"(\p{N}{1,3})";
constexpr char kChineseAndKana[] = "[一-龥぀-ゟ゠-ヿ]+";
// DeepSeek's file holds the line ends themselves.
constexpr char kDeepSeek3Regex[] =
    "[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|[^\r\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+| "
    "?[\\p{P}\\p{S}]+[\r\n]*|\\s*[\r\n]+|\\s+(?!\\S)|\\s+";

PreTokenizerStep split(const char* regex) { return {PreTokenizerStep::kSplit, regex}; }
PreTokenizerStep byte_level(bool use_regex) { return {PreTokenizerStep::kByteLevel, "", use_regex}; }

bool same(const PreTokenizerStep& a, const PreTokenizerStep& b) {
  return a.kind == b.kind && a.regex == b.regex && a.use_regex == b.use_regex;
}

struct Named {
  PreTokenizer kind;
  const char* name;
};
constexpr Named kAll[] = {
    {PreTokenizer::kGpt2, "gpt2"},     {PreTokenizer::kGpt2Digits, "smollm"},
    {PreTokenizer::kLlama3, "llama3"}, {PreTokenizer::kQwen2, "qwen2"},
    {PreTokenizer::kQwen35, "qwen35"}, {PreTokenizer::kDeepSeek3, "deepseek3"},
    {PreTokenizer::kNone, "none"},
};

}  // namespace

std::vector<PreTokenizerStep> pre_tokenizer_steps(PreTokenizer kind) {
  switch (kind) {
    case PreTokenizer::kGpt2:
      return {byte_level(true)};
    case PreTokenizer::kGpt2Digits:
      return {{PreTokenizerStep::kDigits}, byte_level(true)};
    case PreTokenizer::kLlama3:
      return {split(kLlama3Regex), byte_level(false)};
    case PreTokenizer::kQwen2:
      return {split(kQwen2Regex), byte_level(false)};
    case PreTokenizer::kQwen35:
      return {split(kQwen35Regex), byte_level(false)};
    case PreTokenizer::kDeepSeek3:
      return {split(kNumbersOfThree), split(kChineseAndKana), split(kDeepSeek3Regex), byte_level(false)};
    case PreTokenizer::kNone:
      return {byte_level(false)};
  }
  return {};
}

std::optional<PreTokenizer> find_pre_tokenizer(const std::vector<PreTokenizerStep>& steps) {
  for (const Named& each : kAll) {
    const auto known = pre_tokenizer_steps(each.kind);
    bool equal = known.size() == steps.size();
    for (size_t i = 0; equal && i < known.size(); ++i) equal = same(known[i], steps[i]);
    if (equal) return each.kind;
  }
  // GPT-2's expression spelt out, as tiktoken conversions do.
  if (steps.size() == 2 && same(steps[0], split(kGpt2Regex)) && same(steps[1], byte_level(false)))
    return PreTokenizer::kGpt2;
  return std::nullopt;
}

const char* name(PreTokenizer kind) {
  for (const Named& each : kAll)
    if (each.kind == kind) return each.name;
  return "";
}

std::optional<PreTokenizer> pre_tokenizer_by_name(std::string_view name) {
  for (const Named& each : kAll)
    if (each.name == name) return each.kind;
  return std::nullopt;
}

std::vector<std::string_view> words(PreTokenizer kind, std::string_view text) {
  std::vector<std::string_view> result;
  for_each_word(kind, text, [&](const char* begin, const char* end) {
    result.emplace_back(begin, static_cast<size_t>(end - begin));
  });
  return result;
}

}  // namespace flagscale::text
