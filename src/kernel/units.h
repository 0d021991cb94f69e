#pragma once
// Hands out units of work to threads that each need memory of their own. For *_cpu.cc files.

#include "kernel/simd.h"

namespace flagscale::FLAGSCALE_ISA {

// Calls body(unit, thread) for the units [0, n), each once, handed out in order: when a unit runs, all before
// it have been started. thread is below context.team.size().
template <class Body>
static inline void for_units(const KernelContext& context, int64_t n, Body&& body) {
  int64_t next = 0;
  context.team.run([&](int thread) {
    for (int64_t unit; (unit = __atomic_fetch_add(&next, 1, __ATOMIC_RELAXED)) < n;) body(unit, thread);
  });
}

// starts[s] is the number of units before owner s, ascending: who owns a unit, of `owners`.
static inline int64_t owner_of(const int64_t* starts, int64_t owners, int64_t unit) {
  int64_t low = 0, high = owners;
  while (high - low > 1) {
    const int64_t middle = (low + high) / 2;
    (starts[middle] <= unit ? low : high) = middle;
  }
  return low;
}

}  // namespace flagscale::FLAGSCALE_ISA
