// What a server must stand for long. Short forms here; ctest -L soak runs 10,000 cancellations and a minute
// of overload (FLAGSCALE_SOAK_CANCELLATIONS, FLAGSCALE_OVERLOAD_SECONDS).

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <random>
#include <thread>

#include "base/error.h"
#include "net/client_socket.h"
#include "serve/server_test_support.h"
#include "text/grammar.h"

namespace flagscale::serve::testing {
namespace {

using Clock = std::chrono::steady_clock;
using namespace std::chrono_literals;

int from_environment(const char* name, int otherwise) {
  const char* text = std::getenv(name);
  return text ? std::atoi(text) : otherwise;
}

int64_t descriptors() {
  const std::filesystem::directory_iterator all("/proc/self/fd");
  return std::distance(begin(all), end(all));
}

double resident_megabytes() {
  std::ifstream in("/proc/self/statm");
  double total = 0, resident = 0;
  in >> total >> resident;
  return resident * 4096 / 1e6;
}

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

// Goes away at a random moment: before its request is whole, while it waits, in the stream, at its end.
void cancel_one(const TestServer& server, std::mt19937& random) {
  TestJson body = completion(
      std::string(1 + random() % 120, 'a'),
      {{"max_tokens", 1 + random() % 120}, {"stream", random() % 2 == 0}, {"n", 1 + random() % 3}});
  if (random() % 3 == 0) body["guided_regex"] = "a{1,200}";
  const std::string text = body.dump();
  const std::string request = fmt::format(
      "POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
      "Connection: close\r\nContent-Length: {}\r\n\r\n{}",
      text.size(), text);
  net::ClientSocket socket({false, "127.0.0.1", server.port(), "/"}, {});
  if (random() % 4 == 0) return socket.write(request.substr(0, 1 + random() % (request.size() - 1)));
  socket.write(request);
  char space[512];
  for (int reads = static_cast<int>(random() % 4); reads > 0 && body["stream"] == true; --reads)
    if (socket.read(space, sizeof space) == 0) return;
  if (random() % 2 == 0) std::this_thread::sleep_for(std::chrono::microseconds(random() % 2000));
}

TEST(Soak, CancelledRequestsLeaveNothing) {
  const int cancellations = from_environment("FLAGSCALE_SOAK_CANCELLATIONS", 300);
  constexpr int kClients = 4;
  TestServer server({}, 512, 8);
  *server.step_ms = 1;  // or most would have ended before they are left
  server.post("/v1/completions", completion("warm", {{"guided_regex", "[a-z]+"}}));
  const int64_t before = descriptors();
  std::vector<std::thread> clients;
  for (int c = 0; c < kClients; ++c)
    clients.emplace_back([&, c] {
      std::mt19937 random(static_cast<unsigned>(c));
      for (int i = 0; i < cancellations / kClients; ++i) cancel_one(server, random);
    });
  for (std::thread& client : clients) client.join();
  *server.step_ms = 0;
  const auto settled = [&] {
    return server.metric("vllm:num_requests_running") == 0 &&
           server.metric("vllm:num_requests_waiting") == 0 &&
           server.metric("vllm:kv_cache_usage_perc") == 0 && server.get("/load")["server_load"] == 0 &&
           descriptors() <= before;
  };
  for (int i = 0; i < 1000 && !settled(); ++i) std::this_thread::sleep_for(10ms);
  EXPECT_EQ(server.metric("vllm:num_requests_running"), 0);
  EXPECT_EQ(server.metric("vllm:num_requests_waiting"), 0);
  EXPECT_EQ(server.metric("vllm:kv_cache_usage_perc"), 0);
  EXPECT_EQ(server.get("/load")["server_load"], 0);  // a generation in the making holds its job and its sink
  for (int i = 0; i < 1000 && text::GrammarMatcher::alive() > 0; ++i) std::this_thread::sleep_for(10ms);
  EXPECT_EQ(text::GrammarMatcher::alive(), 0);
  // The questions above had connections too, whose other end closes a moment later.
  for (int i = 0; i < 1000 && descriptors() > before; ++i) std::this_thread::sleep_for(10ms);
  EXPECT_LE(descriptors(), before);
  // A quarter was never whole; of the others few have ended before their client was gone.
  const std::string aborts =
      "vllm:request_success_total{model_name=\"scripted\",engine=\"0\",finished_reason=\"abort\"} ";
  const std::string metrics = server.send("GET", "/metrics").body;
  ASSERT_NE(metrics.find(aborts), std::string::npos);
  EXPECT_GE(std::atoi(metrics.c_str() + metrics.find(aborts) + aborts.size()), cancellations / 2);
  EXPECT_EQ(server.post("/v1/completions", completion("goes on"))["choices"][0]["text"], "goes on");
}

struct Load {
  std::atomic<int64_t> done{0}, refused{0}, other{0};
  std::mutex mutex;
  std::vector<double> refusal_seconds;
};

void send_one(net::Client& client, const std::string& body, Load& load) {
  const auto start = Clock::now();
  const net::Response response =
      client.send("POST", "/v1/completions", body, {{"Content-Type", "application/json"}});
  if (response.status == 200) {
    ++load.done;
  } else if (response.status == 429 && !response.header("Retry-After").empty()) {
    ++load.refused;
    const std::lock_guard lock(load.mutex);
    load.refusal_seconds.push_back(seconds_since(start));
  } else {
    ++load.other;
  }
}

// Clients for some seconds; rate 0: each asks again when it has its answer, else so many requests a second.
void drive(const TestServer& server, int clients, double rate, double seconds, Load& load) {
  const std::string body = completion("sixteen letters!", {{"max_tokens", 16}}).dump();
  const auto start = Clock::now();
  std::vector<std::thread> threads;
  for (int c = 0; c < clients; ++c)
    threads.emplace_back([&, c] {
      net::Client client = server.client();
      for (int64_t i = 0; seconds_since(start) < seconds; ++i) {
        if (rate > 0) {
          const double due = static_cast<double>(i * clients + c) / rate;
          if (due >= seconds) return;
          std::this_thread::sleep_until(
              start + std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(due)));
        }
        send_one(client, body, load);
      }
    });
  for (std::thread& thread : threads) thread.join();
}

TEST(Soak, TenfoldOverloadIsRefusedAndServedOn) {
  const double seconds = from_environment("FLAGSCALE_OVERLOAD_SECONDS", 2);
  ServiceConfig config;
  config.max_queued_requests = 16;
  TestServer server(config, 512, 8);
  *server.step_ms = 5;
  Load peak;
  drive(server, 24, 0, std::min(seconds, 10.0), peak);
  const double best = static_cast<double>(peak.done) / std::min(seconds, 10.0);
  const double memory = resident_megabytes();
  Load load;
  drive(server, 96, 10 * best, seconds, load);
  auto& times = load.refusal_seconds;
  std::sort(times.begin(), times.end());
  const double goodput = static_cast<double>(load.done) / seconds;
  const double growth = resident_megabytes() - memory;
  const double p99 = times.empty() ? 0 : times[times.size() * 99 / 100] * 1e3;
  fmt::print(
      "overload for {:.0f} s: peak {:.1f}/s, offered {:.0f}/s, goodput {:.1f}/s ({:.1f} % of peak), {} "
      "refusals "
      "with 429, p99 {:.1f} ms; resident memory {:+.1f} MB\n",
      seconds, best, 10 * best, goodput, 100 * goodput / best, load.refused.load(), p99, growth);
  EXPECT_EQ(load.other, 0);
  EXPECT_GT(load.refused, load.done);
  EXPECT_GT(goodput, 0.5 * best);
  EXPECT_LT(growth, 64);
}

}  // namespace
}  // namespace flagscale::serve::testing
