#include <algorithm>
#include <cstring>

#include "base/error.h"
#include "text/bpe_encoder.h"
#include "text/bpe_json.h"
#include "text/gguf_vocab.h"
#include "text/rust_tokenizer.h"
#include "text/sentencepiece_encoder.h"
#include "text/tokenizer.h"

namespace flagscale::text {
namespace {

constexpr int64_t kNormal = 1, kUnknown = 2, kControl = 3, kUserDefined = 4, kUnused = 5, kByte = 6;

int64_t type_of(const GgufVocab& vocab, size_t id) { return vocab.types.empty() ? kNormal : vocab.types[id]; }

void check_sizes(const GgufVocab& vocab, const std::string& source) {
  const size_t count = vocab.tokens.size();
  if (count == 0 || count > kMaxTokenId)
    fail(ErrorKind::kCorrupt, "{}: a vocabulary of {} tokens", source, count);
  if ((!vocab.types.empty() && vocab.types.size() != count) ||
      (!vocab.scores.empty() && vocab.scores.size() != count))
    fail(ErrorKind::kCorrupt, "{}: {} tokens, but {} types and {} scores", source, count, vocab.types.size(),
         vocab.scores.size());
  for (const int64_t id : {vocab.bos, vocab.eos, vocab.unk, vocab.pad})
    if (id < -1 || id >= static_cast<int64_t>(count))
      fail(ErrorKind::kCorrupt, "{}: special token {} is beyond the {} tokens", source, id, count);
}

// tokenizer.ggml.pre names whose words a scanner of ours cuts.
struct PreName {
  const char* name;
  PreTokenizer kind;
  bool nfc = false, ignore_merges = false;
};
constexpr PreName kPreNames[] = {
    {"", PreTokenizer::kGpt2},  // files from before the key: Aquila, GPT-NeoX
    {"default", PreTokenizer::kGpt2},
    {"gpt-2", PreTokenizer::kGpt2},
    {"phi-2", PreTokenizer::kGpt2},
    {"mpt", PreTokenizer::kGpt2},
    {"olmo", PreTokenizer::kGpt2},
    {"jais", PreTokenizer::kGpt2},
    {"trillion", PreTokenizer::kGpt2},
    {"smollm", PreTokenizer::kGpt2Digits},
    {"starcoder", PreTokenizer::kGpt2Digits},
    {"refact", PreTokenizer::kGpt2Digits},
    {"command-r", PreTokenizer::kGpt2Digits},
    {"codeshell", PreTokenizer::kGpt2Digits},
    {"exaone", PreTokenizer::kGpt2Digits},
    {"minerva-7b", PreTokenizer::kGpt2Digits},
    {"llama3", PreTokenizer::kLlama3, false, true},
    {"llama-v3", PreTokenizer::kLlama3, false, true},
    {"llama-bpe", PreTokenizer::kLlama3, false, true},
    {"dbrx", PreTokenizer::kLlama3},
    {"smaug-bpe", PreTokenizer::kLlama3},
    {"glm4", PreTokenizer::kLlama3, false, true},
    {"chatglm-bpe", PreTokenizer::kLlama3},
    {"qwen2", PreTokenizer::kQwen2, true},
    {"deepseek-r1-qwen", PreTokenizer::kQwen2, true},
    {"megrez", PreTokenizer::kQwen2, true},
    {"stablelm2", PreTokenizer::kQwen2},
    {"hunyuan", PreTokenizer::kQwen2},
    {"qwen35", PreTokenizer::kQwen35, true},
    {"deepseek-v3", PreTokenizer::kDeepSeek3},
};

PreTokenizerStep split(const char* regex) { return {PreTokenizerStep::kSplit, regex}; }

// And those that the crate cuts, by their expressions; empty: not known.
std::vector<PreTokenizerStep> other_steps(std::string_view name) {
  const PreTokenizerStep bytes{PreTokenizerStep::kByteLevel, "", false};
  if (name == "deepseek-coder")
    return {split("[\r\n]"),       split(R"(\s?\p{L}+)"),
            split(R"(\s?\p{P}+)"), split("[一-龥ࠀ-一가-퟿]+"),
            split(R"(\p{N})"),     bytes};
  if (name == "deepseek-llm")
    return {split("[\r\n]"),
            split("\\s?[A-Za-zµÀ-ÖØ-öø-ƺƼ-ƿǄ-ʓʕ-ʯͰ-ͳͶͷͻ-ͽͿΆΈ-ΊΌΎ-ΡΣ-ϵϷ-ҁҊ-ԯԱ-ՖႠ-ჅᎠ-Ᏽᏸ-ᏽᲐ-"
                  "ᲺᲽ-"
                  "Ჿᴀ-ᴫᵫ-ᵷᵹ-ᶚḀ-"
                  "ἕἘ-Ἕἠ-ὅὈ-Ὅὐ-ὗὙὛὝὟ-\u1f7dᾀ-ᾴᾶ-ᾼ\u1fbeῂ-ῄῆ-ῌῐ-\u1fd3ῖ-\u1fdbῠ-Ῥῲ-ῴῶ-ῼℂℇℊ-ℓℕℙ-ℝℤ\u2126ℨ\u212a"
                  "-ℭℯ-ℴℹℼ-ℿⅅ-ⅉⅎↃↄⰀ-ⱻⱾ-ⳤⳫ-ⳮⳲⳳꙀ-ꙭꚀ-ꚛꜢ-ꝯꝱ-ꞇꞋ-ꞎꭰ-ꮿﬀ-ﬆﬓ-ﬗＡ-Ｚａ-ｚ𐐀-𐑏𐒰-"
                  "𐓓𐓘-"
                  "𐓻𐲀-𐲲𐳀-𐳲𑢠-𑣟𞤀-𞥃]+"),
            split("\\s?[!-/:-~！-／：-～‘-‟　-。]+"),
            split("\\s+$"),
            split("[一-龥ࠀ-一가-퟿]+"),
            {PreTokenizerStep::kDigits},
            bytes};
  if (name == "falcon")
    return {split(R"([\p{P}\$\+<=>\^~\|`]+)"),
            {PreTokenizerStep::kByteLevel, "", true},
            split("[0-9][0-9][0-9]")};
  if (name == "gpt-4o" || name == "llama4")
    return {
        split(
            R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|)"
            R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|)"
            R"(\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+)"),
        bytes};
  if (name == "tekken")
    return {split(R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|)"
                  R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|)"
                  R"(\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+)"),
            bytes};
  return {};
}

