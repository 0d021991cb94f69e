#pragma once
// Byte-level BPE from the files of before tokenizer.json: GPT-2's vocab.json and merges.txt, and tiktoken's
// ranks.

#include <string>
#include <string_view>
#include <vector>

#include "text/bpe_model.h"

namespace flagscale::text {

// vocab.json: {"token": id}; merges.txt: "a b" a line, the first merges first, after an optional "#version"
// line. special: tokens that stand apart in text; each must be in the vocabulary, or follows it. Errors:
// kCorrupt with the line.
BpeSpec read_vocab_and_merges(const std::string& vocab_path, const std::string& merges_path,
                              const std::vector<std::string>& special);

// A token a line, as FlagScale's special_tokens_file; the trailing line end makes no token.
std::vector<std::string> read_special_tokens(const std::string& path);

// A base64 token and its rank a line. The rank is the id, and the order of merging. Which expression cuts
// words is told by the number of ranks (Qwen, LLaMA-3, cl100k, GPT-2). Errors: kCorrupt; kUnsupported for
// another number.
BpeSpec read_tiktoken(std::string_view text, const std::string& source);
bool looks_like_tiktoken(std::string_view text);

}  // namespace flagscale::text
