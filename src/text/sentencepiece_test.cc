// SentencePiece models with every option that changes ids: against the library's own ids, and, on random
// text, against a plain encoder that does what the library's documentation says.

#include <cstring>
#include <limits>
#include <map>
#include <random>

#include "base/error.h"
#include "text/encode_session.h"
#include "text/piece_model.h"
#include "text/sentencepiece_encoder.h"
#include "text/sentencepiece_normalizer.h"
#include "text/text_test_support.h"
#include "text/unicode.h"

namespace flagscale::text {
namespace {

using testing::golden;
using testing::Json;
using Ids = std::vector<int32_t>;

constexpr const char* kKinds[] = {
    "bpe",     "bpe_user",     "bpe_nfkc",       "bpe_suffix",     "bpe_unused",        "bpe_unescaped",
    "unigram", "unigram_user", "unigram_suffix", "unigram_unused", "unigram_unescaped", "char"};

std::string model_file(const std::string& kind) {
  return testing::read(golden("spm_kind_" + kind + ".model"));
}

// FNV-1a, as in make_golden.py.
std::string digest(const Ids& ids) {
  uint64_t value = 0xcbf29ce484222325u;
  for (const int32_t id : ids)
    for (int shift = 0; shift < 32; shift += 8)
      value = (value ^ (static_cast<uint32_t>(id) >> shift & 0xff)) * 0x100000001b3u;
  char text[17];
  snprintf(text, sizeof text, "%016llx", static_cast<unsigned long long>(value));
  return text;
}

class SentencePieceKind : public ::testing::TestWithParam<const char*> {};

TEST_P(SentencePieceKind, GivesTheIdsOfTheLibrary) {
  const Json all = Json::parse(testing::read(golden("spm_kinds.json")));
  const auto encoder = make_sentencepiece(model_file(GetParam()), {}, GetParam()).encoder;
  ImageWriter image;
  ASSERT_TRUE(encoder->put(image));
  const std::string bytes = image.take();
  std::vector<uint64_t> memory(bytes.size() / 8);  // aligned as a mapped file is
  std::memcpy(memory.data(), bytes.data(), bytes.size());
  ImageReader reader(std::as_bytes(std::span(memory)), nullptr);
  const auto mapped = make_sentencepiece(reader);
  ASSERT_TRUE(reader.done());
  const Json& expected = all["models"][GetParam()];
  ASSERT_GT(expected.size(), 150u);
  size_t compared = 0;
  for (size_t i = 0; i < expected.size(); ++i) {
    const auto piece = all["texts"][i][0].get<std::string>();
    if (piece.find("</s>") != piece.npos || piece.find("<s>") != piece.npos) continue;  // tokens to ours
    std::string text;
    for (int times = all["texts"][i][1]; times > 0; --times) text += piece;
    Ids ids;
    encoder->encode(text, false, ids);
    if (expected[i].is_string())
      EXPECT_EQ(digest(ids), expected[i].get<std::string>()) << "text " << i << ", " << ids.size() << " ids";
    else
      EXPECT_EQ(ids, expected[i].get<Ids>()) << Json(text).dump();
    Ids again;
    mapped->encode(text, false, again);
    EXPECT_EQ(again, ids);
    ++compared;
  }
  EXPECT_GT(compared, 140u);
}

INSTANTIATE_TEST_SUITE_P(All, SentencePieceKind, ::testing::ValuesIn(kKinds));

// Normalised text to ids without words, caches or tables: what the library does, as slowly as that takes.
class PlainModel {
 public:
  explicit PlainModel(SentencePieceSpec spec) : spec_(std::move(spec)) {
    for (size_t id = 0; id < spec_.pieces.size(); ++id) {
      if (!spec_.pieces[id].text.empty()) ids_[spec_.pieces[id].text] = static_cast<int32_t>(id);
      if (spec_.pieces[id].type == PieceType::kUnknown) unknown_ = static_cast<int32_t>(id);
    }
  }

  Ids encode(const std::string& text) {
    found_.clear(), after_unknown_ = false;
    if (spec_.algorithm == PieceAlgorithm::kUnigram)
      best_sum(text);
    else
      merges(text);
    return found_;
  }

 private:
  struct Symbol {
    std::string text;
    bool frozen;
  };

