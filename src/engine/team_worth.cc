#include "engine/team_worth.h"

#include <algorithm>

namespace flagscale::engine {

namespace {
// Of one thread of a server's processor.
constexpr double kBytesASecond = 20e9, kProductsASecond = 100e9, kAttentionASecond = 20e9;
// Of one thread's work in a launch, from which a second thread saves more than meeting it costs.
constexpr double kWorthMeeting = 4e-6;
}  // namespace

double alone_seconds(const StepWork& work, const WeightUse& use, const model::DecoderConfig& c) {
  const auto tokens = static_cast<double>(work.tokens), rows = static_cast<double>(work.rows);
  const double head = rows * static_cast<double>(c.hidden_size * c.vocab_size);
  const double products = 2 * (use.matrix_elements * tokens + head);
  const double attention =
      4 * static_cast<double>(work.attended) * static_cast<double>(c.num_layers * c.num_heads * c.head_dim);
  return std::max(static_cast<double>(use.read_bytes) / kBytesASecond, products / kProductsASecond) +
         attention / kAttentionASecond;
}

bool worth_a_team(const StepWork& work, const WeightUse& use, const model::DecoderConfig& config,
                  size_t launches) {
  return alone_seconds(work, use, config) > kWorthMeeting * static_cast<double>(launches);
}

}  // namespace flagscale::engine
