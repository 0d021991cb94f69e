#pragma once
// From a service's configuration to a model that is ready to run: what `serve` and `chat` share.

#include <memory>
#include <string>

#include "device/device.h"
#include "engine/engine.h"
#include "engine/load.h"
#include "serve/service_config.h"

namespace flagscale {

struct ServedEngine {
  engine::LoadedModel model;
  std::unique_ptr<engine::Engine> engine;
  std::string formats;   // of the weights, "q4_1"
  int64_t capacity = 0;  // tokens of the cache
  std::string cache;     // its type
  std::string compute;   // "fast (int8)": what was asked for, and what becomes of it
};

// That are computed at once: a GPU has room for more.
int64_t most_sequences(const serve::ServiceConfig& config, DeviceKind device);

// What serving a model that is there would take; throws as loading it would, and loads nothing.
struct ServedPlan {
  DeviceKind device;
  size_t bytes, available;
  int64_t capacity;  // tokens of the cache
};
ServedPlan plan_served_engine(const serve::ServiceConfig& config);

// Throws Error naming the model or the option.
ServedEngine load_served_engine(const serve::ServiceConfig& config);

}  // namespace flagscale
