#include <simdjson.h>

#include <unordered_set>

#include "base/error.h"
#include "text/bpe_json.h"
#include "text/byte_alphabet.h"
#include "text/normalize.h"
#include "text/sentencepiece_file.h"
#include "text/unicode.h"

namespace flagscale::text {
namespace {

using simdjson::dom::array;
using simdjson::dom::element;
using simdjson::dom::object;

// Thrown inside this file only: the crate shall have this one.
struct NotOurs {
  std::string why;
};

bool absent(element value) { return value.is_null(); }

// A member, or null.
element member(object value, std::string_view key) {
  static simdjson::dom::parser parser;
  static const element null = parser.parse("null", 4).value();
  element found;
  return value[key].get(found) == simdjson::SUCCESS ? found : null;
}

std::string_view text_of(element value) {
  std::string_view text;
  if (value.get(text) != simdjson::SUCCESS) return {};
  return text;
}

bool flag(object value, std::string_view key, bool fallback = false) {
  bool result = fallback;
  const element found = member(value, key);
  if (absent(found)) return fallback;
  if (found.get(result) != simdjson::SUCCESS) throw NotOurs{std::string(key) + " is not true or false"};
  return result;
}

object need_object(element value, const char* what) {
  object result;
  if (value.get(result) != simdjson::SUCCESS) throw NotOurs{std::string(what) + " is not an object"};
  return result;
}

array need_array(element value, const char* what) {
  array result;
  if (value.get(result) != simdjson::SUCCESS) throw NotOurs{std::string(what) + " is not a list"};
  return result;
}

int32_t need_id(element value, const char* what) {
  uint64_t id;
  if (value.get(id) != simdjson::SUCCESS || id > kMaxTokenId)
    throw NotOurs{std::string(what) + " is not a token id"};
  return static_cast<int32_t>(id);
}

class Reader {
 public:
  Reader(object root, const std::string& source) : root_(root), source_(source) {}

  BpeSpec read() {
    read_normalizer(member(root_, "normalizer"));
    read_metaspace(member(root_, "pre_tokenizer"));
    if (spec_.characters && spec_.nfc) throw NotOurs{"NFC beside spaces that are replaced"};
    if (!spec_.characters) read_pre_tokenizer(member(root_, "pre_tokenizer"));
    read_model(need_object(member(root_, "model"), "model"));
    read_added(member(root_, "added_tokens"));
    read_post_processor(member(root_, "post_processor"));
    const object decoder = need_object(member(root_, "decoder"), "decoder");
    if (spec_.characters)
      read_character_decoder(decoder);
    else if (text_of(member(decoder, "type")) != "ByteLevel")
      throw NotOurs{"the decoder is not ByteLevel"};
    return std::move(spec_);
  }

 private:
  void read_normalizer(element value) {
    if (absent(value)) return;
    const object normalizer = need_object(value, "normalizer");
    const std::string_view type = text_of(member(normalizer, "type"));
    if (type == "NFC") {
      spec_.nfc = true;
    } else if (type == "Sequence") {
      for (const element each : need_array(member(normalizer, "normalizers"), "normalizers"))
        read_normalizer(each);
    } else if (type == "Prepend" && text_of(member(normalizer, "prepend")) == kSpaceSymbol &&
               !spec_.characters) {
      spec_.prefix_space = spec_.prefix_always = true;
    } else if (type == "Replace" && replaces(normalizer, " ", kSpaceSymbol)) {
      spec_.characters = true;
    } else {
      throw NotOurs{"the normalizer is " + std::string(type)};
    }
  }

  // Replaces spaces, as the normalizer does in other files.
  void read_metaspace(element value) {
    if (absent(value)) return;
    const object metaspace = need_object(value, "pre_tokenizer");
    if (spec_.characters) throw NotOurs{"spaces are replaced before a pre-tokenizer"};
    if (text_of(member(metaspace, "type")) != "Metaspace") return;
    const std::string_view scheme = text_of(member(metaspace, "prepend_scheme"));
    if (text_of(member(metaspace, "replacement")) != kSpaceSymbol || flag(metaspace, "split", true) ||
        spec_.prefix_space || (scheme != "always" && scheme != "first" && scheme != "never"))
      throw NotOurs{"its Metaspace"};
    spec_.characters = true;
    spec_.prefix_space = scheme != "never";
    spec_.prefix_once = scheme == "first";
  }

  static bool replaces(object value, std::string_view from, std::string_view to) {
    const object pattern = need_object(member(value, "pattern"), "pattern");
    return text_of(member(pattern, "String")) == from && text_of(member(value, "content")) == to;
  }

