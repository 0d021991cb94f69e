// Requests cancelled at random phases leave nothing behind: no page, no grammar, no sink, no descriptor. The
// default is a short form; FLAGSCALE_SOAK_CANCELLATIONS says how many (ctest -L soak: 10,000).
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <iterator>
#include <memory>
#include <random>
#include <thread>

#include "base/error.h"
#include "engine/scripted_model_test_support.h"
#include "engine/service.h"

namespace flagscale::engine {
namespace {

int64_t descriptors() {
  const std::filesystem::directory_iterator all("/proc/self/fd");
  return std::distance(begin(all), end(all));
}

TEST(Soak, CancellationsAtRandomPhasesLeaveNothing) {
  const char* text = std::getenv("FLAGSCALE_SOAK_CANCELLATIONS");
  const int cancellations = text ? std::atoi(text) : 300;
  std::vector<std::string> pieces;
  for (int i = 0; i < 60; ++i) pieces.push_back(fmt::format("w{} ", i));
  const testing::ScriptedModel model({{"", pieces}});
  const auto tokenizer = model.tokenizer();
  RunnerOptions options;
  options.max_tokens = 24;
  options.max_sequences = 6;
  options.max_length = 128;
  options.pages = 20;
  EngineOptions engine_options;
  engine_options.tokenizer = tokenizer.get();
  engine_options.speculation = {2, 3, 1};
  const auto alive = std::make_shared<int>(0);
  const int64_t descriptors_before = descriptors();
  std::mt19937 random(5);
  int cancelled = 0;  // that had not ended
  std::atomic<int> failed{0}, events{0};
  struct Asked {
    uint64_t id;
    int choices;
    std::shared_ptr<std::atomic<int>> ended;  // choices
    bool done() const { return *ended == choices; }
  };
  {
    Service service(std::make_unique<Engine>(model.runner(options), engine_options), {64});
    std::vector<Asked> asked, left;
    while (cancelled < cancellations) {
      Request request;
      request.prompt = tokenizer->encode(std::string(1 + random() % 50, 'x'));
      request.sampling.max_tokens = static_cast<int>(1 + random() % 60);
      request.sampling.stop_ids = {model.eos};
      request.n = random() % 8 == 0 ? 3 : 1;
      request.priority = static_cast<int>(random() % 3);
      if (random() % 3 == 0) request.grammar = {"regex", "(w[0-9]+ )+"};
      try {
        const auto ended = std::make_shared<std::atomic<int>>(0);
        const uint64_t id = service.submit(request, [alive, ended, &failed, &events](const Event& event) {
          ++events;
          if (event.finish == FinishReason::kError) ++failed;
          if (event.finish != FinishReason::kNone) ++*ended;
        });
        asked.push_back({id, request.n, ended});
      } catch (const Error& error) {
        ASSERT_EQ(error.kind(), ErrorKind::kBusy) << error.what();
      }
      if (random() % 4 == 0) std::this_thread::sleep_for(std::chrono::microseconds(random() % 300));
      while (asked.size() > 12 || (!asked.empty() && random() % 2 == 0)) {
        const auto which = asked.begin() + static_cast<std::ptrdiff_t>(random() % asked.size());
        if (!which->done()) ++cancelled;
        service.cancel(which->id);
        left.push_back(std::move(*which));
        asked.erase(which);
      }
    }
    service.drain();
    // Some end between the look and the cancelling; the others never hear of their end.
    const auto cut = std::ranges::count_if(left, [](const Asked& one) { return !one.done(); });
    EXPECT_GE(cut, cancellations * 9 / 10);
    EXPECT_EQ(service.stats().kv_usage, 0);
    EXPECT_EQ(service.stats().running + service.stats().waiting, 0);
    EXPECT_EQ(alive.use_count(), 1) << "a request lives on";
    EXPECT_EQ(text::GrammarMatcher::alive(), 0);
    EXPECT_GT(events, 0);
    EXPECT_EQ(failed, 0);
    EXPECT_EQ(descriptors(), descriptors_before);
  }
}

}  // namespace
}  // namespace flagscale::engine
