#pragma once
// Cuts what arrives in chunks into lines, wherever the chunks were cut.

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>

namespace flagscale::launch {

class LineReader {
 public:
  // number counts line feeds, from 1. A line that redraws itself (carriage returns, as progress bars do) and
  // one longer than kLongest come in parts of the same number; escape sequences of colours are removed.
  using Sink = std::function<void(int64_t number, std::string_view line)>;
  explicit LineReader(Sink sink) : sink_(std::move(sink)) {}

  void feed(std::string_view bytes);
  // Passes on what no line feed ended yet; what comes after it counts to the same line.
  void flush();

  static constexpr size_t kLongest = 64 * 1024;

 private:
  void pass_on(std::string_view part);

  Sink sink_;
  std::string begun_;
  int64_t number_ = 1;
};

}  // namespace flagscale::launch
