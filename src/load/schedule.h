#pragma once
// When requests are sent.

#include <cstdint>
#include <limits>
#include <string>
#include <vector>

namespace flagscale::load {

struct RateOptions {
  double rate = std::numeric_limits<double>::infinity();  // requests a second
  double burstiness =
      1;  // shape of the gamma distribution of the gaps: 1 is a Poisson process, infinity is even
  std::string ramp_up = {};  // "linear", "exponential" or "": the rate goes from start to end over the run
  double ramp_start = 0, ramp_end = 0;
};

// Throws Error{kInvalidArgument} naming the option.
void check(const RateOptions& options);

// Seconds from the start for each of `count` requests, ascending. At a fixed rate they are scaled so that the
// last one is sent after exactly count / rate, as in vLLM. Throws Error{kInvalidArgument} naming the option.
std::vector<double> send_times(const RateOptions& options, size_t count, uint64_t seed);

}  // namespace flagscale::load
