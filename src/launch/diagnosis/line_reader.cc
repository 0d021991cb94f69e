#include "launch/diagnosis/line_reader.h"

#include <algorithm>

namespace flagscale::launch {

namespace {

// ESC [ … letter, as programs colour what they print.
std::string without_colours(std::string_view line) {
  std::string plain;
  while (!line.empty()) {
    const size_t escape = line.find('\x1b');
    plain += line.substr(0, escape);
    if (escape == std::string_view::npos) break;
    line.remove_prefix(escape + 1);
    if (!line.starts_with('[')) continue;
    const size_t last = line.find_first_not_of("[0123456789;?");
    line.remove_prefix(last == std::string_view::npos ? line.size() : last + 1);
  }
  return plain;
}

}  // namespace

void LineReader::pass_on(std::string_view part) {
  if (part.empty()) return;
  if (part.find('\x1b') == std::string_view::npos)
    sink_(number_, part);
  else
    sink_(number_, without_colours(part));
}

void LineReader::feed(std::string_view bytes) {
  while (!bytes.empty()) {
    const size_t room = kLongest - begun_.size();
    const size_t end = bytes.substr(0, room).find_first_of("\r\n");
    const std::string_view part = bytes.substr(0, std::min(end, std::min(room, bytes.size())));
    const bool ended = end != std::string_view::npos;
    if (!ended && part.size() < room) {
      begun_ += part;
      return;
    }
    if (begun_.empty()) {
      pass_on(part);
    } else {
      begun_ += part;
      flush();
    }
    bytes.remove_prefix(part.size());
    if (!ended) continue;
    if (bytes.front() == '\n') ++number_;
    bytes.remove_prefix(1);
  }
}

void LineReader::flush() {
  pass_on(begun_);
  begun_.clear();
}

}  // namespace flagscale::launch
