#pragma once
// From a request to its endpoint: who may call what is decided here and nowhere else.

#include <memory>

#include "net/exchange.h"
#include "serve/context.h"

namespace flagscale::serve {

// A handler for net::Server. The context outlives it.
net::Handler make_router(Context& context);

}  // namespace flagscale::serve