void set_pre_tokenizer(BpeSpec& spec, const std::string& pre, const std::string& source) {
  for (const PreName& each : kPreNames) {
    if (pre != each.name) continue;
    spec.pre = each.kind;
    spec.nfc = each.nfc;
    spec.ignore_merges = each.ignore_merges;
    return;
  }
  spec.other_steps = other_steps(pre);
  spec.ignore_merges = pre == "tekken";
  if (spec.other_steps.empty()) {
    std::string known;
    for (const PreName& each : kPreNames)
      if (*each.name) known += std::string(known.empty() ? "" : ", ") + each.name;
    fail(ErrorKind::kUnsupported,
         "{}: the pre-tokenizer '{}' is not known here ({}, deepseek-llm, deepseek-coder, falcon, gpt-4o, "
         "tekken)",
         source, pre, known);
  }
}

BpeSpec bpe_spec(const GgufVocab& vocab, const std::string& source) {
  BpeSpec spec;
  set_pre_tokenizer(spec, vocab.pre, source);
  TokenTable::Builder builder;
  builder.reserve(vocab.tokens.size());
  for (size_t id = 0; id < vocab.tokens.size(); ++id) {
    if (type_of(vocab, id) == kUnused) continue;  // rows that pad the embedding
    builder.add(id, vocab.tokens[id], source);
    const bool special = type_of(vocab, id) == kControl || type_of(vocab, id) == kUnknown;
    if (special || type_of(vocab, id) == kUserDefined)
      spec.added.push_back({static_cast<int32_t>(id), std::string(vocab.tokens[id]), special});
  }
  spec.tokens = builder.build();
  for (const std::string_view line : vocab.merges) {
    const size_t space = line.find(' ', 1);
    if (space == line.npos)
      fail(ErrorKind::kCorrupt, "{}: the merge '{}' is not a pair", source, line.substr(0, 80));
    const std::string_view left = line.substr(0, space), right = line.substr(space + 1);
    append_merge(spec, left, right);
  }
  if (vocab.add_bos && vocab.bos >= 0) spec.before.push_back(static_cast<int32_t>(vocab.bos));
  if (vocab.add_eos && vocab.eos >= 0) spec.after.push_back(static_cast<int32_t>(vocab.eos));
  return spec;
}

// Just enough of protobuf's wire format to write a SentencePiece model.
class Proto {
 public:
  void number(uint32_t field, uint64_t value) {
    varint(field << 3);
    varint(value);
  }
  void text(uint32_t field, std::string_view value) {
    varint(field << 3 | 2);
    varint(value.size());
    bytes_ += value;
  }
  void real(uint32_t field, float value) {
    varint(field << 3 | 5);
    bytes_.append(reinterpret_cast<const char*>(&value), sizeof value);
  }
  const std::string& bytes() const { return bytes_; }

