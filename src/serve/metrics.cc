#include "serve/metrics.h"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <filesystem>

namespace flagscale::serve {

namespace {

// vLLM's buckets, with finer ones below for what a small model on a processor does.
std::vector<double> first_token() {
  return {0.001, 0.002, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75,
          1,     2.5,   5,     7.5,  10,   20,   40,   80,   160, 640,  2560};
}
std::vector<double> token() {
  return {0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3,
          0.4,   0.5,    0.75,  1,    2.5,   5,    7.5,   10,  20,   40,  80};
}
std::vector<double> latency() {
  return {0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 0.3, 0.5, 0.8, 1,   1.5, 2,    2.5, 5,
          10,    15,   20,    30,   40,  50,  60,  120, 240, 480, 960, 1920, 7680};
}
std::vector<double> sizes() {
  return {1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000, 20000, 50000, 100000};
}

std::string number(double value) {
  if (std::isinf(value)) return value < 0 ? "-Inf" : "+Inf";
  return fmt::format("{}", value);
}

void head(std::string& out, const std::string& name, const char* type, const std::string& help) {
  out += fmt::format("# HELP {} {}\n# TYPE {} {}\n", name, help, name, type);
}

void single(std::string& out, const std::string& name, const char* type, const std::string& help,
            const std::string& labels, double value) {
  head(out, name, type, help);
  out += fmt::format("{}{{{}}} {}\n", name, labels, number(value));
}

// What a label's value may not have as it is.
std::string label_text(const std::string& text) {
  std::string result;
  for (const char c : text) {
    if (c == '\\' || c == '"') result += '\\';
    if (c == '\n')
      result += "\\n";
    else
      result += c;
  }
  return result;
}

void process_metrics(std::string& out) {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  const auto seconds = [](const timeval& t) {
    return static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_usec) * 1e-6;
  };
  head(out, "process_cpu_seconds_total", "counter", "Processor time used");
  out += fmt::format("process_cpu_seconds_total {}\n", seconds(usage.ru_utime) + seconds(usage.ru_stime));
  long total = 0, resident = 0;
  if (std::FILE* file = std::fopen("/proc/self/statm", "r")) {
    if (std::fscanf(file, "%ld %ld", &total, &resident) != 2) total = resident = 0;
    std::fclose(file);
  }
  const long page = sysconf(_SC_PAGESIZE);
  head(out, "process_resident_memory_bytes", "gauge", "Resident memory");
  out += fmt::format("process_resident_memory_bytes {}\n", resident * page);
  head(out, "process_virtual_memory_bytes", "gauge", "Address space");
  out += fmt::format("process_virtual_memory_bytes {}\n", total * page);
  std::error_code error;
  int64_t open = 0;
  for (std::filesystem::directory_iterator it("/proc/self/fd", error), end; !error && it != end;
       it.increment(error))
    ++open;
  head(out, "process_open_fds", "gauge", "Open descriptors");
  out += fmt::format("process_open_fds {}\n", open);
}

// The engine's steps by their number of tokens, counted in powers of two.
void step_histogram(std::string& out, const engine::Stats& stats, const std::string& labels) {
  const std::string name = "vllm:iteration_tokens_total";
  head(out, name, "histogram", "Tokens of an engine step");
  int64_t below = 0;
  for (size_t i = 0; i + 1 < stats.step_tokens.size(); ++i) {
    below += stats.step_tokens[i];
    out += fmt::format("{}_bucket{{{},le=\"{}\"}} {}\n", name, labels, int64_t{1} << i, below);
  }
  out += fmt::format("{}_bucket{{{},le=\"+Inf\"}} {}\n{}_sum{{{}}} {}\n{}_count{{{}}} {}\n", name, labels,
                     stats.steps, name, labels, stats.step_tokens_sum, name, labels, stats.steps);
}

void engine_metrics(std::string& out, const engine::Stats& s, const std::string& labels) {
  const auto gauge = [&](const char* name, const char* help, double value) {
    single(out, name, "gauge", help, labels, value);
  };
  const auto counter = [&](const char* name, const char* help, int64_t value) {
    single(out, name, "counter", help, labels, static_cast<double>(value));
  };
  gauge("vllm:num_requests_running", "Requests that compute", static_cast<double>(s.running));
  gauge("vllm:num_requests_waiting", "Requests that wait", static_cast<double>(s.waiting));
  gauge("vllm:kv_cache_usage_perc", "Share of the cache in use, 1 is all", s.kv_usage);
  counter("vllm:prefix_cache_queries_total", "Prompt tokens looked up in the prefix cache", s.prefix_queries);
  counter("vllm:prefix_cache_hits_total", "Prompt tokens found in the prefix cache", s.prefix_hits);
  counter("vllm:num_preemptions_total", "Requests that gave their cache back and began anew", s.preemptions);
  counter("vllm:prompt_tokens_total", "Prompt tokens computed", s.prompt_tokens);
  counter("vllm:generation_tokens_total", "Tokens generated", s.generation_tokens);
  counter("vllm:spec_decode_num_drafts_total", "Speculation drafts", s.drafts);
  counter("vllm:spec_decode_num_draft_tokens_total", "Tokens of drafts", s.draft_tokens);
  counter("vllm:spec_decode_num_accepted_tokens_total", "Tokens of drafts that stood", s.accepted_tokens);
  const std::string by_place = "vllm:spec_decode_num_accepted_tokens_per_pos_total";
  head(out, by_place, "counter", "Tokens that stood, by their place in the draft");
  for (size_t i = 0; i < s.accepted_at.size(); ++i)
    out += fmt::format("{}{{{},position=\"{}\"}} {}\n", by_place, labels, i, s.accepted_at[i]);
  counter("flagscale:engine_steps_total", "Steps of the engine", s.steps);
  single(out, "flagscale:engine_busy_seconds_total", "counter", "Seconds in steps", labels, s.busy_seconds);
  single(out, "flagscale:engine_model_seconds_total", "counter", "Seconds of these in the model", labels,
         s.model_seconds);
  step_histogram(out, s, labels);
}

}  // namespace

