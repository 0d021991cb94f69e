#include "serve/json.h"

#include <nlohmann/json.hpp>

#include "serve/api_error.h"

namespace flagscale::serve {

Json parse_json(std::string_view json, const JsonBounds& bounds) {
  if (const auto excess = text::find_excess(json, bounds)) {
    if (excess->depth)
      throw ApiError(400, fmt::format("the JSON is nested deeper than {} levels, at byte {}", bounds.depth,
                                      excess->byte));
    throw ApiError(422,
                   fmt::format("a JSON object has more than {} keys, at byte {}", bounds.keys, excess->byte));
  }
  try {
    return Json::parse(json);
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
