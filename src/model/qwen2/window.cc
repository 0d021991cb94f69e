#include "model/qwen2/window.h"

#include <nlohmann/json.hpp>

namespace flagscale::model {

void read_qwen_window(const nlohmann::json& json, DecoderConfig& config) {
  const bool used = json.contains("use_sliding_window") && json["use_sliding_window"].is_boolean() &&
                    json["use_sliding_window"].get<bool>();
  if (!used || !json.contains("sliding_window") || !json["sliding_window"].is_number_integer()) return;
  config.sliding_window = json["sliding_window"].get<int64_t>();
  config.first_window_layer = json.contains("max_window_layers") && json["max_window_layers"].is_number_integer()
                                  ? json["max_window_layers"].get<int>()
                                  : 28;  // transformers' default
}

void write_qwen_window(const DecoderConfig& config, nlohmann::json& json) {
  json["use_sliding_window"] = config.sliding_window > 0;
  if (config.sliding_window > 0) {
    json["sliding_window"] = config.sliding_window;
    json["max_window_layers"] = config.first_window_layer;
  }
}

}  // namespace flagscale::model
