#include "io/checkpoint.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <limits>
#include <utility>

#include "io/atomic_file.h"
#include "io/io_test_support.h"

namespace flagscale::io {
namespace {

namespace fs = std::filesystem;

// A checkpoint's content, all of it a function of the iteration.
struct Content {
  explicit Content(int64_t iteration, size_t count = 1000) : weight(count), moment(count) {
    state.iteration = iteration;
    state.consumed_samples = iteration * 8;
    state.threads = 2;
    state.instruction_set = "avx2";
    state.config = "seed: 1\n";
    state.extra["loss"] = exact_text(static_cast<double>(iteration) / 3);
    for (size_t i = 0; i < count; ++i) weight[i] = static_cast<float>(iteration) + static_cast<float>(i);
    for (size_t i = 0; i < count; ++i) moment[i] = -weight[i];
  }
  std::vector<TensorSlice> slices() const {
    const auto n = static_cast<int64_t>(weight.size());
    return {whole_tensor("w", DType::kF32, {n / 10, 10}, std::as_bytes(std::span(weight))),
            whole_tensor("exp_avg:w", DType::kF32, {n / 10, 10}, std::as_bytes(std::span(moment)))};
  }
  TrainingState state;
  std::vector<float> weight, moment;
};

void expect_content(const std::string& path, int64_t iteration, size_t count = 1000) {
  const Checkpoint checkpoint(path);
  const Content content(iteration, count);
  EXPECT_EQ(checkpoint.state().iteration, iteration);
  EXPECT_EQ(checkpoint.state().consumed_samples, content.state.consumed_samples);
  EXPECT_EQ(checkpoint.state().extra, content.state.extra);
  std::vector<float> weight(count), moment(count);
  checkpoint.read("w", std::as_writable_bytes(std::span(weight)));
  checkpoint.read("exp_avg:w", std::as_writable_bytes(std::span(moment)));
  EXPECT_EQ(weight, content.weight);
  EXPECT_EQ(moment, content.moment);
}

void damage(const std::string& path, size_t at) {
  std::string text = read_file(path);
  text[at] = static_cast<char>(text[at] ^ 16);
  write_file(path, text);
}

TEST(Checkpoint, ReadsTheVersion1Golden) {
  const Checkpoint checkpoint(golden("checkpoints"));
  EXPECT_EQ(checkpoint.version(), 1);
  EXPECT_EQ(checkpoint.state().iteration, 7);
  EXPECT_EQ(checkpoint.state().consumed_samples, 448);
  EXPECT_EQ(checkpoint.state().config, "train:\n  model:\n    seed: 42\n");
  EXPECT_EQ(parse_exact(checkpoint.state().extra.at("loss")), 3.0);
  checkpoint.verify();
  const auto expected = open_weights(golden("checkpoint.safetensors"));
  for (const TensorInfo& info : expected->tensors()) {
    std::vector<float> values(static_cast<size_t>(info.numel()));
    checkpoint.read(info.name, std::as_writable_bytes(std::span(values)));
    EXPECT_EQ(values, expected->read_f32(info.name)) << info.name;
  }
  const auto weights = open_weights(golden("checkpoints"));
  EXPECT_EQ(weights->find("exp_avg:norm"), nullptr);
  EXPECT_EQ(weights->read_f32("cut"), expected->read_f32("cut"));
}

TEST(Checkpoint, EverySliceOfATensorCutInFour) {
  const Checkpoint checkpoint(golden("checkpoints"));
  const auto all = open_weights(golden("checkpoint.safetensors"))->read_f32("cut");  // [4, 6]
  for (int64_t r = 0; r < 4; ++r)
    for (int64_t c = 0; c < 6; ++c)
      for (int64_t h = 1; r + h <= 4; ++h)
        for (int64_t w = 1; c + w <= 6; ++w) {
          std::vector<float> part(static_cast<size_t>(h * w));
          const int64_t start[] = {r, c}, size[] = {h, w};
          checkpoint.read("cut", start, size, std::as_writable_bytes(std::span(part)));
          for (int64_t i = 0; i < h; ++i)
            for (int64_t j = 0; j < w; ++j)
              ASSERT_EQ(part[static_cast<size_t>(i * w + j)], all[static_cast<size_t>((r + i) * 6 + c + j)]);
        }
}

TEST(Checkpoint, SavesAndLoads) {
  const TemporaryFolder folder;
  CheckpointWriter writer(folder.path + "/deep/run");
  const Content first(10), second(20);
  writer.start(first.state, first.slices());
  writer.start(second.state, second.slices());  // waits for the first
  writer.wait();
  expect_content(folder.path + "/deep/run", 20);
  expect_content(folder.path + "/deep/run/iter_0000010", 10);
  const Content again(10);
  writer.save(again.state, again.slices());  // the same iteration again, as after a rollback
  expect_content(folder.path + "/deep/run", 10);
  EXPECT_EQ(std::distance(fs::directory_iterator(folder.path + "/deep/run"), {}), 3);  // nothing left aside
}

TEST(Checkpoint, ShardsAreCutBySizeAndSlicesJoin) {
  const TemporaryFolder folder;
  const std::vector<float> top{1, 2, 3, 4}, bottom{5, 6};
  TrainingState state;
  state.iteration = 1;
  const std::vector<TensorSlice> snapshot{
      {"w", DType::kF32, {3, 2}, {0, 0}, {2, 2}, std::as_bytes(std::span(top))},
      {"w", DType::kF32, {3, 2}, {2, 0}, {1, 2}, std::as_bytes(std::span(bottom))}};
  CheckpointWriter(folder.path, {.keep_last = 0, .max_file_bytes = 16}).save(state, snapshot);
  EXPECT_TRUE(fs::exists(folder.path + "/iter_0000001/rank_00000_00001.safetensors"));
  EXPECT_EQ(open_weights(folder.path)->read_f32("w"), (std::vector<float>{1, 2, 3, 4, 5, 6}));
}

// Of memory that start()'s caller may change: read once, and the save is over then.
TEST(Checkpoint, SlicesMayBeReadInPieces) {
  const TemporaryFolder folder;
  constexpr size_t kCount = 600000;  // more than one piece
  const Content content(3, kCount);
  CheckpointWriter writer(folder.path + "/read"), plain(folder.path + "/plain");
  std::vector<TensorSlice> slices = content.slices();
  size_t read = 0;
  for (TensorSlice& slice : slices)
    slice.read = [&read, data = std::exchange(slice.data, {})](size_t at, std::span<std::byte> to) {
      std::ranges::copy(data.subspan(at, to.size()), to.begin());
      read += to.size();
    };
  writer.start(content.state, slices);
  EXPECT_FALSE(writer.busy());
  EXPECT_EQ(read, 2 * kCount * sizeof(float));
  expect_content(folder.path + "/read", 3, kCount);
  plain.save(content.state, content.slices());
  const std::string file = "/iter_0000003/rank_00000_00000.safetensors";
  EXPECT_EQ(read_file(folder.path + "/read" + file), read_file(folder.path + "/plain" + file));
}

TEST(Checkpoint, OneWriterAFolder) {
  const TemporaryFolder folder;
  const auto refusal = [](const std::string& dir) { return error_of([&] { CheckpointWriter writer(dir); }); };
  {
    const CheckpointWriter first(folder.path + "/made/anew");
    EXPECT_NE(refusal(folder.path + "/made/anew").find("another run saves into"), std::string::npos);
  }
  EXPECT_EQ(refusal(folder.path + "/made/anew"), "");
  EXPECT_NE(refusal(folder.put("file", "")).find("cannot save checkpoints into"), std::string::npos);
}

TEST(Checkpoint, KeepsTheLast) {
  const TemporaryFolder folder;
  fs::create_directories(folder.path + "/iter_0000003.tmp");  // a killed process left it
  put(folder.path + "/iter_0000003.tmp/rank_00000_00000.safetensors", "half");
  CheckpointWriter writer(folder.path, {.keep_last = 2});
  for (const int64_t i : {5, 10, 15, 20}) {
    const Content content(i);
    writer.save(content.state, content.slices());
  }
  const auto left = list_checkpoints(folder.path);
  ASSERT_EQ(left.size(), 2u);
  expect_content(left[0], 15);
  expect_content(left[1], 20);
  EXPECT_EQ(std::distance(fs::directory_iterator(folder.path), {}), 3);
}

TEST(Checkpoint, NamesTheDamagedFileAndOffersTheNewestWholeOne) {
  const TemporaryFolder folder;
  CheckpointWriter writer(folder.path);
  for (const int64_t i : {5, 10, 15}) {
    const Content content(i);
    writer.save(content.state, content.slices());
  }
  damage(folder.path + "/iter_0000015/rank_00000_00000.safetensors", 3000);
  damage(folder.path + "/iter_0000010/manifest.json", 200);
  const std::string error = error_of([&] { Checkpoint(folder.path).verify(); });
  EXPECT_NE(error.find("iter_0000015/rank_00000_00000.safetensors: tensor 'w' is damaged"), error.npos)
      << error;
  EXPECT_NE(error.find("iter_0000005: give that path instead"), error.npos) << error;
  EXPECT_EQ(newest_whole_checkpoint(folder.path), folder.path + "/iter_0000005");
  const std::string manifest = error_of([&] { Checkpoint(folder.path + "/iter_0000010"); });
  EXPECT_NE(manifest.find("iter_0000010/manifest.json: damaged (checksum mismatch)"), manifest.npos)
      << manifest;
  fs::resize_file(folder.path + "/iter_0000015/rank_00000_00000.safetensors", 100);
  EXPECT_NE(error_of([&] { Checkpoint c(folder.path); }).find("cut off"), std::string::npos);
  fs::remove_all(folder.path + "/iter_0000015");
  EXPECT_NE(error_of([&] { Checkpoint c(folder.path); }).find("iter_0000005: give that path instead"),
            std::string::npos);
}

TEST(Checkpoint, RefusesANewerVersionByName) {
  const TemporaryFolder folder;
  fs::copy(golden("checkpoints"), folder.path, fs::copy_options::recursive);
  const std::string path = folder.path + "/iter_0000007/manifest.json";
  std::string text = read_file(path);
  write_file(path, text.replace(text.find("\"version\": 1"), 12, "\"version\": 2"));
  const std::string error = error_of([&] { Checkpoint c(folder.path); });
  EXPECT_NE(error.find("unsupported"), error.npos) << error;
  EXPECT_NE(error.find("format version 2 is newer than this program reads (1)"), error.npos) << error;
}

TEST(Checkpoint, WrongSlicesAndNamesAreErrors) {
  const Checkpoint checkpoint(golden("checkpoints"));
  std::vector<std::byte> out(16);
  const int64_t start[] = {3, 0}, size[] = {2, 2}, one[] = {1};
  EXPECT_NE(error_of([&] { checkpoint.read("cut", start, size, out); }).find("'cut' is [4, 6]"),
            std::string::npos);
  EXPECT_NE(error_of([&] { checkpoint.read("cut", one, one, out); }).find("2 dimensions"), std::string::npos);
  EXPECT_NE(error_of([&] { checkpoint.read("none", out); }).find("'none'"), std::string::npos);
}

TEST(Checkpoint, NumbersAreExact) {
  for (const double value : {0.1, -0.0, 1e-320, std::numeric_limits<double>::infinity()})
    EXPECT_EQ(parse_exact(exact_text(value)), value);
  EXPECT_TRUE(std::signbit(parse_exact(exact_text(-0.0))));
  EXPECT_TRUE(std::isnan(parse_exact(exact_text(std::nan("")))));
  EXPECT_NE(error_of([] { parse_exact("x"); }), "");
}

// Runs body in a child process and returns its exit status; the child dies on an exception.
template <class Body>
pid_t in_child(Body body) {
  const pid_t child = fork();
  if (child == 0) {
    body();
    _exit(0);
  }
  return child;
}

TEST(Checkpoint, AKillAtAnyMomentLeavesAWholeOne) {
  const TemporaryFolder folder;
  constexpr size_t kCount = 400'000;
  // How long a save takes here, so that the kills below fall before, into and behind one.
  const auto start = std::chrono::steady_clock::now();
  const pid_t alone = in_child([&] {
    CheckpointWriter writer(folder.path, {.keep_last = 2});
    const Content content(1, kCount);
    writer.save(content.state, content.slices());
  });
  waitpid(alone, nullptr, 0);
  const std::chrono::duration<double, std::micro> once = std::chrono::steady_clock::now() - start;
  int64_t newest = 1;
  for (int round = 0; round < 12 || (newest == 1 && round < 60); ++round) {
    const int64_t first = newest + 1;
    const pid_t child = in_child([&] {
      CheckpointWriter writer(folder.path, {.keep_last = 2});
      for (int64_t i = first;; ++i) {
        const Content content(i, kCount);
        writer.save(content.state, content.slices());
      }
    });
    const int halves = 1 + round % 6 + round / 12;
    usleep(static_cast<useconds_t>(once.count() * halves / 2));
    kill(child, SIGKILL);
    waitpid(child, nullptr, 0);
    const int64_t found = Checkpoint(folder.path).state().iteration;
    EXPECT_GE(found, newest);
    newest = found;
    expect_content(folder.path, newest, kCount);
    for (const std::string& whole : list_checkpoints(folder.path))
      EXPECT_NO_THROW(Checkpoint(whole).verify()) << whole;
  }
  EXPECT_GT(newest, 1) << "no save was ever complete before its process was killed";
}

TEST(Checkpoint, AFullDiskLeavesTheOldOneAndNothingBeside) {
  const TemporaryFolder folder;
  const Content old(1);
  CheckpointWriter(folder.path).save(old.state, old.slices());
  const pid_t child = in_child([&] {
    signal(SIGXFSZ,
           SIG_IGN);  // a file beyond the limit fails with EFBIG, as a write to a full disk does with ENOSPC
    const rlimit limit{100'000, 100'000};
    setrlimit(RLIMIT_FSIZE, &limit);
    const Content content(2, 100'000);
    CheckpointWriter writer(folder.path);
    const std::string error = error_of([&] { writer.save(content.state, content.slices()); });
    _exit(error.find("resource: cannot save checkpoint") == 0 &&
                  error.find("cannot write after") != error.npos
              ? 7
              : 1);
  });
  int status = 0;
  waitpid(child, &status, 0);
  EXPECT_EQ(WEXITSTATUS(status), 7);
  EXPECT_EQ(std::distance(fs::directory_iterator(folder.path), {}), 2);
  expect_content(folder.path, 1);
}

TEST(AtomicFile, NoPermissionAndNoFolderAreErrors) {
  const TemporaryFolder folder;
  EXPECT_NE(error_of([&] { write_file(folder.path + "/none/x", "a"); }).find("not found"), std::string::npos);
  fs::permissions(folder.path, fs::perms(0555));
  const pid_t child = in_child([&] {
    if (geteuid() == 0 && seteuid(65534) != 0) _exit(1);  // root writes everywhere
    const std::string error = error_of([&] { write_file(folder.path + "/x", "a"); });
    _exit(error.find("resource") == 0 && error.find("Permission denied") != error.npos ? 7 : 1);
  });
  int status = 0;
  waitpid(child, &status, 0);
  EXPECT_EQ(WEXITSTATUS(status), 7);
  fs::permissions(folder.path, fs::perms::owner_all);
}

TEST(AtomicFile, WithoutCommitNothingIsThere) {
  const TemporaryFolder folder;
  write_file(folder.path + "/x", "old");
  {
    AtomicFile file(folder.path + "/x");
    file.write("new");
  }
  EXPECT_EQ(read_file(folder.path + "/x"), "old");
  EXPECT_EQ(std::distance(fs::directory_iterator(folder.path), {}), 1);
}

}  // namespace
}  // namespace flagscale::io
