// bench_service [MODEL | tiny] [CLIENTS] [REQUESTS] [OUTPUT TOKENS] [PROMPT TOKENS] [THREADS] [AHEAD]
//
// CLIENTS threads each submit a request, wait for its end and submit the next. Prints requests and tokens a
// second and where the engine's thread spends a step: in the model or around it (planning, sampling,
// telling). AHEAD 0 plans each step after the one before it, 1 while that computes.
#include "engine/service.h"

#include <fmt/core.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <future>
#include <thread>

#include "engine/load.h"
#include "engine/scripted_model_test_support.h"

using namespace flagscale;
using namespace flagscale::engine;

namespace {

struct Options {
  std::string model = "tiny";
  int clients = 8, requests = 20000, output = 1, prompt = 8, threads = 1, ahead = 1;
};

std::unique_ptr<Runner> make_runner(const Options& o) {
  RunnerOptions options;
  options.max_sequences = std::max(8, o.clients);
  options.max_length = o.prompt + o.output;
  options.max_tokens = std::max(256, o.clients);
  options.threads = o.threads;
  const std::vector<testing::Script> scripts{{"", {"Hello"}}};
  if (o.model == "tiny") return testing::ScriptedModel(scripts).runner(options);
  const LoadedModel model = load_model(o.model);
  return std::make_unique<Runner>(model.config, *model.weights, options);
}

void run_client(Service& service, const Options& o, int index) {
  for (int i = 0; i < o.requests / o.clients; ++i) {
    Request request;
    for (int t = 0; t < o.prompt; ++t) request.prompt.push_back((index * 31 + i * 7 + t) % 200);
    request.sampling.temperature = 0;
    request.sampling.max_tokens = o.output;
    std::promise<void> done;
    service.submit(std::move(request), [&](const Event& event) {
      if (event.finish != FinishReason::kNone) done.set_value();
    });
    done.get_future().wait();
  }
}

}  // namespace

int main(int count, char** words) {
  Options o;
  if (count > 1) o.model = words[1];
  int* const numbers[] = {&o.clients, &o.requests, &o.output, &o.prompt, &o.threads, &o.ahead};
  for (int i = 2; i < count && i < 8; ++i) *numbers[i - 2] = std::atoi(words[i]);
  EngineOptions options;
  options.plan_ahead = o.ahead != 0;
  Service service(std::make_unique<Engine>(make_runner(o), options), {});
  const auto start = std::chrono::steady_clock::now();
  std::vector<std::thread> clients;
  for (int i = 0; i < o.clients; ++i) clients.emplace_back([&, i] { run_client(service, o, i); });
  for (auto& client : clients) client.join();
  service.drain();
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  const Stats s = service.stats();
  const auto steps = static_cast<double>(s.steps);
  fmt::print("{} clients, {} threads: {:.0f} requests/s, {:.0f} output tokens/s\n", o.clients, o.threads,
             static_cast<double>(s.finished[static_cast<size_t>(FinishReason::kLength)]) / seconds,
             static_cast<double>(s.generation_tokens) / seconds);
  fmt::print("a step: {:.1f} tokens, {:.1f} us, of these {:.1f} us ({:.2f} %) outside the model\n",
             static_cast<double>(s.step_tokens_sum) / steps, s.busy_seconds / steps * 1e6,
             (s.busy_seconds - s.model_seconds) / steps * 1e6, (1 - s.model_seconds / s.busy_seconds) * 100);
  fmt::print("planning while nothing computes: {:.1f} us a step; {:.0f} % of the steps were planned ahead\n",
             s.plan_seconds / steps * 1e6, static_cast<double>(s.steps_planned_ahead) / steps * 100);
}
