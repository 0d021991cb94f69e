#include "engine/service.h"

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <fstream>
#include <future>
#include <memory>
#include <sstream>
#include <thread>

#include "base/error.h"
#include "engine/answer.h"
#include "engine/hash_runner_test_support.h"

namespace flagscale::engine {
namespace {

const std::string kModel = std::string(FLAGSCALE_SOURCE_DIR) + "/tests/golden/model/llama3";

std::unique_ptr<Engine> make_engine(int64_t sequences = 4, int64_t length = 2048) {
  std::ostringstream config;
  config << std::ifstream(kModel + "/config.json").rdbuf();
  model::DecoderConfig parsed = model::parse_config(config.str());
  parsed.max_positions = length;
  RunnerOptions options;
  options.max_tokens = 32;
  options.max_sequences = sequences;
  options.max_length = length;
  options.threads = 1;
  return std::make_unique<Engine>(std::make_unique<Runner>(parsed, *io::open_weights(kModel), options));
}

Request request_of(int max_tokens) {
  Request request;
  request.prompt = {1, 5, 9, 3};
  request.sampling.temperature = 0;
  request.sampling.max_tokens = max_tokens;
  return request;
}

// A sink with a future of the whole answer.
struct Waiter {
  Answer answer;
  std::promise<void> done;
  std::future<void> future = done.get_future();
  Sink sink() {
    return [this](Event event) {
      const bool last = event.finish != FinishReason::kNone;
      gather(answer, std::move(event));
      if (last) done.set_value();
    };
  }
};

TEST(Service, AnswersRequestsFromManyThreads) {
  Service service(make_engine(), {});
  std::vector<std::thread> threads;
  std::vector<std::vector<int32_t>> outputs(8);
  for (size_t i = 0; i < 8; ++i)
    threads.emplace_back([&, i] {
      for (int round = 0; round < 20; ++round) {
        Waiter waiter;
        service.submit(request_of(6), waiter.sink());
        waiter.future.wait();
        outputs[i] = waiter.answer.ids();
      }
    });
  for (auto& thread : threads) thread.join();
  for (const auto& ids : outputs) EXPECT_EQ(ids, outputs[0]);
  service.drain();
  const Stats stats = service.stats();
  EXPECT_EQ(stats.running + stats.waiting, 0);
  EXPECT_EQ(stats.kv_usage, 0);
  EXPECT_EQ(stats.generation_tokens, 8 * 20 * 6);
  EXPECT_EQ(stats.prompt_tokens, 8 * 20 * 4);
  EXPECT_EQ(stats.finished[static_cast<size_t>(FinishReason::kLength)], 8 * 20);
}

TEST(Service, CancelEndsTheEventsAndGivesPagesBack) {
  Service service(make_engine(), {});
  std::atomic<int> events{0};
  std::promise<void> first;
  const uint64_t id = service.submit(request_of(1500), [&](const Event&) {
    if (events++ == 0) first.set_value();
  });
  first.get_future().wait();
  service.cancel(id);
  service.cancel(id);
  service.cancel(12345);
  service.drain();
  const int seen = events;
  EXPECT_LT(seen, 1500);
  EXPECT_EQ(service.stats().kv_usage, 0);
  EXPECT_EQ(service.stats().finished[static_cast<size_t>(FinishReason::kCancelled)], 1);
  EXPECT_EQ(events, seen);
  EXPECT_LT(service.stalled_seconds(), 10);
}

class LostGpu : public ::testing::TestWithParam<bool> {};

TEST_P(LostGpu, EndsAllAndTakesNoMore) {
  RunnerOptions options;
  options.max_length = 64;
  auto runner = std::make_unique<testing::HashRunner>(64, options);
  runner->launching = GetParam();
  runner->observe = [steps = 0](auto) mutable {
    if (++steps == 3) fail(ErrorKind::kDevice, "[cuda] a kernel failed: CUDA_ERROR_UNKNOWN");
  };
  Service service(std::make_unique<Engine>(std::move(runner)), {});
  EXPECT_EQ(service.failure(), "");
  Waiter waiters[2];
  std::vector<Submission> two;
  for (Waiter& waiter : waiters) two.push_back({request_of(20), waiter.sink()});
  service.submit(std::move(two));
  for (Waiter& waiter : waiters) {
    waiter.future.wait();
    EXPECT_EQ(waiter.answer.finish, FinishReason::kError);
    EXPECT_EQ(waiter.answer.error, "[cuda] a kernel failed: CUDA_ERROR_UNKNOWN");
    EXPECT_EQ(service.failure(), waiter.answer.error) << "known to whoever has been told";
  }
  try {
    service.submit(request_of(2), [](const Event&) { FAIL() << "it was taken"; });
    FAIL() << "it was not refused";
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kDevice);
    EXPECT_EQ(error.what(), service.failure());
  }
  service.drain();
  EXPECT_EQ(service.stats().kv_usage, 0);
}

INSTANTIATE_TEST_SUITE_P(Launching, LostGpu, ::testing::Bool());

// Callers go at any time, also between two steps of which the second is under way.
TEST(Service, WhoIsCancelledWhileStepsAreLaunchedAheadLeavesOthersRight) {
  constexpr int32_t kVocab = 24;
  RunnerOptions options;
  options.max_tokens = 64, options.max_sequences = 6, options.max_length = 96, options.pages = 24;
  auto runner = std::make_unique<testing::HashRunner>(kVocab, options);
  runner->launching = true;
  Service service(std::make_unique<Engine>(std::move(runner)), {});
  std::vector<std::thread> threads;
  for (int32_t client = 0; client < 4; ++client)
    threads.emplace_back([&service, client] {
      for (int32_t round = 0; round < 60; ++round) {
        Request request = request_of(20 + client);
        request.prompt = {client, round % kVocab, round / kVocab};
        auto expected = testing::HashRunner::expected(request.prompt, 20 + client, kVocab);
        Waiter waiter;
        const auto events = std::make_shared<std::atomic<int>>(0);
        const uint64_t other = service.submit(request_of(50), [events](const Event&) { ++*events; });
        service.submit(request, waiter.sink());
        while (round % 3 > 0 && *events < round % 7) std::this_thread::yield();
        service.cancel(other);
        waiter.future.wait();
        EXPECT_EQ(waiter.answer.ids(), expected);
      }
    });
  for (auto& thread : threads) thread.join();
  service.drain();
  EXPECT_EQ(service.stats().kv_usage, 0);
  EXPECT_GT(service.stats().steps_launched_ahead, 0);
}

TEST(Service, RefusesWhenTooManyWaitAndWhenItDrains) {
  Service service(make_engine(1), {3});
  std::promise<void> go, started;
  std::shared_future<void> gate = go.get_future().share();
  std::atomic<bool> once{false};
  Waiter waiters[2];
  service.submit(request_of(2), [&](const Event&) {
    if (once.exchange(true)) return;
    started.set_value();
    gate.wait();  // the engine's thread stands still
  });
  started.get_future().wait();
  service.submit(request_of(2), [](const Event&) {});
  EXPECT_TRUE(service.has_room());
  // Three at once are more than the two for which there is room; four can never wait.
  const auto together = [&](size_t count) {
    std::vector<Submission> all(count);
    for (Submission& one : all) one = {request_of(2), [](const Event&) { FAIL() << "it was not taken"; }};
    try {
      service.submit(std::move(all));
    } catch (const Error& error) {
      return error.kind();
    }
    return ErrorKind::kConfig;  // none: they were taken
  };
  EXPECT_EQ(together(3), ErrorKind::kBusy);
  EXPECT_EQ(together(4), ErrorKind::kInvalidArgument);
  EXPECT_TRUE(service.has_room());
  std::vector<Submission> two;
  for (Waiter& waiter : waiters) two.push_back({request_of(2), waiter.sink()});
  EXPECT_EQ(service.submit(std::move(two)).size(), 2u);
  EXPECT_FALSE(service.has_room());
  try {
    service.submit(request_of(2), [](const Event&) {});
    FAIL() << "a third one may not wait beside them";
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kBusy);
  }
  EXPECT_THROW(service.submit(request_of(1 << 30), {}), Error);
  std::this_thread::sleep_for(std::chrono::milliseconds(30));
  EXPECT_GT(service.stalled_seconds(), 0.02);
  go.set_value();
  for (Waiter& waiter : waiters) waiter.future.wait();
  service.drain();
  EXPECT_THROW(service.submit(request_of(2), [](const Event&) {}), Error);
}

