#pragma once
// Sends requests and measures their answers, all on one thread.

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "net/client.h"

namespace flagscale::load {

// How one request went. Times in seconds; start from the run's beginning, the others from start.
struct Record {
  bool success = false;
  double start = 0, first_token = 0, latency = 0;
  double waited = 0;                             // for a free place among the concurrent ones
  std::vector<double> token_gaps;                // between chunks, vLLM's "itl"
  int64_t prompt_tokens = 0, output_tokens = 0;  // as the server counts them
  std::string text, error;
};

struct Load {
  std::vector<std::string> bodies;     // JSON, one a request
  std::vector<int64_t> prompt_tokens;  // of each, until the server says its own count
  std::vector<double> times;           // when each is sent
  net::Url server;                     // path: the endpoint
  net::Headers headers;
  int64_t concurrency = 0;  // 0: any
};

struct Measured {
  std::vector<Record> records;  // of the requests that have ended, in order of `bodies`
  std::vector<size_t> indices;  // which those are
  double seconds = 0;           // from the first request to the last answer
  double processor = 0;         // this process's own processor time meanwhile, seconds
  bool interrupted = false;     // the user has stopped it
};

// tick: called about ten times a second with the number of requests that have ended; false stops the run.
Measured drive(const Load& load, const std::function<bool(size_t)>& tick);

}  // namespace flagscale::load
