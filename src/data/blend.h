#pragma once
// Splits and blends as Megatron cuts and mixes them (megatron-core's blended_megatron_dataset_config.py,
// utils.py, blended_megatron_dataset_builder.py and helpers.cpp).

#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "data/train_data.h"

namespace flagscale::data {

// Begin and end shares of each split; none where the split is empty.
using SplitShares = std::array<std::optional<std::pair<double, double>>, kSplits>;

// "969, 30, 1" or "98,2" (missing ones are 0). kInvalidArgument for anything that is not one to three numbers
// with a positive sum; `name` is the key to blame.
SplitShares parse_split(const std::string& text, const std::string& name = "split");

// The split's sequences of n, first and one past the last: shares times n, halves rounded to even.
std::pair<int64_t, int64_t> split_range(std::pair<double, double> share, int64_t n);

struct Blend {
  std::vector<std::string> prefixes;
  std::vector<double> weights;  // one a prefix as written, or empty: blended by size
};

// A list of prefixes, or of weight, prefix, weight, prefix... (an even count whose first of each pair is a
// number). kInvalidArgument names `name` when weights are mixed with prefixes, negative or all zero, or the
// list is empty.
Blend parse_blend(const std::vector<std::string>& list, const std::string& name);

// weights / their sum, summed in numpy's order so that every bit is numpy's.
std::vector<double> normalize(std::span<const double> weights);

// ceil(ceil(samples * weight) * (1 + surplus)), what is asked of one of a blend's datasets.
int64_t samples_of_dataset(int64_t samples, double weight, double surplus);

struct BlendIndex {
  std::vector<int16_t> dataset;
  std::vector<int64_t> sample;  // of that dataset
};

// Sample i goes to the dataset whose share weight * max(i, 1) is furthest ahead of what it has given; the
// first wins ties.
BlendIndex build_blend(std::span<const double> weights, int64_t size);
// Every sample of every dataset once, in proportion to the sizes.
BlendIndex build_exhaustive_blend(std::span<const int64_t> sizes);

}  // namespace flagscale::data
