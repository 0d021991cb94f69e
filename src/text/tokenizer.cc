#include "text/tokenizer.h"

#include <algorithm>
#include <utility>

#include "base/error.h"
#include "text/unicode.h"

namespace flagscale::text {
namespace {

constexpr std::string_view kReplacement = "\xef\xbf\xbd";  // U+FFFD

// The last few ids of a context, and more where those start inside a character.
std::vector<int32_t> last_of(const Tokenizer& tokenizer, std::span<const int32_t> context,
                             bool skip_special) {
  constexpr size_t kFew = 8, kMost = 256;
  size_t kept = std::min(kFew, context.size());
  while (kept < std::min(kMost, context.size()) &&
         tokenizer.decode(context.last(kept), skip_special).starts_with(kReplacement))
    kept = std::min(kept * 2, context.size());
  const auto ids = context.last(kept);
  return {ids.begin(), ids.end()};
}

}  // namespace

Tokenizer::Tokenizer(std::unique_ptr<const Encoder> encoder, TokenizerInfo info)
    : encoder_(std::move(encoder)), info_(std::move(info)) {
  if (info_.chat_template.empty()) return;
  std::vector<std::pair<std::string, std::string>> variables;
  const auto add = [&](const char* name, int32_t id) {
    if (id >= 0) variables.emplace_back(name, id_to_token(id));
  };
  add("bos_token", info_.bos);
  add("eos_token", info_.eos);
  add("pad_token", info_.pad);
  add("unk_token", info_.unk);
  try {
    template_ = std::make_unique<ChatTemplate>(info_.chat_template, variables);
  } catch (const Error& error) {  // a tokenizer without its template is still of use: said when the template
                                  // is asked for
    template_error_ = error.what();
  }
}

void Tokenizer::encode(std::string_view text, bool add_special, std::vector<int32_t>& ids) const {
  if (const size_t valid = valid_utf8_prefix(text); valid != text.size())
    fail(ErrorKind::kInvalidArgument, "the text is not UTF-8: byte {} is 0x{:02x}", valid,
         static_cast<unsigned>(static_cast<unsigned char>(text[valid])));
  encoder_->encode(text, add_special, ids);
}

std::vector<int32_t> Tokenizer::encode(std::string_view text, bool add_special) const {
  std::vector<int32_t> ids;
  encode(text, add_special, ids);
  return ids;
}

std::string Tokenizer::decode(std::span<const int32_t> ids, bool skip_special) const {
  return encoder_->decode(ids, skip_special);
}

std::string Tokenizer::id_to_token(int32_t id) const { return encoder_->id_to_token(id); }
std::optional<int32_t> Tokenizer::token_to_id(std::string_view token) const {
  return encoder_->token_to_id(token);
}

const ChatTemplate& Tokenizer::chat_template() const {
  if (!template_error_.empty()) fail(ErrorKind::kCorrupt, "{}: {}", info_.source, template_error_);
  if (!template_) fail(ErrorKind::kNotFound, "{}: the tokenizer has no chat template", info_.source);
  return *template_;
}

StreamDecoder::StreamDecoder(const Tokenizer& tokenizer, std::span<const int32_t> context, bool skip_special)
    : tokenizer_(tokenizer), skip_special_(skip_special), at_start_(true) {
  bool by_bytes = true;
  for (size_t i = 0; i < context.size() && at_start_; ++i) {
    const auto bytes = tokenizer_.encoder().token_bytes(context[i], skip_special_);
    by_bytes = bytes.has_value();
    at_start_ = bytes && bytes->empty();  // a bos that is passed over leaves the text at its start
  }
  if (!by_bytes) window_ = last_of(tokenizer, context, skip_special);
  shown_ = window_.size();
}

std::string StreamDecoder::put(int32_t id) {
  const auto bytes = tokenizer_.encoder().token_bytes(id, skip_special_);
  return bytes ? put_bytes(*bytes) : put_in_window(id);
}

// Bytes add up, whatever stands around them: all but an unfinished character can be shown.
std::string StreamDecoder::put_bytes(std::string_view bytes) {
  if (at_start_ && !bytes.empty()) {
    at_start_ = false;
    if (bytes[0] == ' ' && tokenizer_.encoder().drops_first_space()) bytes.remove_prefix(1);
  }
  held_ += bytes;
  const size_t certain = held_.size() - unfinished_utf8_suffix(held_);
  std::string text = utf8_lossy(std::string_view(held_).substr(0, certain));
  held_.erase(0, certain);
  return text;
}

// What an id means depends on its neighbours: the last ids are decoded together, with and without the new
// one. Text that ends in U+FFFD may be an unfinished character.
std::string StreamDecoder::put_in_window(int32_t id) {
  window_.push_back(id);
  const std::string before = tokenizer_.decode(std::span(window_).first(shown_), skip_special_);
  const std::string now = tokenizer_.decode(window_, skip_special_);
  if (now.ends_with(kReplacement) || now.size() <= before.size()) return {};
  window_.erase(window_.begin(), window_.begin() + static_cast<std::ptrdiff_t>(shown_));
  shown_ = window_.size();
  return now.substr(before.size());
}

std::string StreamDecoder::finish() {
  if (!held_.empty()) return utf8_lossy(std::exchange(held_, {}));
  const std::string before = tokenizer_.decode(std::span(window_).first(shown_), skip_special_);
  const std::string now = tokenizer_.decode(window_, skip_special_);
  shown_ = window_.size();
  return now.size() > before.size() ? now.substr(before.size()) : std::string();
}

}  // namespace flagscale::text
