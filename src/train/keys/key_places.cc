#include "train/keys/key_places.h"

#include <cctype>
#include <string_view>

namespace flagscale::train {
namespace {

bool in_word(char c) { return std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '_'; }

bool has_word(std::string_view text, std::string_view word) {
  for (size_t at = text.find(word); at != text.npos; at = text.find(word, at + 1)) {
    const size_t end = at + word.size();
    if ((at == 0 || !in_word(text[at - 1])) && (end == text.size() || !in_word(text[end]))) return true;
  }
  return false;
}

}  // namespace

Error with_places(const std::map<std::string, std::string>& places, const Error& error) {
  const std::string message = error.what();
  if (error.kind() != ErrorKind::kConfig && error.kind() != ErrorKind::kUnsupported &&
      error.kind() != ErrorKind::kInvalidArgument)
    return error;
  std::string lines;
  for (const auto& [key, place] : places)
    if (has_word(message, key) && message.find(place) == message.npos) lines += "\n  " + place;
  return Error(error.kind(), message + lines);
}

}  // namespace flagscale::train