void Histogram::observe(double value) {
  const size_t bucket =
      static_cast<size_t>(std::lower_bound(bounds_.begin(), bounds_.end(), value) - bounds_.begin());
  const std::lock_guard lock(mutex_);
  ++counts_[bucket];
  sum_ += value;
}

void Histogram::write(std::string& out, const std::string& name, const std::string& help,
                      const std::string& labels) const {
  head(out, name, "histogram", help);
  const std::lock_guard lock(mutex_);
  int64_t below = 0;
  for (size_t i = 0; i < counts_.size(); ++i) {
    below += counts_[i];
    out += fmt::format("{}_bucket{{{},le=\"{}\"}} {}\n", name, labels,
                       i < bounds_.size() ? fmt::format("{:#}", bounds_[i]) : "+Inf", below);
  }
  out += fmt::format("{}_sum{{{}}} {}\n{}_count{{{}}} {}\n", name, labels, sum_, name, labels, below);
}

Metrics::Metrics()
    : time_to_first_token(first_token()),
      inter_token_latency(token()),
      time_per_output_token(token()),
      e2e_latency(latency()),
      queue_time(latency()),
      prefill_time(latency()),
      decode_time(latency()),
      inference_time(latency()),
      prompt_tokens(sizes()),
      generation_tokens(sizes()),
      max_generation_tokens(sizes()),
      params_n({1, 2, 5, 10, 20}),
      params_max_tokens(sizes()),
      http_duration({0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 10, 60}) {}

void Metrics::count_finish(const std::string& reason) {
  const std::lock_guard lock(mutex_);
  ++finished_[reason];
}