  // ▁ to spaces, bytes to characters, and the first space goes if one was put there.
  void read_character_decoder(object decoder) const {
    std::string steps;
    for (const element each : need_array(member(decoder, "decoders"), "decoders")) {
      const object step = need_object(each, "a decoder");
      const std::string_view type = text_of(member(step, "type"));
      uint64_t start = 0, stop = 1;
      if (type == "Replace" && !replaces(step, kSpaceSymbol, " ")) throw NotOurs{"its decoder"};
      if (type == "Strip" &&
          (text_of(member(step, "content")) != " " || member(step, "start").get(start) != simdjson::SUCCESS ||
           start != 1 || member(step, "stop").get(stop) != simdjson::SUCCESS || stop != 0))
        throw NotOurs{"its decoder"};
      steps.append(type).append(" ");
    }
    if (steps != (spec_.prefix_space ? "Replace ByteFallback Fuse Strip " : "Replace ByteFallback Fuse "))
      throw NotOurs{"its decoder"};
  }

  void read_pre_tokenizer(element value) {
    if (absent(value)) throw NotOurs{"there is no pre-tokenizer"};
    std::vector<PreTokenizerStep> steps;
    read_step(need_object(value, "pre_tokenizer"), steps, 0);
    for (const PreTokenizerStep& step : steps) {
      if (step.prefix_space && steps.size() > 1) throw NotOurs{"a prefix space after another step"};
      spec_.prefix_space |= step.prefix_space;
    }
    const auto kind = find_pre_tokenizer(steps);
    if (!kind) throw NotOurs{"its pre-tokenizer has no scanner"};
    spec_.pre = *kind;
  }

  void read_step(object value, std::vector<PreTokenizerStep>& steps, int depth) {
    const std::string_view type = text_of(member(value, "type"));
    if (depth > 4 || steps.size() > 16) throw NotOurs{"a deep pre-tokenizer"};
    if (type == "Sequence") {
      for (const element each : need_array(member(value, "pretokenizers"), "pretokenizers"))
        read_step(need_object(each, "pretokenizers"), steps, depth + 1);
    } else if (type == "ByteLevel") {
      steps.push_back({PreTokenizerStep::kByteLevel, "", flag(value, "use_regex", true),
                       flag(value, "add_prefix_space", true)});
    } else if (type == "Digits" && flag(value, "individual_digits")) {
      steps.push_back({PreTokenizerStep::kDigits, ""});
    } else if (type == "Split" && text_of(member(value, "behavior")) == "Isolated" &&
               !flag(value, "invert")) {
      const object pattern = need_object(member(value, "pattern"), "pattern");
      steps.push_back({PreTokenizerStep::kSplit, std::string(text_of(member(pattern, "Regex")))});
    } else {
      throw NotOurs{"its pre-tokenizer is " + std::string(type)};
    }
  }

  void read_model(object model) {
    if (text_of(member(model, "type")) != "BPE") throw NotOurs{"the model is not BPE"};
    double dropout = 0;
    const element given = member(model, "dropout");
    if (!absent(given) && (given.get(dropout) != simdjson::SUCCESS || dropout != 0)) throw NotOurs{"dropout"};
    for (const char* key : {"continuing_subword_prefix", "end_of_word_suffix"})
      if (!text_of(member(model, key)).empty()) throw NotOurs{key};
    if (flag(model, "byte_fallback") != spec_.characters) throw NotOurs{"byte_fallback"};
    spec_.ignore_merges = flag(model, "ignore_merges");
    read_vocab(need_object(member(model, "vocab"), "vocab"));
    if (spec_.characters) check_characters();
    const bool has_unknown = !spec_.characters && !absent(member(model, "unk_token"));
    for (size_t byte = 0; has_unknown && byte < 256; ++byte)
      if (!spec_.tokens.find(bytes_to_alphabet(std::string(1, static_cast<char>(byte)))))
        throw NotOurs{"unk_token, with a byte that the vocabulary lacks"};
    read_merges(need_array(member(model, "merges"), "merges"));
    if (spec_.characters && spec_.merges.empty()) throw NotOurs{"there are no merges"};
    for (const BpeMerge& merge : spec_.merges)
      if (spec_.characters && (is_byte(merge.left) || is_byte(merge.right))) throw NotOurs{"merges of bytes"};
  }

  bool is_byte(int32_t id) const { return byte_of_piece(spec_.tokens.text(id)) >= 0; }

  void check_characters() const {
    int bytes = 0;
    for (int32_t id = 0; id < spec_.tokens.size(); ++id) {
      if (spec_.tokens.text(id).empty()) throw NotOurs{"ids without a token"};
      bytes += is_byte(id);
    }
    if (bytes != 256 || spec_.ignore_merges || !spec_.tokens.one_to_one()) throw NotOurs{"its vocabulary"};
  }

  void read_vocab(object vocab) {
    TokenTable::Builder builder;
    builder.reserve(vocab.size());
    for (const auto& [key, value] : vocab) {
      uint64_t id;
      if (value.get(id) != simdjson::SUCCESS) throw NotOurs{"an id that is not a number"};
      builder.add(id, key, source_);
    }
    spec_.tokens = builder.build();
    if (!spec_.tokens.unique()) throw NotOurs{"two tokens with one id"};
  }

