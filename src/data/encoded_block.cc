#include "data/encoded_block.h"

#include <utility>

#include "base/error.h"

namespace flagscale::data {
namespace {

constexpr size_t kLongestReason = 1000;  // bytes: a template may put a whole message into its own

void append_document(const PreprocessOptions& options, const Encoder& encode, const Document& document,
                     size_t key, Encoded::Key& out) {
  const size_t first = out.lengths.size();
  for (const std::string_view piece : document.texts[key]) {
    const size_t before = out.tokens.size();
    encode(piece, out.tokens);
    if (out.tokens.size() > before) out.lengths.push_back(static_cast<int32_t>(out.tokens.size() - before));
  }
  if (options.append_eod && out.lengths.size() > first) {
    out.tokens.push_back(options.eod);
    ++out.lengths.back();
  }
  out.sequences.push_back(static_cast<int32_t>(out.lengths.size() - first));
}

// The record's text and its mask, as two keys.
void append_conversation(const PreprocessOptions& options, const Document& document, Encoded& out) {
  const EncodedConversation encoded =
      options.conversations->encode(parse_conversation(document.texts[0][0], options.conversation_format));
  for (const std::string& words : encoded.notes) {
    Encoded::Note& note = out.notes[words];
    if (note.count++ == 0) note.line = document.line;
  }
  for (const auto& [key, values] : {std::pair{&out.keys[0], &encoded.ids}, {&out.keys[1], &encoded.mask}}) {
    key->tokens.insert(key->tokens.end(), values->begin(), values->end());
    key->lengths.push_back(static_cast<int32_t>(values->size()));
    key->sequences.push_back(1);
  }
}

// Encodes all keys of a document or, when one of them fails, none.
std::string encode_document(const PreprocessOptions& options, const Encoder& encode, const Document& document,
                            Encoded& out) {
  std::vector<std::pair<size_t, size_t>> before;
  for (const auto& key : out.keys) before.emplace_back(key.tokens.size(), key.lengths.size());
  try {
    if (options.conversations)
      append_conversation(options, document, out);
    else
      for (size_t k = 0; k < out.keys.size(); ++k) append_document(options, encode, document, k, out.keys[k]);
  } catch (const Error& error) {
    if (error.kind() != ErrorKind::kInvalidArgument) throw;  // no fault of the record's
    for (size_t k = 0; k < out.keys.size(); ++k) {
      out.keys[k].tokens.resize(before[k].first);
      out.keys[k].lengths.resize(before[k].second);
      out.keys[k].sequences.resize(static_cast<size_t>(out.documents));
    }
    return std::string(error.what()).substr(0, kLongestReason);
  }
  ++out.documents;
  return {};
}

}  // namespace

Encoded encode_block(const PreprocessOptions& options, DocumentParser& parser, const Encoder& encode,
                     const Block& block) {
  Encoded out;
  out.begin = block.begin;
  out.end = block.end;
  out.keys.resize(options.keys.size());
  const auto broken = [&](int64_t line, const std::string& why) {
    out.broken.push_back({line, why});
    return options.skip_broken;
  };
  bool stopped = false;
  parser.parse(
      block,
      [&](const Document& document) {
        if (stopped) return;
        const std::string why = encode_document(options, encode, document, out);
        if (!why.empty()) stopped = !broken(document.line, why);
      },
      [&](int64_t line, const std::string& why) { return !stopped && broken(line, why); });
  return out;
}

}  // namespace flagscale::data