  const Piece* piece(const std::string& text) const {
    const auto found = ids_.find(text);
    return found == ids_.end() ? nullptr : &spec_.pieces[static_cast<size_t>(found->second)];
  }
  static bool is_text(const Piece* piece) {
    return piece && (piece->type == PieceType::kNormal || piece->type == PieceType::kUserDefined ||
                     piece->type == PieceType::kUnused);
  }

  void put(const std::string& text) {
    const Piece* found = piece(text);
    const bool known = is_text(found) && found->type != PieceType::kUnused;
    if (known) {
      found_.push_back(ids_.at(text));
    } else if (spec_.byte_fallback) {
      for (const char byte : spec_.escape_spaces&& text == " " ? std::string(kSpaceSymbol) : text) {
        char name[8];
        snprintf(name, sizeof name, "<0x%02X>", static_cast<unsigned>(static_cast<unsigned char>(byte)));
        found_.push_back(ids_.at(name));
      }
    } else if (!after_unknown_) {
      found_.push_back(unknown_);
    }
    after_unknown_ = !known;
  }

  std::vector<Symbol> symbols(const std::string& text) const {
    std::vector<Symbol> result;
    for (size_t at = 0; at < text.size(); at += result.back().text.size()) {
      size_t size = decode_char(text.data() + at).size;
      bool frozen = false;
      for (size_t longer = 1; longer <= std::min<size_t>(text.size() - at, 64); ++longer) {
        const Piece* found = piece(text.substr(at, longer));
        if (found && found->type == PieceType::kUserDefined) size = longer, frozen = true;
      }
      result.push_back({text.substr(at, size), frozen});
    }
    return result;
  }

  // What was first a candidate for an unused piece last is what it is taken apart into: candidates are made
  // when two symbols become neighbours.
  void offer(const Symbol& left, const Symbol& right) {
    const Piece* made = left.frozen || right.frozen ? nullptr : piece(left.text + right.text);
    if (is_text(made) && made->type == PieceType::kUnused) parts_[made->text] = {left.text, right.text};
  }

  void merges(const std::string& text) {
    std::vector<Symbol> all = symbols(text);
    parts_.clear();
    for (size_t i = 0; i + 1 < all.size(); ++i) offer(all[i], all[i + 1]);
    while (spec_.algorithm == PieceAlgorithm::kBpe) {
      const Piece* best = nullptr;
      size_t at = 0;
      for (size_t i = 0; i + 1 < all.size(); ++i) {
        const Piece* made =
            all[i].frozen || all[i + 1].frozen ? nullptr : piece(all[i].text + all[i + 1].text);
        if (is_text(made) && (!best || made->score > best->score)) best = made, at = i;
      }
      if (!best) break;
      all[at].text = best->text;
      all.erase(all.begin() + static_cast<std::ptrdiff_t>(at) + 1);
      if (at > 0) offer(all[at - 1], all[at]);
      if (at + 1 < all.size()) offer(all[at], all[at + 1]);
    }
    for (const Symbol& symbol : all) take_apart(symbol.text);
  }

  void take_apart(const std::string& text) {
    const auto parts = parts_.find(text);
    if (parts == parts_.end()) return put(text);
    const auto [left, right] = parts->second;
    take_apart(left);
    take_apart(right);
  }

  void best_sum(const std::string& text) {
    struct Node {
      float score = 0;
      size_t begin = std::string::npos;
    };
    std::vector<Node> nodes(text.size() + 1);
    float least = std::numeric_limits<float>::max();
    for (const Piece& each : spec_.pieces)
      if (each.type == PieceType::kNormal) least = std::min(least, each.score);
    for (size_t begin = 0; begin < text.size();) {
      const size_t size = decode_char(text.data() + begin).size;
      for (size_t length = 1; length <= std::min<size_t>(text.size() - begin, 64); ++length) {
        const Piece* found = piece(text.substr(begin, length));
        const bool known = is_text(found) && found->type != PieceType::kUnused;
        if (!known && length != size) continue;
        const float score = nodes[begin].score + (known ? found->score : least - 10);
        Node& node = nodes[begin + length];
        if (node.begin == std::string::npos || score > node.score) node = {score, begin};
      }
      begin += size;
    }
    std::vector<std::string> pieces;
    for (size_t end = text.size(); end > 0; end = nodes[end].begin)
      pieces.push_back(text.substr(nodes[end].begin, end - nodes[end].begin));
    for (auto each = pieces.rbegin(); each != pieces.rend(); ++each) put(*each);
  }

