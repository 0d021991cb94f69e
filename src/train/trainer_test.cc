// What a run does beside arithmetic: batches that grow, data that is dropped, spikes and NaN, evaluation,
// events.
#include "train/trainer.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <limits>
#include <nlohmann/json.hpp>
#include <set>

#include "base/error.h"
#include "base/temporary_folder_test_support.h"
#include "io/checkpoint.h"
#include "train/event_file_test_support.h"
#include "train/run_test_support.h"

namespace flagscale::train {
namespace {

using testing::after;
using testing::Ran;
using testing::run;

TEST(RampUp, BatchesAreMegatrons) {
  for (const auto& c :
       nlohmann::json::parse(std::ifstream(FLAGSCALE_SOURCE_DIR "/tests/golden/train/rampup.json"))) {
    TrainOptions o = testing::tiny_run();
    o.global_batch_size = c["global_batch_size"], o.micro_batch_size = c["micro_batch_size"];
    o.rampup = BatchRampup{c["start"], c["increment"], c["samples"]};
    o.train_iters = 0, o.train_samples = 1;
    int64_t consumed = 0, iterations = 0;
    for (const int64_t batch : c["batches"]) {
      ASSERT_EQ(global_batch_at(o, consumed), batch) << c["samples"] << " samples, after " << consumed;
      consumed += batch;
      o.train_samples = consumed;
      EXPECT_EQ(total_iterations(o), ++iterations);
    }
  }
}

TEST(RampUp, AreNotCountedOneByOne) {
  TrainOptions o = testing::tiny_run();
  o.micro_batch_size = 1, o.global_batch_size = 1000;
  o.train_iters = 0, o.train_samples = int64_t{1} << 50, o.rampup = BatchRampup{1, 1, o.train_samples};
  // Each size from 1 to 999 has an equal share of the samples.
  double expected = 0;
  for (int batch = 1; batch < 1000; ++batch) expected += static_cast<double>(o.train_samples) / 999 / batch;
  EXPECT_NEAR(static_cast<double>(total_iterations(o)) / expected, 1, 1e-3);
}

TEST(Trainer, RampsUp) {
  TrainOptions o = testing::tiny_run();
  o.train_iters = 0, o.train_samples = 20, o.rampup = BatchRampup{2, 2, 4}, o.lr.decay_samples = 20;
  std::vector<int64_t> batches;
  const Ran ran = run(o);
  for (const Line& line : ran.lines) batches.push_back(line.batch);
  EXPECT_EQ(batches, (std::vector<int64_t>{2, 2, 4, 4, 4, 4}));
  EXPECT_EQ(ran.lines.back().consumed, 20);
}

TEST(Trainer, LogsWhereTheIntervalDividesTheIterationAlone) {
  TrainOptions o = testing::tiny_run(7);
  const Ran every = run(o);
  ASSERT_EQ(every.lines.size(), 7u);
  o.log_interval = 3;
  const Ran third = run(o);
  ASSERT_EQ(third.lines.size(), 2u) << third.text;
  EXPECT_EQ(third.lines[1].iteration, 6);
  EXPECT_EQ(third.lines[1].norm, every.lines[5].norm);
  double sum = 0;
  for (size_t i = 3; i < 6; ++i) sum += std::stod(every.lines[i].loss);
  EXPECT_NEAR(std::stod(third.lines[1].loss), sum / 3, 1e-5);
  EXPECT_EQ(third.result.iteration, 7);
  ASSERT_TRUE(third.result.lm_loss);
  EXPECT_NEAR(*third.result.lm_loss, std::stod(every.lines[6].loss), 1e-5) << "the last iteration's";
}

// With a rate so small that weights stay, a loss tells which samples it is of.
TEST(Trainer, DropsTheSamplesThatItIsTold) {
  TrainOptions o = testing::tiny_run();
  o.lr.lr = 1e-20;
  const Ran plain = run(o);
  o.skip_iters = {{1, 3}};  // what has 1 or 2 iterations before it: the second and the third
  const Ran skipped = run(o);
  ASSERT_EQ(plain.lines.size(), 6u);
  ASSERT_EQ(skipped.lines.size(), 4u) << skipped.text;
  for (const Line& line : skipped.lines) {
    EXPECT_TRUE(line.iteration < 2 || line.iteration > 3);
    EXPECT_EQ(line.loss, plain.lines[static_cast<size_t>(line.iteration - 1)].loss);
    EXPECT_EQ(line.consumed, line.iteration * 4);
    EXPECT_EQ(line.skipped_samples, line.iteration > 3 ? 8 : 0);
  }
  o.skip_iters.clear();
  o.skip_samples = {{7, 9}};  // the last of the second batch, the first of the third
  EXPECT_EQ(run(o).digest, skipped.digest);
  o.skip_samples = {{4, 8}};
  EXPECT_EQ(run(o).lines.size(), 5u) << "the second batch alone";
}

TEST(Trainer, SkipsSpikesAfterTheWarmup) {
  TrainOptions o = testing::tiny_run(12);
  o.lr.lr = 0.5, o.lr.warmup_samples = 12, o.lr.style = "linear";
  const auto rises = [](const Ran& ran) {
    int count = 0;
    for (size_t i = 1; i < ran.lines.size(); ++i)
      count += std::stod(ran.lines[i].loss) > std::stod(ran.lines[i - 1].loss);
    return count;
  };
  EXPECT_GT(rises(run(o)), 0) << "no loss rises: the test proves nothing";
  o.skip_spiky_loss = true, o.spiky_loss_threshold = 1e-9;
  const Ran ran = run(o);
  int64_t skipped = 0;
  double last = 0, rate = -1;
  for (const Line& line : ran.lines) {
    if (line.skipped) {
      EXPECT_GT(line.iteration, 3) << "in the warm-up";
      EXPECT_EQ(line.loss, "");
      EXPECT_EQ(line.norm, "") << "FlagScale returns before there is one";
      EXPECT_EQ(line.rate, rate) << "the schedule stands still";
      EXPECT_EQ(line.nan, 0);
      ++skipped;
    } else {
      if (line.iteration > 4) {
        EXPECT_LE(std::stod(line.loss), last * (1 + 1e-6));
      }
      last = std::stod(line.loss);
    }
    rate = line.rate;
  }
  EXPECT_GT(skipped, 0);
}

TEST(Trainer, ALossOrGradientThatIsNotANumberIsNeverApplied) {
  TrainOptions once = testing::tiny_run(1);
  once.lr.lr = 1e37;  // the first update ruins the weights, and every gradient after it
  TrainOptions o = once;
  o.train_iters = 5;
  ::testing::internal::CaptureStderr();
  const Ran ran = run(o);
  EXPECT_NE(
      ::testing::internal::GetCapturedStderr().find("in the last 4 of 5 iterations: no update was made"),
      std::string::npos);
  ASSERT_EQ(ran.lines.size(), 5u);
  EXPECT_EQ(ran.lines[0].skipped, 0);
  for (size_t i = 1; i < 5; ++i) {
    EXPECT_EQ(ran.lines[i].skipped, 1) << ran.text;
    EXPECT_EQ(ran.lines[i].nan, 0) << "the loss is a number";
    EXPECT_EQ(ran.lines[i].loss, "");
    EXPECT_EQ(ran.lines[i].norm, "");
  }
  EXPECT_EQ(ran.digest, run(once).digest);
  o.log_interval = 2;
  const Ran second = run(o);
  ASSERT_EQ(second.lines.size(), 2u) << second.text;
  EXPECT_EQ(second.lines[0].skipped, 1) << "the second; the first one was made";
  EXPECT_EQ(second.lines[0].loss, ran.lines[0].loss);
  EXPECT_EQ(second.lines[1].skipped, 2);

  o.lr.lr = 1e-2;
  o.model.init_std = std::numeric_limits<float>::quiet_NaN();
  for (const Line& line : run(o).lines) {
    EXPECT_EQ(line.skipped, 2);
    EXPECT_EQ(line.nan, 2);
  }
}

TEST(Trainer, ARunThatHasDivergedStopsAndKeepsItsGoodCheckpoints) {
  const TemporaryFolder folder;
  TrainOptions o = testing::tiny_run(40);
  o.lr.lr = 1e37;
  o.save = folder.path + "/c", o.save_interval = 1, o.keep_last = 1;
  try {
    run(o);
    FAIL() << "it went on";
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find("in each of the last 10 iterations, up to 11"),
              std::string::npos)
        << error.what();
  }
  EXPECT_EQ(io::Checkpoint(o.save).state().iteration, 1) << "the last step that was made";
}

TEST(Trainer, RefusesWhatCannotBePlannedInTime) {
  TrainOptions o = testing::tiny_run(1);
  o.model.num_layers = 1 << 20, o.model.hidden_size = o.model.intermediate_size = 1 << 20;
  EXPECT_THROW(Trainer trainer(o), Error);
}

// Of the checkpoint's weights, by a step of one's own; and training goes on as if nothing had been.
TEST(Trainer, EvaluatesOnHeldOutData) {
  const Ran plain = run(testing::tiny_run());
  TrainOptions o = testing::tiny_run();
  o.eval_interval = 2, o.eval_iters = 2;
  const Ran ran = run(o);
  EXPECT_EQ(ran.digest, plain.digest);
  EXPECT_NE(ran.text.find(" validation loss at iteration 2 | lm loss value: "), std::string::npos)
      << ran.text;
  EXPECT_NE(ran.text.find(" validation loss at iteration 6 on validation set | lm loss value: "),
            std::string::npos);
  EXPECT_EQ(ran.text.find("test set"), std::string::npos) << "this split has none";

  StepOptions single = step_options(o);
  single.micro_batch_size = 1;
  TrainStep step(o.model, single);
  const auto allocator = make_cpu_allocator();
  step.allocate(*allocator);
  step.initialise(static_cast<uint64_t>(o.seed));
  const auto splits = data::build_datasets(o.data);
  const auto loss_of = [&](int64_t evaluation) {
    double loss = 0, tokens = 0;
    for (int64_t s = 8 * evaluation; s < 8 * evaluation + 8; ++s) {  // two batches of four
      data::fill_micro_batch(*splits[data::kValid], s, {}, step.inputs());
      const TrainStep::Sums sums = step.evaluate(1);
      loss += sums.loss, tokens += sums.tokens;
    }
    return loss / tokens;
  };
  o.train_iters = 2, o.eval_interval = 2, o.lr.lr = 1e-20;
  const std::string text = run(o).text;
  EXPECT_NEAR(std::stod(after(text, "lm loss value:")), loss_of(0), 1e-5);
  EXPECT_NEAR(std::stod(after(text, "lm loss PPL:")), std::exp(loss_of(0)), 1e-2);
  // The last iteration's evaluation and the one after training, as in Megatron, take samples of their own.
  EXPECT_NE(text.find("at iteration 2 | lm loss value:"), std::string::npos) << text;
  const std::string last = text.substr(text.find("on validation set"));
  EXPECT_NEAR(std::stod(after(last, "lm loss value:")), loss_of(1), 1e-5);
  EXPECT_GT(std::fabs(loss_of(1) - loss_of(0)), 1e-4);
}

TEST(Trainer, WritesMegatronsTagsUnderItsFlags) {
  const TemporaryFolder folder;
  const std::set<std::string> always{"learning-rate", "batch-size", "lm loss", "loss-scale", "grad-norm"};
  const auto tags_of = [&](const TrainOptions& o, const std::string& name) {
    TrainOptions with = o;
    with.tensorboard_dir = folder.path + "/" + name;
    const Ran ran = run(with);
    const auto scalars = scalars_in(with.tensorboard_dir);
    std::set<std::string> tags;
    for (const auto& [tag, points] : scalars) {
      const size_t axis = tag.find(" vs samples");
      if (axis == std::string::npos) {
        tags.insert(tag);
        continue;
      }
      const auto& by_iteration = scalars.at(tag.substr(0, axis));
      EXPECT_EQ(points.size(), by_iteration.size()) << tag;
      for (size_t i = 0; i < points.size(); ++i) {
        EXPECT_EQ(points[i].step, by_iteration[i].step * o.global_batch_size) << tag;
        EXPECT_EQ(points[i].value, by_iteration[i].value) << tag;
      }
    }
    for (const EventPoint& point : scalars.at("lm loss"))
      EXPECT_NEAR(point.value, std::stod(ran.lines.at(static_cast<size_t>(point.step - 1)).loss), 1e-5);
    return std::pair(tags, scalars);
  };
  TrainOptions o = testing::tiny_run(4);
  const auto [plain, plain_scalars] = tags_of(o, "plain");
  EXPECT_EQ(plain, always);
  ASSERT_EQ(plain_scalars.at("loss-scale").size(), 4u);
  for (const EventPoint& point : plain_scalars.at("loss-scale")) EXPECT_EQ(point.value, 1);

  o.events = {
      .no_loss_scale = true, .world_size = true, .timers = true, .validation_ppl = true, .memory = true};
  o.log_throughput = o.log_params_norm = o.log_num_zeros_in_grad = true;
  o.tensorboard_log_interval = 2, o.eval_interval = 2, o.eval_iters = 1;
  std::set<std::string> all = always;
  all.erase("loss-scale");
  all.insert({"world-size", "iteration-time", "throughput", "num-zeros", "params-norm", "lm loss validation",
              "lm loss validation ppl", "mem-reserved-bytes", "mem-allocated-bytes",
              "mem-max-allocated-bytes", "mem-allocated-count"});
  const auto [tags, scalars] = tags_of(o, "all");
  EXPECT_EQ(tags, all);
  EXPECT_EQ(scalars.at("lm loss").size(), 2u);
  EXPECT_EQ(scalars.at("iteration-time").size(), 4u) << "at each log line";
  EXPECT_GT(scalars.at("num-zeros")[0].value, 16 * 32) << "tokens that no sample holds have no gradient";
  EXPECT_NEAR(scalars.at("lm loss validation ppl")[0].value,
              std::exp(scalars.at("lm loss validation")[0].value), 1e-2);
  EXPECT_EQ(scalars.at("mem-allocated-bytes")[0].value,
            static_cast<double>(static_cast<float>(TrainStep(o.model, step_options(o)).memory().total())));
}

}  // namespace
}  // namespace flagscale::train
