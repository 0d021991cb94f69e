#include "train/keys/moe_layers.h"

#include <cctype>

#include "base/error.h"

namespace flagscale::train {
namespace {

// Lists of 0 and 1 with +, * and parentheses.
class Pattern {
 public:
  explicit Pattern(const std::string& text) : text_(text) {}
  std::vector<int> read() {
    std::vector<int> all = sum();
    if (skip() != text_.size()) bad();
    return all;
  }

 private:
  static constexpr size_t kMost = 1 << 16;
  [[noreturn]] void bad() const {
    fail(
        ErrorKind::kConfig,
        "moe_layer_freq is '{}', expected a number, or a list of 0 and 1 for each layer such as '[0]+[1]*26'",
        text_);
  }
  size_t skip() {
    while (at_ < text_.size() && std::isspace(static_cast<unsigned char>(text_[at_]))) ++at_;
    return at_;
  }
  bool take(char c) { return skip() < text_.size() && text_[at_] == c ? ++at_, true : false; }
  size_t number() {
    size_t value = 0, digits = 0;
    for (skip(); at_ < text_.size() && std::isdigit(static_cast<unsigned char>(text_[at_])); ++at_, ++digits)
      value = value * 10 + static_cast<size_t>(text_[at_] - '0');
    if (digits == 0 || digits > 5) bad();
    return value;
  }
  std::vector<int> sum() {
    std::vector<int> all = product();
    while (take('+')) {
      const std::vector<int> more = product();
      all.insert(all.end(), more.begin(), more.end());
    }
    return all;
  }
  std::vector<int> product() {
    std::vector<int> all = atom();
    while (take('*')) {
      const std::vector<int> once = all;
      const size_t times = number();
      if (once.size() * times > kMost) bad();
      all.clear();
      for (size_t i = 0; i < times; ++i) all.insert(all.end(), once.begin(), once.end());
    }
    return all;
  }
  std::vector<int> atom() {
    if (take('(')) {
      if (++depth_ > 16) bad();
      std::vector<int> all = sum();
      if (!take(')')) bad();
      --depth_;
      return all;
    }
    if (!take('[')) bad();
    std::vector<int> all;
    if (take(']')) return all;
    do {
      const size_t value = number();
      if (value > 1) bad();
      all.push_back(static_cast<int>(value));
    } while (take(','));
    if (!take(']')) bad();
    return all;
  }

  const std::string& text_;
  size_t at_ = 0;
  int depth_ = 0;
};

}  // namespace

std::vector<int> dense_layers(const std::string& frequency, int layers) {
  std::vector<int> dense;
  const bool whole = !frequency.empty() && frequency.size() < 6 &&
                     frequency.find_first_not_of("0123456789") == std::string::npos;
  const int every = whole ? std::stoi(frequency) : 0;
  std::vector<int> pattern;
  if (every == 0) {
    pattern = Pattern(frequency).read();
    if (pattern.size() != static_cast<size_t>(layers))
      fail(ErrorKind::kConfig, "moe_layer_freq '{}' has {} layers, num_layers is {}", frequency,
           pattern.size(), layers);
  }
  for (int layer = 0; layer < layers; ++layer)
    if (every > 0 ? layer % every != 0 : pattern[static_cast<size_t>(layer)] == 0) dense.push_back(layer);
  return dense;
}

}  // namespace flagscale::train
