#include "train/log_line.h"

#include <gtest/gtest.h>

namespace flagscale::train {
namespace {

// FlagScale's own output for its Aquila example.
TEST(LogLine, IsMegatronsToTheCharacter) {
  StepReport r;
  r.iteration = 1, r.train_iters = 10, r.consumed_samples = 1024, r.ms_per_iteration = 12345.6;
  r.learning_rate = 1.963544e-05, r.global_batch_size = 1024, r.lm_loss = 11.63682, r.loss_scale = 522893,
  r.grad_norm = 1.234;
  EXPECT_EQ(
      log_line(r, "2025-10-22 10:00:00"),
      " [2025-10-22 10:00:00] iteration        1/      10 | consumed samples:         1024 | elapsed time "
      "per iteration "
      "(ms): 12345.6 | learning rate: 1.963544E-05 | global batch size:  1024 | lm loss: 1.163682E+01 | loss "
      "scale: "
      "522893.0 | grad norm: 1.234 | number of skipped iterations:   0 | number of nan iterations:   0 |");
  r.skipped_samples = 8, r.tflops = 1.25;
  EXPECT_NE(log_line(r, "").find("consumed samples:         1024 | skipped samples:            8 | elapsed"),
            std::string::npos);
  EXPECT_NE(log_line(r, "").find("| throughput per GPU (TFLOP/s/GPU): 1.2 | learning"), std::string::npos);
  r.params_norm = 12.5;
  EXPECT_NE(log_line(r, "").find("| grad norm: 1.234 | params norm: 12.500 | number of skipped"),
            std::string::npos);
  r.num_zeros = 7;
  EXPECT_NE(log_line(r, "").find("| grad norm: 1.234 | num zeros: 7.0 | params norm: 12.500 |"),
            std::string::npos);
  r.load_balancing_loss = 1.0625, r.z_loss = 12.5;
  EXPECT_NE(log_line(r, "").find("| lm loss: 1.163682E+01 | load_balancing_loss: 1.062500E+00 | z_loss: "
                                 "1.250000E+01 | loss scale"),
            std::string::npos);
  r.load_balancing_loss = r.z_loss = 0;
  r.lm_loss.reset(), r.skipped_iterations = 3, r.nan_iterations = 2;
  EXPECT_NE(log_line(r, "").find("| global batch size:  1024 | loss scale: "), std::string::npos)
      << "no loss, no label";
  EXPECT_NE(log_line(r, "").find("| number of skipped iterations:   3 | number of nan iterations:   2 |"),
            std::string::npos);
}

TEST(LogLine, ValidationIsMegatrons) {
  const std::string line =
      " validation loss at iteration 10 | lm loss value: 4.500000E+00 | lm loss PPL: 9.001713E+01 | ";
  const std::string rule(line.size() + 1, '-');
  EXPECT_EQ(validation_line("iteration 10", 4.5), rule + "\n" + line + "\n" + rule);
  EXPECT_NE(validation_line("x", 1e9).find("PPL: 4.851652E+08"), std::string::npos)
      << "e to the 20th at most";
}

}  // namespace
}  // namespace flagscale::train
