#include "config/yaml_refusals.h"

#include <algorithm>

#include "config/libyaml.h"

namespace flagscale::config {
namespace {

class Refusals {
 public:
  Refusals(std::string_view text, const std::string& source) : text_(text), parser_(text, source) {}

  void check() {
    for (bool more = true; more;) {
      const yaml_token_t& token = parser_.token();
      check_outside(take_until(token.start_mark.index));
      check_token(token, take_until(token.end_mark.index));
      more = token.type != YAML_STREAM_END_TOKEN;
    }
  }

 private:
  // libyaml counts characters, the text is bytes.
  std::string_view take_until(size_t character) {
    const size_t begin = byte_;
    for (; character_ < character && byte_ < text_.size(); ++character_) do
        ++byte_;
      while (byte_ < text_.size() && (text_[byte_] & 0xc0) == 0x80);
    return text_.substr(begin, byte_ - begin);
  }

  void check_token(const yaml_token_t& token, std::string_view written) {
    switch (token.type) {
      case YAML_FLOW_SEQUENCE_START_TOKEN:
      case YAML_FLOW_MAPPING_START_TOKEN:
        ++flow_level_;
        return;
      case YAML_FLOW_SEQUENCE_END_TOKEN:
      case YAML_FLOW_MAPPING_END_TOKEN:
        --flow_level_;
        return;
      case YAML_VERSION_DIRECTIVE_TOKEN:
      case YAML_TAG_DIRECTIVE_TOKEN:
        return check_outside(written);
      case YAML_KEY_TOKEN:
        return refuse_question_mark(written);
      case YAML_TAG_TOKEN:
        if (text_.substr(byte_).starts_with(',')) stop(byte_, "has a tag without a space after it");
        return;
      case YAML_SCALAR_TOKEN:
        return check_scalar(token.data.scalar.style, written);
      default:
        return;
    }
  }

  void check_scalar(yaml_scalar_style_t style, std::string_view written) {
    if (style == YAML_PLAIN_SCALAR_STYLE) {
      refuse_question_mark(written);
      refuse_tab_or_mark(written);
    } else if (style == YAML_LITERAL_SCALAR_STYLE || style == YAML_FOLDED_SCALAR_STYLE) {
      const size_t end = std::min(written.find_first_not_of("|>+-0123456789"), written.size());
      if (written.substr(end).starts_with('#'))
        stop(written.data() - text_.data(), "has a comment without a space before it");
      check_outside(written.substr(end, written.find_first_of("\r\n", end) - end));
    }
  }

  // What is neither a scalar nor a name: spaces, line breaks, comments, directives.
  void check_outside(std::string_view written) {
    while (!written.empty()) {
      const size_t comment = std::min(written.find('#'), written.size());
      refuse_tab_or_mark(written.substr(0, comment));
      written.remove_prefix(std::min(written.find_first_of("\r\n", comment), written.size()));
    }
  }

  void refuse_tab_or_mark(std::string_view written) {
    const auto found = [&](std::string_view what) {
      return written.data() - text_.data() + written.find(what);
    };
    if (written.find('\t') != written.npos) stop(found("\t"), "has a tab outside quotes; use spaces");
    if (written.find("\ufeff") != written.npos)
      stop(found("\ufeff"), "has a byte order mark (U+FEFF) outside quotes, which may only begin a file");
  }

  // PyYAML takes it for the start of a key, before whatever it stands.
  void refuse_question_mark(std::string_view written) {
    const size_t at = written.find('?');
    if (flow_level_ > 0 && at != written.npos)
      stop(written.data() - text_.data() + at,
           "has a '?' inside [] or {}; quote the text that it belongs to");
  }

  [[noreturn]] void stop(size_t byte, std::string_view what) const {
    const std::string_view before = text_.substr(0, byte);
    parser_.stop(static_cast<size_t>(std::ranges::count(before, '\n')), what);
  }

  const std::string_view text_;
  LibYaml parser_;
  size_t byte_ = 0, character_ = 0;  // where take_until() stands
  int flow_level_ = 0;
};

}  // namespace

void refuse_what_pyyaml_refuses(std::string_view text, const std::string& source) {
  Refusals(text, source).check();
}

}  // namespace flagscale::config