 private:
  void varint(uint64_t value) {
    for (; value >= 0x80; value >>= 7) bytes_ += static_cast<char>(value | 0x80);
    bytes_ += static_cast<char>(value);
  }
  std::string bytes_;
};

void check_model(const GgufVocab& vocab, const std::string& source) {
  if (vocab.model != "gpt2" && vocab.model != "llama")
    fail(ErrorKind::kUnsupported,
         "{}: its tokenizer is '{}'; 'gpt2' (byte-level BPE) and 'llama' (SentencePiece) are read", source,
         vocab.model);
  check_sizes(vocab, source);
}

}  // namespace

std::string tokenizer_json(const GgufVocab& vocab, const std::string& source) {
  check_model(vocab, source);
  return vocab.model == "gpt2" ? write_bpe_json(bpe_spec(vocab, source)) : "";
}

// Field numbers are those of sentencepiece_model.proto.
std::string sentencepiece_model(const GgufVocab& vocab, const std::string& source) {
  check_model(vocab, source);
  if (vocab.scores.empty())
    fail(ErrorKind::kCorrupt, "{}: a SentencePiece vocabulary without scores", source);
  Proto model, trainer, normalizer;
  int64_t unknown = vocab.unk, bytes = 0;
  for (size_t id = 0; id < vocab.tokens.size(); ++id) {
    if (type_of(vocab, id) == kUnknown) unknown = static_cast<int64_t>(id);
    bytes += type_of(vocab, id) == kByte;
  }
  if (unknown < 0)
    fail(ErrorKind::kCorrupt, "{}: a SentencePiece vocabulary without an unknown token", source);
  for (size_t id = 0; id < vocab.tokens.size(); ++id) {
    Proto piece;
    piece.text(1, vocab.tokens[id]);
    piece.real(2, static_cast<float>(vocab.scores[id]));
    const int64_t type = static_cast<int64_t>(id) == unknown ? kUnknown : type_of(vocab, id);
    piece.number(
        3, static_cast<uint64_t>(type == kUnknown && static_cast<int64_t>(id) != unknown ? kControl : type));
    model.text(1, piece.bytes());
  }
  trainer.number(3, 2);  // model_type: BPE
  trainer.number(35, bytes == 256);
  const auto special = [&](uint32_t id_field, uint32_t piece_field, int64_t id) {
    trainer.number(id_field, static_cast<uint64_t>(id));
    if (id >= 0) trainer.text(piece_field, vocab.tokens[static_cast<size_t>(id)]);
  };
  special(40, 45, unknown);
  special(41, 46, vocab.bos);
  special(42, 47, vocab.eos);
  special(43, 48, vocab.pad);
  normalizer.text(1, "identity");
  normalizer.number(3, vocab.add_space_prefix);
  normalizer.number(4, 0);  // remove_extra_whitespaces
  normalizer.number(5, 1);  // escape_whitespaces
  model.text(2, trainer.bytes());
  model.text(3, normalizer.bytes());
  return model.bytes();
}

std::unique_ptr<Tokenizer> tokenizer_from_gguf(const GgufVocab& vocab, const std::string& source) {
  check_model(vocab, source);
  TokenizerInfo info{source,
                     static_cast<int32_t>(vocab.bos),
                     static_cast<int32_t>(vocab.eos),
                     static_cast<int32_t>(vocab.pad),
                     static_cast<int32_t>(vocab.unk),
                     std::string(vocab.chat_template)};
  std::unique_ptr<const Encoder> encoder;
  if (vocab.model == "gpt2") {
    BpeSpec spec = bpe_spec(vocab, source);
    const bool ours = spec.other_steps.empty() && spec.tokens.unique();
    encoder = ours ? make_bpe_encoder(std::move(spec)) : make_rust_tokenizer(write_bpe_json(spec));
  } else {
    SentencePieceOptions options{vocab.add_bos, vocab.add_eos, {}};
    for (size_t id = 0; id < vocab.tokens.size(); ++id)
      if (type_of(vocab, id) == kUserDefined)
        options.added.push_back({static_cast<int32_t>(id), std::string(vocab.tokens[id])});
    encoder = make_sentencepiece(sentencepiece_model(vocab, source), options, source).encoder;
  }
  return std::make_unique<Tokenizer>(std::move(encoder), std::move(info));
}

}  // namespace flagscale::text
