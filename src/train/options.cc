#include "train/options.h"

#include <algorithm>

#include "base/error.h"
#include "base/interrupt.h"
#include "train/optimizer/state_types.h"

namespace flagscale::train {

int64_t global_batch_at(const TrainOptions& o, int64_t consumed) {
  if (!o.rampup || consumed > o.rampup->samples) return o.global_batch_size;
  const int64_t steps = (o.global_batch_size - o.rampup->start) / o.rampup->increment;
  const double samples_a_step =
      static_cast<double>(o.rampup->samples) / static_cast<double>(std::max<int64_t>(steps, 1));
  const auto done = static_cast<int64_t>(static_cast<double>(consumed) / samples_a_step);
  return std::min(o.global_batch_size, o.rampup->start + done * o.rampup->increment);
}

int64_t total_iterations(const TrainOptions& o) {
  if (o.train_samples == 0) return o.train_iters;
  if (!o.rampup) return o.train_samples / o.global_batch_size;
  // Megatron's update_train_iters, which counts one by one.
  int64_t iterations = 0, consumed = 0;
  while (consumed <= o.rampup->samples && consumed < o.train_samples) {
    throw_if_interrupted();
    const int64_t batch = global_batch_at(o, consumed);
    const int64_t most = (std::min(o.rampup->samples, o.train_samples - 1) - consumed) / batch + 1;
    int64_t same = 1, larger = most + 1;  // the batches of this size: from `same` on to less than `larger`
    while (larger - same > 1) {
      const int64_t middle = same + (larger - same) / 2;
      (global_batch_at(o, consumed + (middle - 1) * batch) == batch ? same : larger) = middle;
    }
    iterations += same, consumed += same * batch;
  }
  return iterations + std::max<int64_t>(0, o.train_samples - consumed) / o.global_batch_size;
}

void validate(const TrainOptions& o, int ranks) {
  const auto positive = [](const char* key, int64_t value) {
    if (value < 1) fail(ErrorKind::kConfig, "{} is {}, expected at least 1", key, value);
  };
  positive("seq_length", o.seq_length);
  positive("micro_batch_size", o.micro_batch_size);
  positive("global_batch_size", o.global_batch_size);
  positive("log_interval", o.log_interval);
  if (o.global_batch_size % o.micro_batch_size != 0)
    fail(ErrorKind::kConfig, "global_batch_size {} is not a multiple of micro_batch_size {}",
         o.global_batch_size, o.micro_batch_size);
  if (o.global_batch_size % (o.micro_batch_size * ranks) != 0)
    fail(ErrorKind::kConfig,
         "global_batch_size {} is not a multiple of micro_batch_size {} x {} data-parallel ranks",
         o.global_batch_size, o.micro_batch_size, ranks);
  if ((o.train_samples > 0) == (o.train_iters > 0))
    fail(ErrorKind::kConfig, "set one of train_samples ({}) and train_iters ({})", o.train_samples,
         o.train_iters);
  if (o.seq_length > o.model.max_positions)
    fail(ErrorKind::kConfig, "seq_length {} is above max_position_embeddings {}", o.seq_length,
         o.model.max_positions);
  if (o.rampup) {
    const BatchRampup& r = *o.rampup;
    const bool even = r.start > 0 && r.increment > 0 && r.samples >= 0 && r.start <= o.global_batch_size &&
                      (o.global_batch_size - r.start) % r.increment == 0 &&
                      r.start % (o.micro_batch_size * ranks) == 0 &&
                      r.increment % (o.micro_batch_size * ranks) == 0;
    if (!even)
      fail(ErrorKind::kConfig,
           "rampup_batch_size [{}, {}, {}] does not reach global_batch_size {} in whole steps of "
           "micro_batch_size {}{}",
           r.start, r.increment, r.samples, o.global_batch_size, o.micro_batch_size,
           ranks == 1 ? "" : fmt::format(" x {} data-parallel ranks", ranks));
  }
  const OptimizerSpec& optimizer = o.optimizer;
  for (const auto& [key, beta] : {std::pair{"adam_beta1", optimizer.adam_beta1},
                                  {"adam_beta2", optimizer.adam_beta2},
                                  {"lion_beta1", optimizer.lion_beta1},
                                  {"lion_beta2", optimizer.lion_beta2},
                                  {"sgd_momentum", optimizer.sgd_momentum},
                                  {"muon_momentum", optimizer.muon_momentum}})
    if (!(beta >= 0 && beta < 1)) fail(ErrorKind::kConfig, "{} is {}, expected 0 to less than 1", key, beta);
  if (o.clip_grad < 0) fail(ErrorKind::kConfig, "clip_grad is {}, expected 0 (off) or more", o.clip_grad);
  if (total_iterations(o) < 1)
    fail(ErrorKind::kConfig, "train_samples {} is less than one global batch of {}", o.train_samples,
         o.global_batch_size);
  if (o.lora) validate(*o.lora);
  require_state_types(o.optimizer, {o.compute, o.lora.has_value(), o.offload, ranks});
  validate(o.lr);
  validate(o.weight_decay);
  model::validate(o.model);
}

}  // namespace flagscale::train
