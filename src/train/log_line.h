#pragma once
// Megatron-LM's training log, to the character: tools that parse it keep working.

#include <cstdint>
#include <optional>
#include <string>

namespace flagscale::train {

struct StepReport {
  int64_t iteration = 0, train_iters = 0, consumed_samples = 0, skipped_samples = 0;
  double ms_per_iteration = 0;
  std::optional<double> tflops;  // per processor, where log_throughput asks for it
  double learning_rate = 0;      // of the next update
  int64_t global_batch_size = 0;
  std::optional<double> lm_loss;               // absent where every iteration of the interval was skipped
  double load_balancing_loss = 0, z_loss = 0;  // of a mixture's routers, without coefficients; 0: none
  double loss_scale = 1;
  std::optional<double> grad_norm;
  std::optional<double> num_zeros;  // among the gradients, where log_num_zeros_in_grad asks for it
  std::optional<double> params_norm;
  int64_t skipped_iterations = 0, nan_iterations = 0;
};

// " [2025-10-22 10:00:00] iteration        1/      10 | consumed samples: ... |"
std::string log_line(const StepReport& report, const std::string& time);

// Megatron's validation line, between its two rules.
std::string validation_line(const std::string& prefix, double lm_loss);

std::string time_now();  // "2025-10-22 10:00:00"

}  // namespace flagscale::train
