#include "serve/serve.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <thread>

#include "base/parallel.h"
#include "net/server.h"
#include "serve/api_error.h"
#include "serve/context.h"
#include "serve/router.h"

namespace flagscale::serve {

namespace {

net::ServerOptions server_options(const ServiceConfig& config) {
  net::ServerOptions options;
  options.host = config.host;
  options.port = static_cast<int>(config.port);
  options.threads = available_cores() > 4 ? 2 : 1;
  options.max_header = static_cast<size_t>(config.max_header_bytes);
  options.max_body = static_cast<size_t>(config.max_body_bytes);
  options.max_connections = static_cast<int>(config.max_connections);
  options.certificate = config.ssl_certfile;
  options.key = config.ssl_keyfile;
  options.key_password = config.ssl_keyfile_password;
  options.error_page = [](int status, const std::string& message) { return error_response(status, message); };
  return options;
}

}  // namespace

// Requests come from the server's connections, events go back to them: so these close first and go last.
struct ModelServer::State {
  State(ServiceConfig c, engine::LoadedModel loaded, std::unique_ptr<engine::Engine> engine)
      : config(std::move(c)),
        model(describe_model(std::move(loaded), config, engine->runner().options().max_length)),
        service(std::make_unique<engine::Service>(
            std::move(engine), engine::ServiceOptions{static_cast<int>(config.max_queued_requests)})),
        workers(std::make_unique<WorkPool>(std::max(2, available_cores() / 2),
                                           static_cast<size_t>(config.max_queued_requests))),
        context{config, model, *service, *workers},
        server(server_options(config), make_router(context)) {}
  ~State() {
    server.close();
    workers.reset();  // nothing is submitted any more
    service.reset();  // no event comes any more
  }

  const ServiceConfig config;
  const ServedModel model;
  std::unique_ptr<engine::Service> service;
  std::unique_ptr<WorkPool> workers;
  Context context;
  net::Server server;
};

ModelServer::ModelServer(ServiceConfig config, engine::LoadedModel model,
                         std::unique_ptr<engine::Engine> engine)
    : state_(std::make_unique<State>(std::move(config), std::move(model), std::move(engine))) {}
ModelServer::~ModelServer() = default;

int ModelServer::port() const { return state_->server.port(); }
const std::string& ModelServer::name() const { return state_->model.names[0]; }

std::string ModelServer::url() const {
  const ServiceConfig& config = state_->config;
  const bool v6 = config.host.find(':') != std::string::npos;
  return fmt::format("{}://{}{}{}:{}", config.ssl_certfile.empty() ? "http" : "https", v6 ? "[" : "",
                     config.host, v6 ? "]" : "", port());
}

std::string ModelServer::failure() const { return state_->service->failure(); }

void ModelServer::drain(double seconds) {
  using Clock = std::chrono::steady_clock;
  const auto deadline =
      Clock::now() + std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(seconds));
  state_->context.draining = true;
  state_->server.stop_accepting();
  while (state_->server.connections() > 0 && Clock::now() < deadline)
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
}

}  // namespace flagscale::serve
