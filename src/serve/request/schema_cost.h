#pragma once
// What a JSON schema costs to compile, told before it is: llguidance bounds the work of one token, not all of
// what comes before the first.

#include <string>
#include <string_view>

#include "serve/json.h"

namespace flagscale::serve {

// Throws ApiError 422 naming the field for a schema that would take long, or that has so many optional
// properties that no token could be found.
void check_schema_cost(const std::string& name, const Json& schema);

// The same for every %json of a grammar in Lark's syntax; 400 for one that is not JSON.
void check_embedded_schemas(const std::string& name, std::string_view grammar);

}  // namespace flagscale::serve
