#pragma once
// A run's result in the text and under the JSON keys of `vllm bench serve`.

#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <vector>

#include "load/metrics.h"
#include "load/schedule.h"

namespace flagscale::load {

struct ReportOptions {
  std::string backend, label, model, tokenizer;  // label, tokenizer: "" is null
  int64_t num_prompts = 0, concurrency = 0;      // 0: any
  RateOptions rate;
  std::vector<std::pair<std::string, std::string>> metadata;
  std::vector<std::string> percentile_metrics = {"ttft", "tpot", "itl"};
  std::vector<double> percentiles = {99};
  bool goodput = false, detailed = false;
};

std::string report_text(const ReportOptions& options, const Measured& run, const Metrics& metrics);
// date: "20260131-235959"
nlohmann::ordered_json report_json(const ReportOptions& options, const Measured& run, const Metrics& metrics,
                                   const std::string& date);
// Where vLLM would put it: "openai-infqps-concurrency8-MODEL-DATE.json".
std::string report_name(const ReportOptions& options, const std::string& date);

}  // namespace flagscale::load
