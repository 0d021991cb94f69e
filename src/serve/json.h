#pragma once
// JSON from peers: parsed with bounds, in the order in which it was written.

#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>

#include "text/json_bounds.h"

namespace flagscale::serve {

using Json = nlohmann::ordered_json;

using text::JsonBounds;

// Throws ApiError 400 naming the byte for what is not JSON, 422 for what is past the bounds.
Json parse_json(std::string_view json, const JsonBounds& bounds = {});

// The text of a value; bytes that are not UTF-8 become U+FFFD.
std::string dump(const Json& value);
std::string json_string(std::string_view text);  // as a JSON string

}  // namespace flagscale::serve
