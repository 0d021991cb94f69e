// What a run does beside arithmetic: batches that grow, data that is dropped, spikes and NaN, evaluation,
// checkpoints.
#include "train/trainer.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <limits>
#include <memory>
#include <nlohmann/json.hpp>
#include <regex>
#include <set>
#include <sstream>

#include "base/error.h"
#include "base/log.h"
#include "base/temporary_folder_test_support.h"
#include "data/indexed_writer.h"
#include "io/checkpoint.h"
#include "model/peft.h"
#include "train/event_file_test_support.h"
#include "train/run_test_support.h"

namespace flagscale::train {
namespace {

namespace fs = std::filesystem;
const std::string kGoldenFolder = FLAGSCALE_SOURCE_DIR "/tests/golden/";

struct Line {
  int64_t iteration, consumed, skipped_samples, batch, skipped, nan;
  double rate;
  std::string loss, norm;  // as printed; "" where there is none
};

std::string after(const std::string& line, const std::string& label) {
  const size_t at = line.find(label);
  if (at == std::string::npos) return "";
  std::istringstream rest(line.substr(at + label.size()));
  std::string word;
  rest >> word;
  return word;
}

struct Ran {
  TrainResult result;
  std::string text;
  std::vector<Line> lines;
  uint64_t digest = 0;  // of weights and moments
};

Ran run(const TrainOptions& options) {
  set_log_level(LogLevel::kWarning);
  Trainer trainer(options);
  auto [result, printed] = testing::run_printed(trainer);
  Ran ran{std::move(result), std::move(printed), {}, 0};
  ran.digest = testing::digest_of(trainer.step());
  std::istringstream text(ran.text);
  const auto number = [](const std::string& word) { return word.empty() ? 0 : std::stoll(word); };
  for (std::string line; std::getline(text, line);)
    if (line.find("] iteration") != std::string::npos)
      ran.lines.push_back({number(after(line, "] iteration")), number(after(line, "| consumed samples:")),
                           number(after(line, "skipped samples:")), number(after(line, "global batch size:")),
                           number(after(line, "skipped iterations:")), number(after(line, "nan iterations:")),
                           std::stod(after(line, "learning rate:")), after(line, "lm loss:"),
                           after(line, "grad norm:")});
  return ran;
}

TEST(RampUp, BatchesAreMegatrons) {
  for (const auto& c : nlohmann::json::parse(std::ifstream(kGoldenFolder + "train/rampup.json"))) {
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

TEST(Trainer, SaysWhereThereIsNoCheckpointToLoad) {
  const TemporaryFolder folder;
  TrainOptions o = testing::tiny_run(1);
  o.load = folder.path + "/none";
  EXPECT_EQ(run(o).digest, run(testing::tiny_run(1)).digest) << "a first start, as Megatron's";
  o.finetune = true;
  EXPECT_THROW(run(o), Error);
}

TEST(Trainer, RefusesAFolderThatCannotBeSavedIntoBeforeTraining) {
  const TemporaryFolder folder;
  TrainOptions o = testing::tiny_run(1);
  o.save = folder.put("file", "") + "/c";
  EXPECT_THROW(Trainer trainer(o), Error);
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

TEST(Trainer, GoesOnBitForBit) {
  for (const bool bf16 : {false, true})
    for (const bool async : {false, true}) {
      TrainOptions o = testing::tiny_run(8);
      o.compute = bf16 ? DType::kBF16 : DType::kF32;
      o.lr.lr = 0.3, o.lr.style = "WSD", o.lr.wsd_decay_samples = 8, o.lr.min_lr = 1e-3;
      o.skip_spiky_loss = true, o.spiky_loss_threshold = 1e-9, o.skip_iters = {{1, 2}};
      o.eval_interval = 3, o.eval_iters = 1, o.async_save = async;
      const Ran whole = run(o);
      const TemporaryFolder folder;
      o.save = o.load = folder.path + "/c", o.save_interval = 1;
      std::vector<Line> lines;
      for (o.exit_interval = 3; o.exit_interval < 10; o.exit_interval = o.exit_interval == 3 ? 5 : 10) {
        const Ran part = run(o);
        lines.insert(lines.end(), part.lines.begin(), part.lines.end());
      }
      o.exit_interval = 0;
      const Ran last = run(o);
      lines.insert(lines.end(), last.lines.begin(), last.lines.end());
      EXPECT_EQ(last.digest, whole.digest);
      ASSERT_EQ(lines.size(), whole.lines.size());
      for (size_t i = 0; i < lines.size(); ++i) {
        EXPECT_EQ(lines[i].loss, whole.lines[i].loss);
        EXPECT_EQ(lines[i].norm, whole.lines[i].norm);
        EXPECT_EQ(lines[i].rate, whole.lines[i].rate);
        EXPECT_EQ(lines[i].skipped_samples, whole.lines[i].skipped_samples);
      }
    }
}

TEST(Trainer, StartsFromAHuggingFaceFolder) {
  const std::string source = kGoldenFolder + "model/qwen2";
  std::ostringstream text;
  text << std::ifstream(source + "/config.json").rdbuf();
  TrainOptions o = testing::tiny_run(3);
  o.model = model::parse_config(text.str());
  o.data.vocab_size = 0, o.seq_length = o.data.sequence_length = 16, o.init_from = source;
  o.data.data_path = {};
  const TemporaryFolder folder;
  const auto weights = io::open_weights(source);
  std::vector<int32_t> ids(400);
  for (size_t i = 0; i < ids.size(); ++i)
    ids[i] = static_cast<int32_t>(i * 7 % static_cast<size_t>(o.model.vocab_size));
  o.data.data_path = {folder.path + "/d"};
  {
    std::ofstream bin(folder.path + "/d.bin", std::ios::binary),
        idx(folder.path + "/d.idx", std::ios::binary);
    bin.write(reinterpret_cast<const char*>(ids.data()), static_cast<std::streamsize>(ids.size() * 4));
    const auto put = [&](auto value) { idx.write(reinterpret_cast<const char*>(&value), sizeof value); };
    idx.write("MMIDIDX\0\0", 9);
    put(uint64_t{1}), put(uint8_t{4}), put(uint64_t{10}), put(uint64_t{11});
    for (int i = 0; i < 10; ++i) put(int32_t{40});
    for (int i = 0; i < 10; ++i) put(int64_t{i * 160});
    for (int i = 0; i <= 10; ++i) put(int64_t{i});
  }
  Trainer trainer(o);
  for (const TrainStep::State& state : trainer.step().states()) {
    const std::vector<float> want = weights->read_f32(state.name);
    ASSERT_EQ(static_cast<int64_t>(want.size()), state.size) << state.name;
    EXPECT_EQ(std::memcmp(want.data(), state.weight, want.size() * sizeof(float)), 0) << state.name;
  }
  const Ran ran = run(o);
  EXPECT_EQ(ran.result.iteration, 3);
  EXPECT_LT(std::stod(ran.lines[2].loss), std::stod(ran.lines[0].loss));
}

// A whole run first, whose last checkpoint is the base; then its adapter.
TEST(Trainer, AnAdapterGoesOnBitForBitAndHoldsNothingOfTheBase) {
  const TemporaryFolder folder;
  TrainOptions base = testing::tiny_run(1);
  base.save = folder.path + "/base";
  run(base);
  struct Held {
    DType compute;
    std::optional<op::Packing> frozen;
  };
  for (const auto& [compute, frozen] :
       {Held{DType::kF32, {}}, Held{DType::kBF16, {}}, Held{DType::kF32, op::Packing::kQ4_0},
        Held{DType::kBF16, op::Packing::kInt8}}) {
    TrainOptions o = testing::tiny_run(6);
    o.compute = compute, o.frozen = frozen;
    o.init_from = base.save;
    o.lora = LoraSpec{{"linear_qkv", "down_proj"}, 4, 8, 0.3, false, "xavier", "zero"};
    o.eval_interval = 2, o.eval_iters = 1;
    const Ran whole = run(o);
    o.save = o.load =
        fmt::format("{}/{}{}", folder.path, name(compute), frozen ? op::info(*frozen).name : "");
    o.exit_interval = 3;
    const Ran first = run(o);
    o.exit_interval = 0;
    const Ran second = run(o);
    EXPECT_EQ(second.digest, whole.digest);
    EXPECT_NE(first.digest, whole.digest);
    EXPECT_EQ(second.lines.back().loss, whole.lines.back().loss);

    const io::Checkpoint checkpoint(o.save);
    for (const io::TensorInfo& tensor : checkpoint.tensors())
      EXPECT_NE(tensor.name.find(".lora_"), std::string::npos) << tensor.name;
    const model::PeftAdapter adapter = model::open_peft(o.save);
    ASSERT_EQ(adapter.targets.size(), 4u) << "q, k and v of the fused product, and down";
    const auto values = [&](const char* module) {
      return adapter.weights->read_f32(std::string("model.layers.0.self_attn.") + module + ".lora_A.weight");
    };
    EXPECT_EQ(values("q_proj"), values("v_proj")) << "one A for the three";

    // To PEFT's folder and in again.
    const std::string peft = o.save + "-peft";
    model::export_peft(o.save, peft);
    TrainOptions again = o;
    again.adapter_from = peft, again.save.clear(), again.load.clear(), again.train_iters = 7;
    again.lr.lr = 1e-20, again.lora->dropout = 0;
    TrainOptions from_checkpoint = again;
    from_checkpoint.adapter_from = o.save;
    EXPECT_EQ(run(again).digest, run(from_checkpoint).digest);
    again.lora->rank = 2;
    EXPECT_THROW(run(again), Error);

    TrainOptions all = testing::tiny_run(6);
    all.load = o.save;
    EXPECT_THROW(run(all), Error) << "an adapter is no model";
  }
  TrainOptions none = testing::tiny_run(1);
  none.lora = LoraSpec{};
  EXPECT_THROW(run(none), Error) << "there is nothing to adapt";
  none.load = base.save;
  EXPECT_THROW(run(none), Error) << "without finetune that is a run to go on with";
  none.finetune = true;
  EXPECT_EQ(run(none).lines.size(), 1u);
}

TEST(Trainer, RefusesDataOfWhichNothingIsLearnt) {
  const TemporaryFolder folder;
  for (const char* name : {"text", "loss_mask"}) {
    data::IndexedWriter writer(fmt::format("{}/x_{}_document", folder.path, name), data::TokenType::kU16);
    for (int i = 0; i < 20; ++i) {
      std::vector<int32_t> ids(12, name == std::string("text") ? i + 1 : 0);
      writer.add_sequence(ids), writer.end_document();
    }
    writer.commit(), writer.remove_parts();
  }
  TrainOptions o = testing::tiny_run(1);
  o.data.data_path = {folder.path + "/x_text_document"};
  o.data.sft = o.mask.packed = true;
  o.save = folder.path + "/saved";
  try {
    run(o);
    ADD_FAILURE() << "it ran";
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find("no token of the training split is learnt"), std::string::npos)
        << error.what();
  }
  EXPECT_FALSE(io::is_checkpoint(o.save));
}

TEST(Trainer, FinetuneWithoutACheckpointNamesBothWaysOn) {
  const TemporaryFolder folder;
  TrainOptions o = testing::tiny_run(1);
  o.finetune = true, o.load = folder.path + "/none";
  try {
    run(o);
    ADD_FAILURE() << "it ran";
  } catch (const Error& error) {
    const std::string text = error.what();
    for (const char* way : {"set load to the folder of one", "finetune: false to start from random weights"})
      EXPECT_NE(text.find(way), std::string::npos) << text;
  }
  o.load.clear();
  ::testing::internal::CaptureStderr();
  EXPECT_EQ(run(o).lines.size(), 1u);
  EXPECT_NE(::testing::internal::GetCapturedStderr().find("starting from random weights"), std::string::npos);
}

}  // namespace
}  // namespace flagscale::train
