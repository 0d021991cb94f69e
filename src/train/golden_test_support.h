#pragma once
// What the training tests read of tests/golden, and a micro-batch filled with its tokens.

#include <algorithm>
#include <cmath>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>
#include <string>
#include <vector>

#include "data/train_data.h"
#include "model/decoder/config.h"

namespace flagscale::train::testing {

inline const std::string kGolden = std::string(FLAGSCALE_SOURCE_DIR) + "/tests/golden/";

inline nlohmann::json json_of(const std::string& path) {
  return nlohmann::json::parse(std::ifstream(kGolden + path));
}

inline model::DecoderConfig config_of(const std::string& name) {
  std::ostringstream text;
  text << std::ifstream(kGolden + "model/" + name + "/config.json").rdbuf();
  return model::parse_config(text.str());
}

// rows[first ..]: sequences of length + 1 tokens.
inline void fill(const data::MicroBatch& batch, const nlohmann::json& rows, size_t first, size_t length) {
  const size_t n = batch.tokens.size() / length;
  for (size_t at = 0; at < n * length; ++at) {
    const auto& row = rows[first + at / length];
    batch.tokens[at] = row[at % length], batch.labels[at] = row[at % length + 1];
    batch.loss_mask[at] = 1, batch.position_ids[at] = static_cast<int32_t>(at % length);
  }
  for (size_t s = 0; s <= n; ++s) batch.cu_seqlens[s] = static_cast<int32_t>(s * length);
}

// Relative to the largest value of b.
inline double difference(const std::vector<float>& a, const std::vector<float>& b) {
  double most = 0, largest = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    most = std::max(most, std::abs(static_cast<double>(a[i]) - static_cast<double>(b[i])));
    largest = std::max(largest, std::abs(static_cast<double>(b[i])));
  }
  return most / largest;
}

}  // namespace flagscale::train::testing
