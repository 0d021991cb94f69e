#pragma once
// The sliding-window keys that Qwen2 and Qwen3 share.

#include <nlohmann/json_fwd.hpp>

#include "model/decoder/config.h"

namespace flagscale::model {
void read_qwen_window(const nlohmann::json& json, DecoderConfig& config);
void write_qwen_window(const DecoderConfig& config, nlohmann::json& json);
}  // namespace flagscale::model
