#pragma once
// A served model within this process: it answers requests as ModelServer does, through the same routes and
// the same Service, without a port.

#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "engine/engine.h"
#include "engine/load.h"
#include "net/http.h"
#include "serve/service_config.h"

namespace flagscale::serve {

class LocalModel {
 public:
  // Throws Error naming the option or the file.
  LocalModel(ServiceConfig config, engine::LoadedModel model, std::unique_ptr<engine::Engine> engine);
  ~LocalModel();

  const std::string& name() const;

  // Blocks until the answer is complete. `piece` gets its body as it comes, and an empty piece ten times a
  // second while nothing does; false breaks off, which cancels what was asked. One request at a time.
  net::Response request(const std::string& method, const std::string& path, std::string body,
                        const std::function<bool(std::string_view)>& piece);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace flagscale::serve
