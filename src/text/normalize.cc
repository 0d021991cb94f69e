#include "text/normalize.h"

#include <cstring>

#include "text/rust_library.h"
#include "text/unicode.h"

namespace flagscale::text {
namespace {

const char* skip_ascii(const char* p, const char* end) {
  uint64_t word;
  while (end - p >= 8) {
    std::memcpy(&word, p, 8);
    if (word & 0x8080808080808080u) break;
    p += 8;
  }
  while (p < end && static_cast<unsigned char>(*p) < 0x80) ++p;
  return p;
}

// Where the next part [begin, end) that may not be normal lies: from a starter to the next one that cannot
// join what stands before it. begin == end of the text: none.
struct Part {
  const char *begin, *end;
};

Part find_doubtful(const char* p, const char* end) {
  const char* starter = p;
  uint8_t before = 0;
  while (p < end) {
    if (before == 0) {
      const char* next = skip_ascii(p, end);
      if (next > p) starter = next - 1;
      if (next == end) break;
      p = next;
    }
    const Char c = decode_char(p);
    const uint8_t cls = combining_class(c.code);
    if (cls == 0) {
      starter = p;
    } else if (cls == 255 || cls < before) {
      const char* stop = p + c.size;
      while (stop < end) {
        const Char next = decode_char(stop);
        if (combining_class(next.code) == 0) break;
        stop += next.size;
      }
      return {starter, stop};
    }
    before = cls;
    p += c.size;
  }
  return {end, end};
}

}  // namespace

std::string_view nfc(std::string_view text, std::string& storage) {
  const char *p = text.data(), *end = p + text.size();
  Part part = find_doubtful(p, end);
  if (part.begin == end) return text;
  storage.clear();
  while (part.begin != end) {
    storage.append(p, part.begin);
    storage += rust_nfc({part.begin, static_cast<size_t>(part.end - part.begin)});
    p = part.end;
    part = find_doubtful(p, end);
  }
  storage.append(p, end);
  return storage;
}

}  // namespace flagscale::text
