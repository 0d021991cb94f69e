#include "text/grammar.h"

#include <fmt/core.h>

#include <atomic>

#include "base/error.h"
#include "text/rust_library.h"

namespace flagscale::text {

namespace {

std::atomic<int64_t> matchers{0};

std::string special_text(const Tokenizer& tokenizer, int32_t id) {
  return std::string("\xff").append(tokenizer.id_to_token(id));
}

// What a token writes, whatever stands before it; llguidance tells special tokens by a first byte 0xff.
std::string token_text(const Tokenizer& tokenizer, int32_t id) {
  if (id >= tokenizer.vocab_size()) return {};
  if (tokenizer.is_special(id)) return special_text(tokenizer, id);
  if (auto bytes = tokenizer.encoder().token_bytes(id, true)) return std::move(*bytes);
  return tokenizer.decode(std::vector<int32_t>{id});
}

// A grammar that is too much work is the caller's mistake too.
void check_grammar(FsStatus status, const RustBuffer& buffer, std::string_view what) {
  if (status != 0 && buffer.view().find("NoExtension") != std::string_view::npos)
    fail(ErrorKind::kInvalidArgument, "{}: no text obeys it", what);
  if (status != 0) fail(ErrorKind::kInvalidArgument, "{}: {}", what, buffer.view().substr(0, 500));
}

}  // namespace

GrammarMatcher::GrammarMatcher(FsGrammar* handle) : handle_(handle) { ++matchers; }

GrammarMatcher::~GrammarMatcher() {
  fs_grammar_free(handle_);
  --matchers;
}

int64_t GrammarMatcher::alive() { return matchers; }

std::unique_ptr<GrammarMatcher> GrammarMatcher::clone() const {
  FsGrammar* handle = nullptr;
  RustBuffer error;
  check_grammar(fs_grammar_clone(handle_, &handle, error.out()), error, "grammar");
  return std::make_unique<GrammarMatcher>(handle);
}

void GrammarMatcher::mask(std::span<uint32_t> words) {
  RustBuffer error;
  check_grammar(fs_grammar_mask(handle_, words.data(), words.size(), error.out()), error, "grammar");
}

bool GrammarMatcher::accept(int32_t token) {
  bool ended = false;
  RustBuffer error;
  check_grammar(fs_grammar_accept(handle_, static_cast<uint32_t>(token), &ended, error.out()), error,
                "grammar");
  return ended;
}

GrammarVocab::GrammarVocab(const Tokenizer& tokenizer, int32_t size, int32_t eos) : size_(size), eos_(eos) {
  std::string blob;
  std::vector<uint32_t> offsets{0};
  for (int32_t id = 0; id < size; ++id) {
    // The end token is special to a grammar even where its tokenizer calls it a word.
    blob += id == eos ? special_text(tokenizer, id) : token_text(tokenizer, id);
    offsets.push_back(static_cast<uint32_t>(blob.size()));
  }
  RustBuffer error;
  check_rust(fs_grammar_vocab_new(bytes_of(blob), offsets.data(), static_cast<uint32_t>(size),
                                  static_cast<uint32_t>(eos), &handle_, error.out()),
             error, "the tokenizer's vocabulary", RustFault::kInvalidArgument);
}

GrammarVocab::~GrammarVocab() { fs_grammar_vocab_free(handle_); }

std::unique_ptr<GrammarMatcher> GrammarVocab::compile(std::string_view kind, std::string_view text) const {
  if (kind != "json_object" && kind != "json_schema" && kind != "regex" && kind != "lark")
    fail(ErrorKind::kInvalidArgument,
         "there is no kind of grammar \"{}\": json_object, json_schema, regex and lark are there", kind);
  FsGrammar* handle = nullptr;
  RustBuffer error;
  check_grammar(
      fs_grammar_new(handle_, bytes_of(kind), kind.size(), bytes_of(text), text.size(), &handle, error.out()),
      error, kind);
  return std::make_unique<GrammarMatcher>(handle);
}

}  // namespace flagscale::text
