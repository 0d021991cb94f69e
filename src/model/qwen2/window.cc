#include "model/qwen2/window.h"

#include <nlohmann/json.hpp>

#include "base/error.h"

namespace flagscale::model {

namespace {

// transformers 5 writes each layer's kind: it must be what the other keys say.
void check_layer_types(const nlohmann::json& json, const DecoderConfig& config) {
  if (!json.contains("layer_types") || !json["layer_types"].is_array()) return;
  const auto& types = json["layer_types"];
  for (size_t i = 0; i < types.size(); ++i) {
    const bool window = config.sliding_window > 0 && static_cast<int>(i) >= config.first_window_layer;
    const char* expected = window ? "sliding_attention" : "full_attention";
    if (types[i] != expected)
      fail(ErrorKind::kUnsupported,
           "config.json: layer_types[{}] is {}, but use_sliding_window, sliding_window and max_window_layers "
           "say {}",
           i, types[i].dump(), expected);
  }
}

}  // namespace

// Absent keys have transformers' defaults.
void read_qwen_window(const nlohmann::json& json, DecoderConfig& config) {
  const auto integer = [&](const char* key, int64_t absent) {
    if (!json.contains(key)) return absent;
    return json[key].is_number_integer() ? json[key].get<int64_t>() : int64_t{0};
  };
  const bool used = json.contains("use_sliding_window") && json["use_sliding_window"].is_boolean() &&
                    json["use_sliding_window"].get<bool>();
  if (used) {
    config.sliding_window = integer("sliding_window", 4096);
    config.first_window_layer = static_cast<int>(integer("max_window_layers", 28));
  }
  check_layer_types(json, config);
}

void write_qwen_window(const DecoderConfig& config, nlohmann::json& json) {
  json["use_sliding_window"] = config.sliding_window > 0;
  if (config.sliding_window > 0) {
    json["sliding_window"] = config.sliding_window;
    json["max_window_layers"] = config.first_window_layer;
  }
}

}  // namespace flagscale::model
