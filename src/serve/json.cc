#include "serve/json.h"

#include <nlohmann/json.hpp>
#include <vector>

#include "serve/api_error.h"

namespace flagscale::serve {

namespace {

// Depth and sizes, before anything is built.
void check_bounds(std::string_view text, const JsonBounds& bounds) {
  std::vector<size_t> keys;  // of each object or list that is open
  for (size_t i = 0; i < text.size(); ++i) {
    switch (text[i]) {
      case '"':
        for (++i; i < text.size() && text[i] != '"'; ++i)
          if (text[i] == '\\') ++i;
        break;
      case '{':
      case '[':
        keys.push_back(0);
        if (keys.size() > static_cast<size_t>(bounds.depth))
          throw ApiError(
              400, fmt::format("the JSON is nested deeper than {} levels, at byte {}", bounds.depth, i));
        break;
      case '}':
      case ']':
        if (!keys.empty()) keys.pop_back();
        break;
      case ':':
        if (!keys.empty() && ++keys.back() > bounds.keys)
          throw ApiError(422, fmt::format("a JSON object has more than {} keys, at byte {}", bounds.keys, i));
        break;
      default:
        break;
    }
  }
}

}  // namespace

Json parse_json(std::string_view text, const JsonBounds& bounds) {
  check_bounds(text, bounds);
  try {
    return Json::parse(text);
  } catch (const Json::parse_error& error) {
    throw ApiError(400, fmt::format("the body is not JSON, at byte {}", error.byte), {}, "invalid_json");
  } catch (const Json::out_of_range&) {  // 1e999
    throw ApiError(400, "the body is not JSON: a number is out of range", {}, "invalid_json");
  }
}

std::string dump(const Json& value) { return value.dump(-1, ' ', false, Json::error_handler_t::replace); }

std::string json_string(std::string_view text) {
  std::string out = "\"";
  out.reserve(text.size() + 2);
  for (const char c : text) {
    if (static_cast<unsigned char>(c) < 0x20 || c == '"' || c == '\\') return dump(Json(std::string(text)));
    out += c;
  }
  return out += '"';
}

}  // namespace flagscale::serve
