#pragma once
// Constrained decoding (llguidance): which tokens may come next under a JSON schema, a regular expression or
// a grammar.
//
//   const GrammarVocab vocab(tokenizer, logits, eos);       // once: tens of ms for a large vocabulary
//   auto matcher = vocab.compile("json_schema", schema);    // throws Error{kInvalidArgument}
//   matcher->mask(words);  ...choose a token that is set...  matcher->accept(token);

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "text/tokenizer.h"

struct FsGrammarVocab;
struct FsGrammar;

namespace flagscale::text {

// Where a text stands in its grammar. One thread at a time; clones are independent.
class GrammarMatcher {
 public:
  explicit GrammarMatcher(FsGrammar* handle);
  ~GrammarMatcher();
  GrammarMatcher(const GrammarMatcher&) = delete;
  static int64_t alive();  // all there are, so that a soak can say that none is left behind

  std::unique_ptr<GrammarMatcher> clone() const;

  // Bit i % 32 of words[i / 32] is set where token i may come next; the end token where the text may end.
  // Throws Error{kInvalidArgument} when the grammar needs more work for it than it may.
  void mask(std::span<uint32_t> words);

  // A token whose bit was set. True when nothing but the end may follow.
  bool accept(int32_t token);

 private:
  FsGrammar* handle_;
};

class GrammarVocab {
 public:
  // size: rows of logits, at least the tokenizer's ids; eos: the token that stands for the end of the text.
  GrammarVocab(const Tokenizer& tokenizer, int32_t size, int32_t eos);
  ~GrammarVocab();
  GrammarVocab(const GrammarVocab&) = delete;

  // kind: "json_object", "json_schema", "regex" or "lark". Any thread. Throws Error{kInvalidArgument} for
  // text that is not of its kind or would cost too much.
  std::unique_ptr<GrammarMatcher> compile(std::string_view kind, std::string_view text) const;

  int32_t size() const { return size_; }
  int32_t eos() const { return eos_; }

 private:
  FsGrammarVocab* handle_ = nullptr;
  int32_t size_, eos_;
};

}  // namespace flagscale::text
