#pragma once
// Passes over a whole row of logits, in the best instruction set there is: of a batch's draws they are nearly
// all.

#include <cstdint>

#include "kernel/isa.h"

namespace flagscale::engine {

constexpr int64_t kLogitBlock = 64;  // ids whose largest value is found at once

struct LogitsScan {
  // The largest of x[0, n), NaN where one is NaN or +inf. largest[b]: of block b.
  float (*blocks)(const float* x, int64_t n, float* largest) = nullptr;
  // weights[i] = exp((x[i] - top) * scale), for x[i] <= top and scale > 0; 0 below e^-87. Returns their sum;
  // weights may be null.
  double (*exponents)(const float* x, int64_t n, float top, float scale, float* weights) = nullptr;
};

// Of this machine's best set, or of one that it can run.
const LogitsScan& logits_scan();
const LogitsScan& logits_scan(Isa isa);

// Each set's file adds its own before main().
struct AddLogitsScan {
  AddLogitsScan(Isa isa, LogitsScan scan);
};

}  // namespace flagscale::engine