  SentencePieceSpec spec_;
  std::map<std::string, int32_t> ids_;
  std::map<std::string, std::pair<std::string, std::string>> parts_;
  int32_t unknown_ = -1;
  Ids found_;
  bool after_unknown_ = false;
};

// Pieces, parts of pieces and characters of every kind in random order: neighbours that make other pieces.
std::string random_text(const SentencePieceSpec& spec, std::mt19937& random) {
  const auto below = [&](size_t count) { return random() % count; };
  std::string text;
  for (size_t words = 1 + below(60); words > 0; --words) {
    std::string piece = spec.pieces[below(spec.pieces.size())].text;
    if (below(4) == 0) piece.resize(below(piece.size() + 1));
    text += piece.empty() ? " " : utf8_lossy(piece);
    if (below(3) == 0) text += ' ';
    if (below(20) == 0) append_utf8(static_cast<uint32_t>(1 + below(0xd7ff)), text);
    if (below(60) == 0) append_utf8(static_cast<uint32_t>(0x10000 + below(0x100000)), text);
  }
  return text;
}

TEST_P(SentencePieceKind, DividesRandomTextAsAPlainEncoderDoes) {
  SentencePieceSpec spec = read_sentencepiece(model_file(GetParam()), GetParam());
  const SentencePieceNormalizer normalizer(spec, GetParam());
  for (Piece& piece : spec.pieces)
    if (!normalizer.to_inner(piece.text)) piece.text.clear();
  const PieceModel model(spec, {}, GetParam());
  PlainModel plain(spec);
  PieceModel::Session session;
  std::mt19937 random(static_cast<uint32_t>(std::hash<std::string>()(GetParam())));
  for (int i = 0; i < 150; ++i) {
    const std::string text = random_text(spec, random);
    Ids ids;
    {
      IdOutput out(ids);
      model.encode(text, session, out);
    }
    ASSERT_EQ(ids, plain.encode(text)) << Json(text).dump();
  }
}

TEST(SentencePiece, RefusesWhatIsNoModel) {
  const auto refused = [](const std::string& file, const char* why) {
    try {
      make_sentencepiece(file, {}, "x.model");
      ADD_FAILURE() << "accepted: " << why;
    } catch (const Error& error) {
      EXPECT_NE(std::string(error.what()).find("x.model"), std::string::npos);
      EXPECT_NE(std::string(error.what()).find(why), std::string::npos) << error.what();
    }
  };
  const std::string whole = model_file("bpe");
  refused("", "0 pieces");
  refused("not a model", "fields end");
  refused(whole.substr(0, whole.size() / 2), "");
  const std::string piece =
      "\x0a\x03\x0a\x01"
      "a";
  refused(piece, "unknown");
  refused(piece + piece, "twice");
  refused(std::string("\x0a\x03\x0a\x01\xff", 5), "UTF-8");
  refused(std::string("\x0a\x02\x0a\x00", 4), "empty");
}

// Rules of normalisation that are changed somewhere: refused, or read without reaching outside.
TEST(SentencePiece, ReadsDamagedRulesSafely) {
  const std::string whole = model_file("unigram");
  const std::string rules = read_sentencepiece(whole, "x.model").charsmap;
  const size_t begin = whole.find(rules);
  ASSERT_NE(begin, whole.npos);
  std::mt19937 random(3);
  int read = 0, refused = 0;
  for (int i = 0; i < 500; ++i) {
    std::string file = whole;
    for (int k = 0; k < 3; ++k) file[begin + random() % rules.size()] = static_cast<char>(random());
    try {
      const auto encoder = make_sentencepiece(file, {}, "x.model").encoder;
      Ids ids;
      for (const char* text :
           {"The  river e\u0301\u0323 \u2460 the re\u0301st \u3000", "\uff71\u2026\x01 \u00bc"})
        encoder->encode(text, true, ids);
      ++read;
    } catch (const Error&) {
      ++refused;
    }
  }
  EXPECT_GT(read, 0);
  EXPECT_GT(refused, 0);
}

}  // namespace
}  // namespace flagscale::text
