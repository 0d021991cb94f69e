#pragma once
// Learning rate and weight decay as pure functions of the samples consumed: Megatron-LM's
// OptimizerParamScheduler, with FlagScale's stablelm2 schedule. Stateless, so a resumed run computes what an
// uninterrupted one does.

#include <cstdint>
#include <string>

namespace flagscale::train {

struct Stablelm2Schedule {  // FlagScale's lr_decay_stablelm2_*; in samples
  int64_t cosine_samples = 0, cosine_period_samples = 0, rsqrt_samples = 0, decay_samples = 0;
  double cosine_max_lr = 0, alpha = 0, beta = 0;
};

struct LrSchedule {
  std::string style = "linear";  // constant, linear, cosine, inverse-square-root, WSD, stablelm2-scheduler
  double lr = 0, min_lr = 0, warmup_init = 0;
  int64_t warmup_samples = 0, decay_samples = 0;
  std::string wsd_style = "exponential";  // linear, cosine, exponential, minus_sqrt
  int64_t wsd_decay_samples = 0;
  Stablelm2Schedule stablelm2;
  int64_t global_batch_size = 1;
};

struct WeightDecaySchedule {
  std::string style = "constant";  // constant, linear, cosine
  double start = 0.01, end = 0.01;
  int64_t increase_samples = 0;
};

// Throws Error{kConfig} naming the key for an unknown style or impossible lengths.
void validate(const LrSchedule& schedule);
void validate(const WeightDecaySchedule& schedule);

double learning_rate(const LrSchedule& schedule, int64_t samples);
double weight_decay(const WeightDecaySchedule& schedule, int64_t samples);

}  // namespace flagscale::train
