#pragma once
// What /metrics tells, under vLLM's names.

#include <array>
#include <atomic>
#include <map>
#include <mutex>
#include <set>
#include <string>
#include <tuple>
#include <vector>

#include "engine/stats.h"

namespace flagscale::serve {

// Counts of observations at most each bound. Any thread.
class Histogram {
 public:
  explicit Histogram(std::vector<double> bounds) : bounds_(std::move(bounds)), counts_(bounds_.size() + 1) {}
  void observe(double value);
  // Prometheus text; labels without braces: `model_name="m"`.
  void write(std::string& out, const std::string& name, const std::string& help,
             const std::string& labels) const;

 private:
  mutable std::mutex mutex_;
  const std::vector<double> bounds_;
  std::vector<int64_t> counts_;
  double sum_ = 0;
};

class Metrics {
 public:
  Metrics();
  Histogram time_to_first_token, inter_token_latency, time_per_output_token, e2e_latency;
  Histogram queue_time, prefill_time, decode_time, inference_time;
  Histogram prompt_tokens, generation_tokens, max_generation_tokens, params_n, params_max_tokens,
      http_duration;
  std::atomic<int64_t> in_flight{0};  // requests for the model that are not answered yet

  void count_finish(const std::string& reason);  // of a choice
  void count_http(const std::string& handler, const std::string& method, int status, double seconds);

  struct Cache {
    int64_t block_size, blocks;
    std::string dtype;
  };
  // The whole text, for Prometheus's 0.0.4 format. lora: of lora_requests_info().
  std::string text(const engine::Stats& stats, const std::string& model, const Cache& cache,
                   const std::string& lora = {}) const;

 private:
  mutable std::mutex mutex_;
  std::map<std::string, int64_t> finished_;
  std::map<std::tuple<std::string, std::string, int>, int64_t> http_;
};

// vLLM's gauge of the adapters that requests use, whose value is the time.
std::string lora_requests_info(int most, const std::set<std::string>& running,
                               const std::set<std::string>& waiting);

}  // namespace flagscale::serve
