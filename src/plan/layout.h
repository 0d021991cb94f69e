#pragma once
// Where each of many buffers with known lifetimes goes in one arena.

#include <cstddef>
#include <vector>

namespace flagscale {

struct Interval {
  size_t bytes;
  int first, last;    // in use from launch `first` to launch `last`, both included
  size_t offset = 0;  // result
};

// Places the intervals so that none that live together overlap; offsets are multiples of 64. Largest first,
// each at the lowest free place (Pisarchyk and Lee, "Efficient Memory Management for Deep Neural Net
// Inference", 2020: greedy by size). Returns the bytes needed.
size_t lay_out(std::vector<Interval>& intervals);

}  // namespace flagscale
