// Where a run starts from: nothing, its own checkpoint, a model, an adapter; and what it refuses to start
// with.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <cstring>
#include <filesystem>
#include <fstream>
#include <optional>
#include <sstream>

#include "base/error.h"
#include "base/temporary_folder_test_support.h"
#include "data/indexed_writer.h"
#include "io/checkpoint.h"
#include "model/peft.h"
#include "train/run_test_support.h"
#include "train/trainer.h"

namespace flagscale::train {
namespace {

using testing::Line;
using testing::Ran;
using testing::run;

TEST(Trainer, TellsTheStepOfDataWithMasks) {
  TrainOptions o = testing::tiny_run(1);
  EXPECT_FALSE(step_options(o).masked);
  o.data.sft = true;
  EXPECT_TRUE(step_options(o).masked);
  o.data.sft = false, o.data.separated_loss_mask = true;
  EXPECT_TRUE(step_options(o).masked);
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
  const std::string source = FLAGSCALE_SOURCE_DIR "/tests/golden/model/qwen2";
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
    EXPECT_EQ(std::memcmp(want.data(), state.weight.raw(), state.weight.bytes()), 0) << state.name;
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
  o.save = folder.path + "/run/checkpoints", o.tensorboard_dir = folder.path + "/run/events";
  try {
    run(o);
    ADD_FAILURE() << "it ran";
  } catch (const Error& error) {
    const std::string text = error.what();
    for (const char* way : {"set load to the folder of one", "finetune: false to start from random weights"})
      EXPECT_NE(text.find(way), std::string::npos) << text;
  }
  EXPECT_FALSE(std::filesystem::exists(folder.path + "/run")) << "nothing half-made";
  o.load.clear();
  ::testing::internal::CaptureStderr();
  EXPECT_EQ(run(o).lines.size(), 1u);
  EXPECT_NE(::testing::internal::GetCapturedStderr().find("starting from random weights"), std::string::npos);
}

}  // namespace
}  // namespace flagscale::train
