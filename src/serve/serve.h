#pragma once
// A served model, from its files to a port that answers.

#include <functional>
#include <memory>
#include <string>

#include "engine/load.h"
#include "engine/service.h"
#include "serve/service_config.h"

namespace flagscale::serve {

class ModelServer {
 public:
  // Ready when it returns. Throws Error naming the option or the file.
  ModelServer(ServiceConfig config, engine::LoadedModel model, std::unique_ptr<engine::Engine> engine);
  ~ModelServer();  // cancels what runs

  int port() const;
  std::string url() const;
  const std::string& name() const;  // of the model

  // Why it cannot answer any more; "" while it can.
  std::string failure() const;

  // No new requests; returns when all that there are have been answered, at the latest after `seconds`.
  void drain(double seconds);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace flagscale::serve
