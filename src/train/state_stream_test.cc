// The schedule of offloaded states, on lanes that do what they are asked as late, and in as odd an order, as
// their marks allow.
#include "train/state_stream.h"

#include <gtest/gtest.h>

#include <deque>
#include <functional>
#include <map>
#include <random>

namespace flagscale::train {
namespace {

class QueuedLanes final : public Lanes {
 public:
  void copy(Lane lane, void* to, const void* from, size_t bytes) override {
    const auto* source = static_cast<const std::byte*>(from);
    ask(lane, [=] { std::copy(source, source + bytes, static_cast<std::byte*>(to)); });
  }
  void mark(Lane lane, size_t mark) override {
    ASSERT_LT(mark, 9u);
    const int times = ++set_[mark];
    ask(lane, [=, this] { reached_[mark] = times; });
  }
  void wait(Lane lane, size_t mark) override { queues_[lane].push_back({{}, mark, set_[mark]}); }
  void ask(Lane lane, std::function<void()> work) { queues_[lane].push_back({std::move(work), 0, 0}); }

  // Does the first thing in a lane; false where there is none or it waits.
  bool step(Lane lane) {
    std::deque<Asked>& queue = queues_[lane];
    if (queue.empty()) return false;
    if (queue.front().work)
      queue.front().work();
    else if (reached_[queue.front().mark] < queue.front().times)
      return false;
    queue.pop_front();
    return true;
  }
  bool done() const {
    for (const auto& [lane, queue] : queues_)
      if (!queue.empty()) return false;
    return true;
  }

 private:
  struct Asked {
    std::function<void()> work;  // empty: waits for the mark to have been reached so many times
    size_t mark;
    int times;
  };
  std::map<Lane, std::deque<Asked>> queues_;
  std::map<size_t, int> set_, reached_;
};

constexpr std::array kLanes{Lane::kKernels, Lane::kIn, Lane::kOut};

// Two buckets of which an update doubles one and takes it from the other.
struct Streamed {
  explicit Streamed(Range elements, size_t before = 0)
      : stream(elements), memory(make_cpu_allocator()), launches_before(before) {
    for (int bucket = 0; bucket < 2; ++bucket) {
      away.push_back(make_tensor(*memory, {elements.size()}, DType::kF32));
      staging.push_back(make_tensor(*memory, {stream.staging_elements()}, DType::kF32));
      stream.add(away.back(), staging.back());
      for (int64_t i = 0; i < elements.size(); ++i)
        away.back().data<float>()[i] = static_cast<float>(i % 1000 + bucket);
    }
    for (size_t piece = 0, at = before; piece < stream.pieces(); ++piece, at += 2)
      stream.set_launches(at, at + 2);
  }

  void ask_update(QueuedLanes& lanes) {
    stream.start(lanes);
    for (size_t launches = 1; launches <= launches_before; ++launches) stream.launched(lanes, launches);
    for (size_t piece = 0; piece < stream.pieces(); ++piece)
      for (size_t half = 0; half < 2; ++half) {  // a piece of two weights
        lanes.ask(Lane::kKernels, [this, piece, half] { update(piece, half); });
        stream.launched(lanes, launches_before + 2 * piece + half + 1);
      }
  }

  void update(size_t piece, size_t half) {
    const Range whole = stream.piece(piece);
    const int64_t middle = whole.begin + whole.size() / 2;
    const Range some = half == 0 ? Range{whole.begin, middle} : Range{middle, whole.end};
    float *a = stream.staged(0, piece, some).data<float>(), *b = stream.staged(1, piece, some).data<float>();
    for (int64_t i = 0; i < some.size(); ++i) a[i] *= 2, b[i] -= a[i];
    updated = piece + 1;
  }

  void expect_updated(int times) const {
    for (int64_t i = 0; i < away[0].dim(0); ++i) {
      float a = static_cast<float>(i % 1000), b = a + 1;
      for (int t = 0; t < times; ++t) a *= 2, b -= a;
      ASSERT_EQ(away[0].data<float>()[i], a) << i;
      ASSERT_EQ(away[1].data<float>()[i], b) << i;
    }
  }

  StateStream stream;
  std::unique_ptr<Allocator> memory;
  std::vector<Tensor> away, staging;
  size_t launches_before, updated = 0;
};

TEST(StateStream, PiecesAreTheWholeInOrder) {
  for (const int64_t size : {16, 48, 128, 1600, 16 * 12345, 100 << 20}) {
    const StateStream stream({32, 32 + size});
    int64_t at = 32;
    for (size_t i = 0; i < stream.pieces(); ++i) {
      EXPECT_EQ(stream.piece(i).begin, at);
      EXPECT_EQ(at % 16, 0);
      EXPECT_GT(stream.piece(i).size(), 0);
      at = stream.piece(i).end;
    }
    EXPECT_EQ(at, 32 + size);
    EXPECT_LE(stream.rooms(), 3u);
    if (size >= 1600) {
      EXPECT_LE(stream.staging_elements(), size / 2) << size;
    }
    EXPECT_LE(stream.staging_elements(), 3 * (4 << 20));
  }
}

// Whatever lane is ahead.
TEST(StateStream, EveryPieceIsUpdatedOnceAnUpdateInAnyOrderThatMarksAllow) {
  std::mt19937 random(5);
  for (const int64_t size : {16, 32, 48, 1600, 5008})
    for (const size_t before : {0u, 3u})
      for (int round = 0; round < 30; ++round) {
        Streamed streamed({64, 64 + size}, before);
        for (int times = 1; times <= 2; ++times) {
          QueuedLanes lanes;
          streamed.ask_update(lanes);
          const std::array<size_t, 3> eager{1 + random() % 9, 1 + random() % 9, 1 + random() % 9};
          size_t idle = 0;
          while (!lanes.done()) {
            const size_t lane = random() % 3;
            bool moved = false;
            for (size_t i = 0; i < eager[lane] && lanes.step(kLanes[lane]); ++i) moved = true;
            idle = moved ? 0 : idle + 1;
            ASSERT_LT(idle, 1000u) << "lanes wait for one another";
          }
          streamed.expect_updated(times);
        }
      }
}

// What makes it fast: with nothing back yet all rooms are filled and updated; one more once one is back.
TEST(StateStream, NoUpdateWaitsForTheOneBeforeItToBeBack) {
  Streamed streamed({0, 1600});
  QueuedLanes lanes;
  streamed.ask_update(lanes);
  const auto run = [&](std::initializer_list<Lane> ahead) {
    for (bool moved = true; moved;) {
      moved = false;
      for (const Lane lane : ahead) moved = lanes.step(lane) || moved;
    }
  };
  run({Lane::kIn, Lane::kKernels});
  EXPECT_EQ(streamed.updated, 3u);
  for (int copied = 0; copied < 4; ++copied) ASSERT_TRUE(lanes.step(Lane::kOut));  // wait, two buckets, mark
  run({Lane::kIn, Lane::kKernels});
  EXPECT_EQ(streamed.updated, 4u);
}

}  // namespace
}  // namespace flagscale::train
