#include "launch/diagnosis/traceback.h"

#include <cctype>

namespace flagscale::launch {

namespace {

constexpr std::string_view kFirst = "Traceback (most recent call last)";
constexpr int kMostLines = 500;

// "ValueError: …", "torch.OutOfMemoryError: …", "KeyboardInterrupt".
bool is_exception(std::string_view line) {
  size_t end = 0;
  while (end < line.size() &&
         (std::isalnum(static_cast<unsigned char>(line[end])) || line[end] == '_' || line[end] == '.'))
    ++end;
  return end > 2 && !std::isdigit(static_cast<unsigned char>(line[0])) &&
         (end == line.size() || line[end] == ':') && line.substr(0, end) != "INFO" &&
         line.substr(0, end) != "WARNING" && line.substr(0, end) != "DEBUG";
}

}  // namespace

// Loggers write a time into what they put before every line, so it is compared by length and first letters.
std::string_view Traceback::without_prefix(std::string_view line) const {
  const size_t size = prefix_.size();
  if (size == 0 || line.size() < size || line[size - 1] != prefix_[size - 1]) return line;
  return line.substr(0, 4) == std::string_view(prefix_).substr(0, 4) ? line.substr(size) : line;
}

Traceback::Line Traceback::read(std::string_view line) {
  const size_t first = line.find(kFirst);
  if (first != std::string_view::npos && line.size() <= first + kFirst.size() + 2) {
    open_ = true;
    lines_ = 0;
    prefix_ = line.substr(0, first);
    return Line::kStarts;
  }
  if (!open_) return Line::kOutside;
  const std::string_view text = without_prefix(line);
  if (++lines_ > kMostLines) open_ = false;
  if (text.empty() || text[0] == ' ' || text[0] == '\t') return Line::kFrame;
  if (!is_exception(text)) return Line::kOutside;  // of someone else who writes here too
  open_ = false;
  exception_ = text;
  return Line::kException;
}

}  // namespace flagscale::launch