TEST(Service, ItsEndTellsWhatStillRuns) {
  std::vector<FinishReason> reasons;
  {
    Service service(make_engine(1), {});
    std::promise<void> first;
    std::atomic<bool> once{false};
    service.submit(request_of(2000), [&](const Event& event) {
      if (!once.exchange(true)) first.set_value();
      if (event.finish != FinishReason::kNone) reasons.push_back(event.finish);
    });
    service.submit(request_of(2000), [&](const Event& event) { reasons.push_back(event.finish); });
    first.get_future().wait();
  }
  EXPECT_EQ(reasons, std::vector<FinishReason>(2, FinishReason::kCancelled));
}

TEST(Service, CancelsOneChoiceAndIsCurrentWhenItsCallerIsTold) {
  Service service(make_engine(), {});
  Request request = request_of(40);
  request.n = 2;
  std::promise<void> done;
  std::atomic<int> ended{0};
  std::atomic<bool> cancelled{false};
  std::atomic<uint64_t> id{0};
  std::atomic<int64_t> tokens{0};
  id = service.submit(request, [&](const Event& event) {
    tokens += static_cast<int64_t>(event.tokens.size());
    EXPECT_GE(service.stats().generation_tokens, tokens);
    while (id == 0) std::this_thread::yield();  // until submit() has returned
    if (event.choice == 1) service.cancel(id, 1);
    if (event.finish == FinishReason::kCancelled) cancelled = true;
    if (event.finish != FinishReason::kNone && ++ended == 2) done.set_value();
  });
  done.get_future().wait();
  EXPECT_TRUE(cancelled);
  EXPECT_GE(tokens, 41);
  EXPECT_LT(tokens, 80);
  service.drain();
  EXPECT_EQ(service.stats().kv_usage, 0);
}

}  // namespace
}  // namespace flagscale::engine
