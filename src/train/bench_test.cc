#include "train/bench.h"

#include <gtest/gtest.h>

#include <string>

#include "base/error.h"

namespace flagscale::train {
namespace {

std::string refusal_of(const BenchOptions& options) {
  try {
    bench_train(options);
    return {};
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kResource);
    return error.what();
  }
}

TEST(Bench, WhatDoesNotFitNamesItsOptions) {
  BenchOptions options;
  options.shape = "8b", options.batch = 512, options.sequence_length = 8192;  // more than 4 TiB
  const std::string refused = refusal_of(options);
  for (const char* change : {"\n  --batch 1 saves ", "\n  --recompute saves ",
                             "\n  --optimizer adamw8bit saves ", "\n  --seq 4096 saves "})
    EXPECT_NE(refused.find(change), std::string::npos) << change << refused;
  EXPECT_EQ(refused.find("++"), std::string::npos) << refused;
  options.batch = 1 << 20;  // not planned
  EXPECT_TRUE(refusal_of(options).ends_with(": set a smaller --batch or --seq"));
}

}  // namespace
}  // namespace flagscale::train
