#pragma once
// What every endpoint sees.

#include <atomic>

#include "engine/service.h"
#include "serve/api_error.h"
#include "serve/metrics.h"
#include "serve/served_model.h"
#include "serve/service_config.h"
#include "serve/work_pool.h"

namespace flagscale::serve {

struct Context {
  const ServiceConfig& config;
  const ServedModel& model;
  engine::Service& service;
  WorkPool& workers;
  // To a request for which there is no room.
  const net::Response busy = busy_response(config.max_queued_requests);
  Metrics metrics = {};
  std::atomic<bool> draining{false};
};

}  // namespace flagscale::serve
