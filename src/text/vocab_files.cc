#include "text/vocab_files.h"

#include <simdjson.h>

#include <algorithm>
#include <charconv>
#include <functional>

#include "base/error.h"
#include "text/byte_alphabet.h"
#include "text/files.h"

namespace flagscale::text {
namespace {

// Calls line(text, number from 1) for each line, without its line end.
void for_each_line(std::string_view text, const std::function<void(std::string_view, int64_t)>& line) {
  for (int64_t number = 1; !text.empty(); ++number) {
    const size_t stop = std::min(text.find('\n'), text.size());
    std::string_view one = text.substr(0, stop);
    if (one.ends_with('\r')) one.remove_suffix(1);
    line(one, number);
    text.remove_prefix(std::min(stop + 1, text.size()));
  }
}

TokenTable read_vocab(const std::string& path) {
  simdjson::dom::parser parser;
  simdjson::dom::object vocab;
  const std::string text = read_text_file(path);
  if (const auto error = parser.parse(text).get(vocab); error != simdjson::SUCCESS)
    fail(ErrorKind::kCorrupt, "{}: expected an object of tokens and ids: {}", path,
         simdjson::error_message(error));
  TokenTable::Builder builder;
  for (const auto& [token, value] : vocab) {
    uint64_t id;
    if (value.get(id) != simdjson::SUCCESS)
      fail(ErrorKind::kCorrupt, "{}: the id of '{}' is not a number", path, token);
    builder.add(id, token, path);
  }
  TokenTable table = builder.build();
  if (!table.unique()) fail(ErrorKind::kCorrupt, "{}: two tokens have the same id", path);
  return table;
}

void read_merges(const std::string& path, BpeSpec& spec) {
  const std::string text = read_text_file(path);
  if (text.empty()) fail(ErrorKind::kCorrupt, "{}: the file of merges is empty", path);
  for_each_line(text, [&](std::string_view line, int64_t number) {
    if (line.empty() || (number == 1 && line.starts_with("#version"))) return;
    const size_t space = line.find(' ');
    if (space == line.npos || line.find(' ', space + 1) != line.npos)
      fail(ErrorKind::kCorrupt, "{}:{}: expected two tokens, found '{}'", path, number, line.substr(0, 80));
    if (!append_merge(spec, line.substr(0, space), line.substr(space + 1)))
      fail(ErrorKind::kCorrupt, "{}:{}: '{}' joins tokens that the vocabulary lacks: is it of another model?",
           path, number, line.substr(0, 80));
  });
}

// nullopt for what is not base64.
std::optional<std::string> from_base64(std::string_view text) {
  constexpr std::string_view kDigits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  while (text.ends_with('=')) text.remove_suffix(1);
  std::string bytes;
  uint32_t bits = 0;
  int count = 0;
  for (const char c : text) {
    const size_t digit = kDigits.find(c);
    if (digit == kDigits.npos) return std::nullopt;
    bits = bits << 6 | static_cast<uint32_t>(digit);
    count += 6;
    if (count >= 8) bytes += static_cast<char>(bits >> (count -= 8) & 0xff);
  }
  return bytes;
}

struct Ranked {
  std::string bytes;
  int64_t rank;
};

std::optional<Ranked> ranked_line(std::string_view line) {
  const size_t space = line.find(' ');
  if (space == line.npos || space == 0) return std::nullopt;
  const auto bytes = from_base64(line.substr(0, space));
  int64_t rank = -1;
  const std::string_view number = line.substr(space + 1);
  const auto [end, error] = std::from_chars(number.data(), number.data() + number.size(), rank);
  if (!bytes || bytes->empty() || error != std::errc() || end != number.data() + number.size() || rank < 0)
    return std::nullopt;
  return Ranked{*bytes, rank};
}

PreTokenizer tiktoken_words(int32_t ranks, const std::string& source) {
  switch (ranks) {
    case 50256:
    case 50257:
    case 50280:
      return PreTokenizer::kGpt2;
    case 100256:  // cl100k's expression gives the words of LLaMA-3's
    case 128000:
      return PreTokenizer::kLlama3;
    case 151643:
      return PreTokenizer::kQwen2;
    default:
      fail(ErrorKind::kUnsupported,
           "{}: {} ranks: which expression cuts the words is known for Qwen (151643), LLaMA-3 (128000), "
           "cl100k (100256) "
           "and GPT-2 (50256); use the model's tokenizer.json",
           source, ranks);
  }
}

}  // namespace

std::vector<std::string> read_special_tokens(const std::string& path) {
  std::vector<std::string> tokens;
  const std::string text = read_text_file(path);
  for_each_line(text, [&](std::string_view line, int64_t) {
    if (!line.empty()) tokens.emplace_back(line);
  });
  return tokens;
}

BpeSpec read_vocab_and_merges(const std::string& vocab_path, const std::string& merges_path,
                              const std::vector<std::string>& special) {
  BpeSpec spec;
  spec.tokens = read_vocab(vocab_path);
  read_merges(merges_path, spec);
  int32_t next = spec.tokens.size();
  for (const std::string& token : special) {
    const auto known = spec.tokens.find(token);
    spec.added.push_back({known ? *known : next++, token, true});
  }
  return spec;
}

bool looks_like_tiktoken(std::string_view text) {
  const std::string_view line = text.substr(0, std::min(text.find('\n'), text.size()));
  return line.size() < 200 &&
         ranked_line(line.ends_with('\r') ? line.substr(0, line.size() - 1) : line).has_value();
}

BpeSpec read_tiktoken(std::string_view text, const std::string& source) {
  BpeSpec spec;
  TokenTable::Builder builder;
  for_each_line(text, [&](std::string_view line, int64_t number) {
    if (line.empty()) return;
    const auto entry = ranked_line(line);
    if (!entry)
      fail(ErrorKind::kCorrupt, "{}:{}: expected a base64 token and its rank, found '{}'", source, number,
           line.substr(0, 80));
    builder.add(static_cast<uint64_t>(entry->rank), bytes_to_alphabet(entry->bytes), source);
  });
  spec.tokens = builder.build();
  if (!spec.tokens.unique() || spec.tokens.count() != spec.tokens.size())
    fail(ErrorKind::kCorrupt, "{}: the ranks are not 0, 1, 2, ... each once", source);
  spec.pre = tiktoken_words(spec.tokens.size(), source);
  // Any two neighbours that make a token are joined, the lowest rank first: every way to cut a token is a
  // merge.
  for (int32_t id = 0; id < spec.tokens.size(); ++id) {
    const std::string_view token = spec.tokens.text(id);
    for (size_t cut = 1; cut < token.size(); ++cut) {
      if ((token[cut] & 0xc0) == 0x80) continue;  // inside a character of the alphabet
      const auto left = spec.tokens.find(token.substr(0, cut)), right = spec.tokens.find(token.substr(cut));
      if (left && right) spec.merges.push_back({*left, *right, id, id});
    }
  }
  spec.ignore_merges = true;
  return spec;
}

}  // namespace flagscale::text
