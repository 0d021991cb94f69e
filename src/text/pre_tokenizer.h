#pragma once
// Pre-tokenizers of byte-level BPE: they cut text into words, inside which pairs are merged. Each is one that
// Hugging Face files spell as regular expressions; here they are scanners (scanners.h) that give the same
// words.

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace flagscale::text {

enum class PreTokenizer : uint8_t {
  kGpt2,        // GPT-2, Aquila, StarCoder without digits
  kGpt2Digits,  // every digit apart, then GPT-2: SmolLM2, StarCoder
  kLlama3,      // numbers of up to three digits
  kQwen2,       // numbers of one digit
  kQwen35,      // the same, marks belong to letters
  kDeepSeek3,   // DeepSeek-V3, R1
  kNone,        // the whole text is one word
};

// How a tokenizer.json says it: one piece of its "pre_tokenizer".
struct PreTokenizerStep {
  enum Kind { kSplit, kDigits, kByteLevel } kind;
  std::string regex = {};     // kSplit: isolated matches
  bool use_regex = false;     // kByteLevel: GPT-2's own expression
  bool prefix_space = false;  // kByteLevel
};

// nullopt: steps that no scanner here stands for. Prefix spaces are the caller's.
std::optional<PreTokenizer> find_pre_tokenizer(const std::vector<PreTokenizerStep>& steps);
std::vector<PreTokenizerStep> pre_tokenizer_steps(PreTokenizer kind);

// "gpt2", "smollm", "llama3", "qwen2", "qwen35", "deepseek3", "none"
const char* name(PreTokenizer kind);
std::optional<PreTokenizer> pre_tokenizer_by_name(std::string_view name);

// Calls word(begin, end) for every word of the UTF-8 text in order; they cover it.
template <class F>
void for_each_word(PreTokenizer kind, std::string_view text, F&& word);

std::vector<std::string_view> words(PreTokenizer kind, std::string_view text);

}  // namespace flagscale::text