  void read_merges(array merges) {
    spec_.merges.reserve(merges.size());
    for (const element each : merges) {
      std::string_view left, right;
      std::string_view line;
      if (each.get(line) == simdjson::SUCCESS) {
        const size_t space = line.find(' ');
        if (space == line.npos || line.find(' ', space + 1) != line.npos)
          throw NotOurs{"a merge that is not a pair"};
        left = line.substr(0, space), right = line.substr(space + 1);
      } else {
        const array pair = need_array(each, "a merge");
        if (pair.size() != 2) throw NotOurs{"a merge that is not a pair"};
        left = text_of(pair.at(0)), right = text_of(pair.at(1));
      }
      if (!append_merge(spec_, left, right)) throw NotOurs{"a merge of tokens that the vocabulary lacks"};
    }
  }

  void read_added(element value) {
    if (absent(value)) return;
    std::string storage;
    for (const element each : need_array(value, "added_tokens")) {
      const object token = need_object(each, "an added token");
      if (flag(token, "single_word")) throw NotOurs{"an added token that is single_word"};
      AddedToken added;
      added.id = need_id(member(token, "id"), "an added token");
      added.content = std::string(text_of(member(token, "content")));
      added.special = flag(token, "special");
      added.normalized = flag(token, "normalized");
      added.lstrip = flag(token, "lstrip");
      added.rstrip = flag(token, "rstrip");
      if (spec_.characters && (added.normalized || added.content.find(kSpaceSymbol) != added.content.npos))
        throw NotOurs{"an added token in normalised text"};
      if (added.normalized && spec_.nfc && nfc(added.content, storage) != added.content)
        throw NotOurs{"an added token that is not normalised"};
      spec_.added.push_back(std::move(added));
    }
    if (!added_ids_in_order(spec_)) throw NotOurs{"added tokens with ids of their own"};
  }

  void read_post_processor(element value) {
    if (absent(value)) return;
    const object processor = need_object(value, "post_processor");
    const std::string_view type = text_of(member(processor, "type"));
    if (type == "ByteLevel") return;  // moves offsets only
    if (type == "Sequence") {
      for (const element each : need_array(member(processor, "processors"), "processors"))
        read_post_processor(each);
    } else if (type == "TemplateProcessing") {
      read_template(processor);
    } else {
      throw NotOurs{"the post-processor is " + std::string(type)};
    }
  }

  void read_template(object processor) {
    if (templates_++ > 0) throw NotOurs{"two templates"};
    const object specials = need_object(member(processor, "special_tokens"), "special_tokens");
    bool seen = false;
    for (const element each : need_array(member(processor, "single"), "single")) {
      const object piece = need_object(each, "single");
      if (const element sequence = member(piece, "Sequence"); !absent(sequence)) {
        if (seen || text_of(member(need_object(sequence, "Sequence"), "id")) != "A")
          throw NotOurs{"its template"};
        seen = true;
        continue;
      }
      const object special = need_object(member(piece, "SpecialToken"), "SpecialToken");
      const object entry = need_object(member(specials, text_of(member(special, "id"))), "special_tokens");
      for (const element id : need_array(member(entry, "ids"), "ids"))
        (seen ? spec_.after : spec_.before).push_back(need_id(id, "special_tokens"));
    }
    if (!seen) throw NotOurs{"a template without the text"};
  }

  object root_;
  const std::string& source_;
  BpeSpec spec_;
  int templates_ = 0;
};

}  // namespace

bool added_ids_in_order(const BpeSpec& spec) {
  int32_t next = spec.tokens.count();
  std::unordered_set<std::string_view> seen;
  for (const AddedToken& token : spec.added) {
    if (token.content.empty() || !seen.insert(token.content).second) return false;
    const auto known = spec.tokens.find(token.content);
    if (token.id != (known ? *known : next++)) return false;
  }
  return true;
}

std::optional<BpeSpec> read_bpe_json(const std::string& json, const std::string& source, std::string& why) {
  simdjson::dom::parser parser;
  element root;
  if (const auto error = parser.parse(json).get(root); error != simdjson::SUCCESS)
    fail(ErrorKind::kCorrupt, "{}: {}", source, simdjson::error_message(error));
  object top;
  element model;
  if (root.get(top) != simdjson::SUCCESS || top["model"].get(model) != simdjson::SUCCESS)
    fail(ErrorKind::kCorrupt, "{}: not a tokenizer.json: it has no \"model\"", source);
  try {
    return Reader(top, source).read();
  } catch (const NotOurs& reason) {
    why = reason.why;
    return std::nullopt;
  }
}

}  // namespace flagscale::text
