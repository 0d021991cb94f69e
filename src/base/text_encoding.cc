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

}  // namespace

void refuse_other_encoding(std::string_view begin, const std::string& file, ErrorKind kind) {
  for (const OtherEncoding& one : kOtherEncodings)
    if (begin.starts_with(one.mark))
      fail(kind,
           "{} is {}: save it as UTF-8 (`iconv -f {} -t UTF-8 {} > NEW`, or the editor's choice of encoding)",
           file, one.name, one.name.substr(0, 6), quoted(file));
}

void refuse_file_of_other_encoding(const std::string& file) {
  char begin[4] = {};
  std::ifstream in(file, std::ios::binary);
  in.read(begin, sizeof begin);
  refuse_other_encoding({begin, static_cast<size_t>(in.gcount())}, file);
}

}  // namespace flagscale
