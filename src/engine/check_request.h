#pragma once
// Whether a request can run at all.

#include "engine/request.h"
#include "engine/runner.h"

namespace flagscale::engine {

constexpr int kMaxChoices = 1024;  // Request::n

// Throws Error{kInvalidArgument} naming the parameter, what it is and what it may be.
void check_request(const Request& request, const Runner& runner);

}  // namespace flagscale::engine
