#include "train/log_line.h"

#include <gtest/gtest.h>

namespace flagscale::train {
namespace {

// FlagScale's own output for its Aquila example.
TEST(LogLine, IsMegatronsToTheCharacter) {
  StepReport r;
  r.iteration = 1, r.train_iters = 10, r.consumed_samples = 1024, r.ms_per_iteration = 12345.6;
  r.learning_rate = 1.963544e-05, r.global_batch_size = 1024, r.lm_loss = 11.63682, r.loss_scale = 522893, r.grad_norm = 1.234;
  EXPECT_EQ(log_line(r, "2025-10-22 10:00:00"),
            " [2025-10-22 10:00:00] iteration        1/      10 | consumed samples:         1024 | elapsed time per iteration "
            "(ms): 12345.6 | learning rate: 1.963544E-05 | global batch size:  1024 | lm loss: 1.163682E+01 | loss scale: "
            "522893.0 | grad norm: 1.234 | number of skipped iterations:   0 | number of nan iterations:   0 |");
  r.skipped_samples = 8, r.tflops = 1.25;
  EXPECT_NE(log_line(r, "").find("consumed samples:         1024 | skipped samples:            8 | elapsed"), std::string::npos);
  EXPECT_NE(log_line(r, "").find("| throughput per GPU (TFLOP/s/GPU): 1.2 | learning"), std::string::npos);
}

}  // namespace
}  // namespace flagscale::train
