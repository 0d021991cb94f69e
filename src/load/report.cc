#include "load/report.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

namespace flagscale::load {

namespace {

struct Row {
  const char* key;
  const char* name;
  const char* title;
  const std::vector<double>* values;
};

std::vector<Row> rows(const ReportOptions& o, const Metrics& m) {
  std::vector<Row> all = {{"ttft", "TTFT", "Time to First Token", &m.ttft},
                          {"tpot", "TPOT", "Time per Output Token (excl. 1st token)", &m.tpot},
                          {"itl", "ITL", "Inter-token Latency", &m.itl},
                          {"e2el", "E2EL", "End-to-end Latency", &m.e2el}};
  if (o.concurrency > 0) {
    all.push_back({"client_queue_time", "Client Queue Time", "Client-side Queueing", &m.queue});
    if (!std::isinf(o.rate.rate))
      all.push_back({"e2el_including_client_queue", "E2EL incl. Client Queue",
                     "Queue-inclusive End-to-end Latency", &m.e2el_with_queue});
  }
  std::erase_if(all, [&](const Row& row) {
    return std::find(o.percentile_metrics.begin(), o.percentile_metrics.end(), row.key) ==
           o.percentile_metrics.end();
  });
  return all;
}

// 99 or 99.9, as Python writes it in a key.
std::string percent_word(double percent) { return fmt::format("{}", percent); }

// A float as Python writes it: 10.0, inf.
std::string python_float(double value) {
  if (std::isinf(value)) return "inf";
  return value == std::floor(value) && std::abs(value) < 1e15 ? fmt::format("{:.1f}", value)
                                                              : fmt::format("{}", value);
}

std::string line(const std::string& name, double value) {
  return fmt::format("{:<40} {:<10.2f}\n", name, value);
}
std::string line(const std::string& name, int64_t value) {
  return fmt::format("{:<40} {:<10}\n", name, value);
}

void add_details(const Measured& run, nlohmann::ordered_json& json) {
  for (const char* key : {"input_lens", "output_lens", "ttfts", "itls", "latencies", "start_times",
                          "queue_times", "generated_texts", "errors"})
    json[key] = nlohmann::ordered_json::array();
  for (const Record& r : run.records) {
    json["input_lens"].push_back(r.prompt_tokens);
    json["output_lens"].push_back(r.success ? r.output_tokens : 0);
    json["ttfts"].push_back(r.first_token);
    json["itls"].push_back(r.token_gaps);
    json["latencies"].push_back(r.latency);
    json["start_times"].push_back(r.start);
    json["queue_times"].push_back(r.waited);
    json["generated_texts"].push_back(r.text);
    json["errors"].push_back(r.error);
  }
}

double processor_share(const Measured& run) { return run.processor / std::max(run.seconds, 1e-9); }

}  // namespace

std::string report_text(const ReportOptions& o, const Measured& run, const Metrics& m) {
  std::string text = fmt::format(
      "{:=^50}\n", run.interrupted ? " Serving Benchmark Result, so far " : " Serving Benchmark Result ");
  text += line("Successful requests:", m.completed) + line("Failed requests:", m.failed);
  if (o.concurrency > 0) text += line("Maximum request concurrency:", o.concurrency);
  if (!std::isinf(o.rate.rate)) text += line("Request rate configured (RPS):", o.rate.rate);
  text += line("Benchmark duration (s):", run.seconds);
  text += line("Total input tokens:", m.total_input) + line("Total generated tokens:", m.total_output);
  text += line("Request throughput (req/s):", m.request_throughput);
  if (o.goodput) text += line("Request goodput (req/s):", m.request_goodput);
  text += line("Output token throughput (tok/s):", m.output_throughput);
  text += line("Peak output token throughput (tok/s):", m.most_tokens_per_second);
  text += line("Peak concurrent requests:", static_cast<double>(m.most_concurrent));
  text += line("Total token throughput (tok/s):", m.total_token_throughput);
  text += line("Client's processor (% of one core):", 100 * processor_share(run));
  for (const Row& row : rows(o, m)) {
    text += fmt::format("{:-^50}\n", row.title);
    text += line(fmt::format("Mean {} (ms):", row.name), 1e3 * mean(*row.values));
    text += line(fmt::format("Median {} (ms):", row.name), 1e3 * percentile(*row.values, 50));
    for (const double percent : o.percentiles)
      text += line(fmt::format("P{} {} (ms):", percent_word(percent), row.name),
                   1e3 * percentile(*row.values, percent));
  }
  return text + std::string(50, '=') + "\n";
}

nlohmann::ordered_json report_json(const ReportOptions& o, const Measured& run, const Metrics& m,
                                   const std::string& date) {
  const auto or_null = [](const std::string& text) {
    return text.empty() ? nlohmann::ordered_json() : nlohmann::ordered_json(text);
  };
  nlohmann::ordered_json json = {{"date", date},
                                 {"endpoint_type", o.backend},
                                 {"backend", o.backend},
                                 {"label", or_null(o.label)},
                                 {"model_id", o.model},
                                 {"tokenizer_id", or_null(o.tokenizer)},
                                 {"num_prompts", o.num_prompts}};
  for (const auto& [key, value] : o.metadata) json[key] = value;
  json["request_rate"] =
      std::isinf(o.rate.rate) ? nlohmann::ordered_json("inf") : nlohmann::ordered_json(o.rate.rate);
  json["burstiness"] = std::isinf(o.rate.burstiness) ? nlohmann::ordered_json("inf")
                                                     : nlohmann::ordered_json(o.rate.burstiness);
  json["max_concurrency"] =
      o.concurrency > 0 ? nlohmann::ordered_json(o.concurrency) : nlohmann::ordered_json();
  if (!o.rate.ramp_up.empty()) {
    json["ramp_up_strategy"] = o.rate.ramp_up;
    json["ramp_up_start_rps"] = o.rate.ramp_start;
    json["ramp_up_end_rps"] = o.rate.ramp_end;
  }
  json["duration"] = run.seconds;
  json["completed"] = m.completed;
  json["failed"] = m.failed;
  json["total_input_tokens"] = m.total_input;
  json["total_output_tokens"] = m.total_output;
  json["request_throughput"] = m.request_throughput;
  json["request_goodput"] = o.goodput ? nlohmann::ordered_json(m.request_goodput) : nlohmann::ordered_json();
  json["output_throughput"] = m.output_throughput;
  json["total_token_throughput"] = m.total_token_throughput;
  if (o.detailed) add_details(run, json);
  json["max_output_tokens_per_s"] = m.most_tokens_per_second;
  json["max_concurrent_requests"] = m.most_concurrent;
  json["rtfx"] = 0.0;
  json["client_cpu_share"] = processor_share(run);  // of one core; not vLLM's
  for (const Row& row : rows(o, m)) {
    json[fmt::format("mean_{}_ms", row.key)] = 1e3 * mean(*row.values);
    json[fmt::format("median_{}_ms", row.key)] = 1e3 * percentile(*row.values, 50);
    json[fmt::format("std_{}_ms", row.key)] = 1e3 * deviation(*row.values);
    for (const double percent : o.percentiles)
      json[fmt::format("p{}_{}_ms", percent_word(percent), row.key)] = 1e3 * percentile(*row.values, percent);
  }
  return json;
}

std::string report_name(const ReportOptions& o, const std::string& date) {
  const std::string label = o.label.empty() ? o.backend : o.label;
  const std::string concurrency = o.concurrency > 0 ? fmt::format("-concurrency{}", o.concurrency) : "";
  const std::string model = o.model.substr(o.model.rfind('/') + 1);
  if (!o.rate.ramp_up.empty())
    return fmt::format("{}-ramp-up-{}-{}qps-{}qps{}-{}-{}.json", label, o.rate.ramp_up, o.rate.ramp_start,
                       o.rate.ramp_end, concurrency, model, date);
  return fmt::format("{}-{}qps{}-{}-{}.json", label, python_float(o.rate.rate), concurrency, model, date);
}

}  // namespace flagscale::load
