#include "train/evaluation.h"

#include <array>

#include "base/heartbeat.h"
#include "base/interrupt.h"

namespace flagscale::train {

std::optional<double> evaluate(const TrainOptions& options, const data::SampleSource& source, Ranks& ranks,
                               TrainStep& step, int64_t iteration, int64_t before, bool& stopped) {
  const int64_t micro_batch = options.micro_batch_size,
                samples = options.eval_iters * options.global_batch_size / micro_batch * micro_batch;
  int64_t first = before * samples;
  if (first + samples > source.size()) first = 0;
  double loss = 0, tokens = 0;
  int64_t turn = 0;
  for (int64_t s = 0; s < samples && first + s + micro_batch <= source.size(); s += micro_batch) {
    if (turn++ % ranks.size() != ranks.rank()) continue;
    if (interrupted()) break;
    beat(Phase::kEvaluation, iteration);
    const int64_t entries = data::fill_micro_batch(source, first + s, options.mask, step.inputs());
    const auto sums = step.evaluate(entries - 1);
    loss += sums.loss, tokens += sums.tokens;
  }
  std::array values{loss, tokens, interrupted() ? 1.0 : 0.0};
  ranks.sum(values);
  if (values[2] != 0) stopped = true;
  if (values[1] == 0 || values[2] != 0) return {};
  return values[0] / values[1];
}

}  // namespace flagscale::train
