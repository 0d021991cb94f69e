#include "base/text_encoding.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <fstream>

namespace flagscale {
namespace {

// By how a file begins; the longer marks first.
struct OtherEncoding {
  std::string_view mark, name;
};
constexpr std::array<OtherEncoding, 4> kOtherEncodings{{{{"\xff\xfe\0\0", 4}, "UTF-32LE"},
                                                        {{"\0\0\xfe\xff", 4}, "UTF-32BE"},
                                                        {"\xff\xfe", "UTF-16LE"},
                                                        {"\xfe\xff", "UTF-16BE"}}};

// Files that hold NUL bytes and tell what they are: Parquet, gzip, zstd.
constexpr std::array<std::string_view, 3> kTold{"PAR1", "\x1f\x8b", "\x28\xb5\x2f\xfd"};

// By where the NUL bytes lie; "" for a file with stray ones.
std::string_view likely_encoding(std::string_view begin) {
  size_t count[4] = {};
  for (size_t i = 0; i < begin.size(); ++i) count[i % 4] += begin[i] == '\0';
  const size_t even = count[0] + count[2], odd = count[1] + count[3];
  if ((even + odd) * 64 < begin.size()) return "";
  if (count[1] && count[2] && count[3] && 2 * count[0] < count[3]) return "UTF-32LE";
  if (count[0] && count[1] && count[2] && 2 * count[3] < count[0]) return "UTF-32BE";
  if (4 * even < odd) return "UTF-16LE";
  return 4 * odd < even ? "UTF-16BE" : "";
}

// A path as a shell takes it.
std::string quoted(const std::string& path) {
  constexpr std::string_view kPlain = "/._-+=,:@%";
  if (std::all_of(path.begin(), path.end(), [&](unsigned char c) {
        return std::isalnum(c) || kPlain.find(static_cast<char>(c)) != std::string_view::npos;
      }))
    return path;
  std::string text = "'";
  for (const char c : path) text += c == '\'' ? std::string("'\\''") : std::string(1, c);
  return text + "'";
}

void refuse_no_text(std::string_view begin, const std::string& file) {
  if (begin.find('\0') == std::string_view::npos) return;
  const std::string_view likely = likely_encoding(begin);
  if (likely.empty())
    fail(ErrorKind::kInvalidArgument, "{} holds NUL bytes: it is no text, or a damaged one", file);
  fail(ErrorKind::kInvalidArgument,
       "{} holds NUL bytes: it is likely {} without a byte-order mark; save it as UTF-8 (`iconv -f {} -t "
       "UTF-8 {} > NEW`, or the editor's choice of encoding)",
       file, likely, likely, quoted(file));
}

}  // namespace

void refuse_other_encoding(std::string_view begin, const std::string& file, ErrorKind kind) {
  for (const OtherEncoding& one : kOtherEncodings)
    if (begin.starts_with(one.mark))
      fail(kind,
           "{} is {}: save it as UTF-8 (`iconv -f {} -t UTF-8 {} > NEW`, or the editor's choice of encoding)",
           file, one.name, one.name.substr(0, 6), quoted(file));
}

void refuse_file_of_other_encoding(const std::string& file) {
  char bytes[4096] = {};
  std::ifstream in(file, std::ios::binary);
  in.read(bytes, sizeof bytes);
  const std::string_view begin(bytes, static_cast<size_t>(in.gcount()));
  refuse_other_encoding(begin, file);
  if (std::none_of(kTold.begin(), kTold.end(), [&](auto magic) { return begin.starts_with(magic); }))
    refuse_no_text(begin, file);
}

}  // namespace flagscale
