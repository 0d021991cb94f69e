#include "text/number_encoder.h"

#include <algorithm>
#include <charconv>

#include "base/error.h"

namespace flagscale::text {
namespace {

class NumberEncoder : public Encoder {
 public:
  explicit NumberEncoder(int32_t vocab_size) : vocab_size_(vocab_size) {}

  void encode(std::string_view text, bool, std::vector<int32_t>& ids) const override {
    constexpr std::string_view kWhite = " \t\r\n\v\f";
    for (size_t at = text.find_first_not_of(kWhite); at != text.npos;
         at = text.find_first_not_of(kWhite, at)) {
      const size_t stop = std::min(text.find_first_of(kWhite, at), text.size());
      const std::string_view word = text.substr(at, stop - at);
      const auto id = token_to_id(word);
      if (!id)
        fail(ErrorKind::kInvalidArgument,
             "'{}' is not a token id from 0 to {}: NullTokenizer reads numbers only", word.substr(0, 40),
             vocab_size_);
      ids.push_back(*id);
      at = stop;
    }
  }

  std::string decode(std::span<const int32_t> ids, bool) const override {
    std::string text;
    for (const int32_t id : ids) {
      if (id < 0 || id > vocab_size_) continue;
      if (!text.empty()) text += ' ';
      text += std::to_string(id);
    }
    return text;
  }

  int32_t vocab_size() const override { return vocab_size_ + 1; }
  std::string id_to_token(int32_t id) const override {
    return id < 0 || id > vocab_size_ ? "" : std::to_string(id);
  }
  std::optional<int32_t> token_to_id(std::string_view token) const override {
    int32_t id = -1;
    const auto [end, error] = std::from_chars(token.data(), token.data() + token.size(), id);
    if (error != std::errc() || end != token.data() + token.size() || id < 0 || id > vocab_size_)
      return std::nullopt;
    return id;
  }
  bool is_special(int32_t) const override { return false; }
  std::optional<std::string> token_bytes(int32_t, bool) const override { return std::nullopt; }
  const char* kind() const override { return "numbers"; }

 private:
  int32_t vocab_size_;
};

}  // namespace

std::unique_ptr<const Encoder> make_number_encoder(int32_t vocab_size) {
  return std::make_unique<NumberEncoder>(vocab_size);
}

}  // namespace flagscale::text
