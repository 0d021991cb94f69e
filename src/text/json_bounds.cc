#include "text/json_bounds.h"

#include <vector>

namespace flagscale::text {

std::optional<JsonExcess> find_excess(std::string_view json, const JsonBounds& bounds) {
  std::vector<size_t> keys;  // of each object or list that is open
  for (size_t i = 0; i < json.size(); ++i) {
    switch (json[i]) {
      case '"':
        for (++i; i < json.size() && json[i] != '"'; ++i)
          if (json[i] == '\\') ++i;
        break;
      case '{':
      case '[':
        keys.push_back(0);
        if (keys.size() > static_cast<size_t>(bounds.depth)) return JsonExcess{true, i};
        break;
      case '}':
      case ']':
        if (!keys.empty()) keys.pop_back();
        break;
      case ':':
        if (!keys.empty() && ++keys.back() > bounds.keys) return JsonExcess{false, i};
        break;
      default:
        break;
    }
  }
  return std::nullopt;
}

}  // namespace flagscale::text