void Metrics::count_http(const std::string& handler, const std::string& method, int status, double seconds) {
  http_duration.observe(seconds);
  const std::lock_guard lock(mutex_);
  ++http_[{handler, method, status}];
}

std::string lora_requests_info(int most, const std::set<std::string>& running,
                               const std::set<std::string>& waiting) {
  std::string out;
  const std::chrono::duration<double> now = std::chrono::system_clock::now().time_since_epoch();
  single(out, "vllm:lora_requests_info", "gauge", "LoRA adapters that requests use; the value is the time",
         fmt::format("max_lora=\"{}\",running_lora_adapters=\"{}\",waiting_lora_adapters=\"{}\"", most,
                     label_text(fmt::format("{}", fmt::join(running, ","))),
                     label_text(fmt::format("{}", fmt::join(waiting, ",")))),
         now.count());
  return out;
}

std::string Metrics::text(const engine::Stats& stats, const std::string& model, const Cache& cache,
                          const std::string& lora) const {
  const std::string labels = fmt::format("model_name=\"{}\",engine=\"0\"", label_text(model));
  std::string out;
  engine_metrics(out, stats, labels);
  single(out, "vllm:cache_config_info", "gauge", "The cache",
         fmt::format("{},block_size=\"{}\",num_gpu_blocks=\"{}\",cache_dtype=\"{}\"", labels,
                     cache.block_size, cache.blocks, cache.dtype),
         1);
  out += lora;
  time_to_first_token.write(out, "vllm:time_to_first_token_seconds",
                            "From a request's arrival to its first token", labels);
  inter_token_latency.write(out, "vllm:inter_token_latency_seconds", "Between tokens of an answer", labels);
  time_per_output_token.write(out, "vllm:request_time_per_output_token_seconds",
                              "Mean time between a request's tokens", labels);
  e2e_latency.write(out, "vllm:e2e_request_latency_seconds", "From a request's arrival to its last token",
                    labels);
  queue_time.write(out, "vllm:request_queue_time_seconds", "From a request's arrival to its first step",
                   labels);
  prefill_time.write(out, "vllm:request_prefill_time_seconds",
                     "From a request's first step to its first token", labels);
  inference_time.write(out, "vllm:request_inference_time_seconds",
                       "From a request's first step to its last token", labels);
  decode_time.write(out, "vllm:request_decode_time_seconds", "From a request's first token to its last",
                    labels);
  prompt_tokens.write(out, "vllm:request_prompt_tokens", "Prompt tokens of a request", labels);
  generation_tokens.write(out, "vllm:request_generation_tokens", "Generated tokens of a request", labels);
  max_generation_tokens.write(out, "vllm:request_max_num_generation_tokens",
                              "Generated tokens of a request's longest choice", labels);
  params_n.write(out, "vllm:request_params_n", "n of requests", labels);
  params_max_tokens.write(out, "vllm:request_params_max_tokens", "max_tokens of requests", labels);
  const std::lock_guard lock(mutex_);
  head(out, "vllm:request_success_total", "counter", "Requests that ended, by reason");
  for (const char* reason : {"stop", "length", "abort", "error"}) {
    const auto it = finished_.find(reason);
    out += fmt::format("vllm:request_success_total{{{},finished_reason=\"{}\"}} {}\n", labels, reason,
                       it == finished_.end() ? 0 : it->second);
  }
  head(out, "http_requests_total", "counter", "HTTP requests");
  for (const auto& [key, count] : http_)
    out += fmt::format("http_requests_total{{handler=\"{}\",method=\"{}\",status=\"{}\"}} {}\n",
                       label_text(std::get<0>(key)), label_text(std::get<1>(key)), std::get<2>(key), count);
  http_duration.write(out, "http_request_duration_seconds", "Time to an HTTP answer", "handler=\"all\"");
  process_metrics(out);
  return out;
}

}  // namespace flagscale::serve
