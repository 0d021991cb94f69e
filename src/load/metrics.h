#pragma once
// What a run's records say, as `vllm bench serve` defines it.

#include <map>
#include <string>
#include <vector>

#include "load/driver.h"

namespace flagscale::load {

// Of values in seconds.
double mean(const std::vector<double>& values);
double deviation(const std::vector<double>& values);            // of the population
double percentile(std::vector<double> values, double percent);  // between neighbours: linear

struct Metrics {
  int64_t completed = 0, failed = 0, total_input = 0, total_output = 0;
  double request_throughput = 0, request_goodput = 0, output_throughput = 0, total_token_throughput = 0;
  double most_tokens_per_second = 0;  // in one second of the run
  int64_t most_concurrent = 0;
  // Of the successful requests; tpot: of those with more than one token.
  std::vector<double> ttft, tpot, itl, e2el, queue, e2el_with_queue;
};

// goodput: what a good request stays within, in milliseconds, by "ttft", "tpot" and "e2el".
Metrics measure(const Measured& run, const std::map<std::string, double>& goodput);

// "ttft:200 e2el:1000". Throws Error{kInvalidArgument}.
std::map<std::string, double> parse_goodput(const std::vector<std::string>& pairs);

}  // namespace flagscale::load
