// Against Megatron-LM's own scheduler: tests/golden/train/schedules.json.
#include "train/schedule.h"

#include <gtest/gtest.h>

#include <cmath>
#include <fstream>
#include <nlohmann/json.hpp>

#include "base/error.h"

namespace flagscale::train {
namespace {

nlohmann::json golden() {
  return nlohmann::json::parse(
      std::ifstream(std::string(FLAGSCALE_SOURCE_DIR) + "/tests/golden/train/schedules.json"));
}

template <class T>
T value(const nlohmann::json& settings, const char* key, T otherwise) {
  return settings.contains(key) && !settings[key].is_null() ? settings[key].get<T>() : otherwise;
}

LrSchedule lr_of(const nlohmann::json& s, int64_t batch) {
  LrSchedule lr;
  lr.style = s["lr_decay_style"];
  lr.lr = value(s, "lr", 0.0), lr.min_lr = value(s, "min_lr", 0.0),
  lr.warmup_init = value(s, "lr_warmup_init", 0.0);
  lr.warmup_samples = value<int64_t>(s, "lr_warmup_samples", 0),
  lr.decay_samples = value<int64_t>(s, "lr_decay_samples", 0);
  lr.wsd_style = value<std::string>(s, "lr_wsd_decay_style", "exponential");
  lr.wsd_decay_samples = value<int64_t>(s, "lr_wsd_decay_samples", 0);
  lr.global_batch_size = batch;
  lr.stablelm2.cosine_samples = value<int64_t>(s, "lr_decay_stablelm2_cosine_samples", 0);
  lr.stablelm2.cosine_period_samples = value<int64_t>(s, "lr_decay_stablelm2_cosine_period_samples", 0);
  lr.stablelm2.rsqrt_samples = value<int64_t>(s, "lr_decay_stablelm2_rsqrt_samples", 0);
  lr.stablelm2.decay_samples = value<int64_t>(s, "lr_decay_stablelm2_decay_samples", 0);
  lr.stablelm2.cosine_max_lr = value(s, "lr_decay_stablelm2_cosine_max_lr", 0.0);
  lr.stablelm2.alpha = value(s, "lr_decay_stablelm2_alpha", 0.0);
  lr.stablelm2.beta = value(s, "lr_decay_stablelm2_beta", 0.0);
  return lr;
}

TEST(Schedule, RatesThatAreNoNumbersAreRefused) {
  LrSchedule s;
  s.style = "stablelm2-scheduler", s.lr = 1e-3, s.decay_samples = 100, s.global_batch_size = 4;
  s.stablelm2 = {};
  EXPECT_THROW(validate(s), Error) << "no phase but the last, which starts at alpha / sqrt(0)";
  s.stablelm2.cosine_samples = 40, s.stablelm2.cosine_max_lr = 1e-3, s.stablelm2.alpha = 1e-3;
  validate(s);
}

TEST(Schedule, EqualsMegatrons) {
  const auto json = golden();
  ASSERT_GE(json["cases"].size(), 10u);
  for (const auto& c : json["cases"]) {
    SCOPED_TRACE(c["name"].get<std::string>());
    const auto& s = c["settings"];
    const LrSchedule lr = lr_of(s, json["global_batch_size"]);
    const WeightDecaySchedule wd{s["weight_decay_incr_style"], s["start_weight_decay"], s["end_weight_decay"],
                                 value<int64_t>(s, "weight_decay_incr_samples", 0)};
    EXPECT_NO_THROW(validate(lr));
    for (size_t i = 0; i < json["samples"].size(); ++i) {
      const auto samples = json["samples"][i].get<int64_t>();
      const double want = c["lr"][i];
      EXPECT_NEAR(learning_rate(lr, samples), want, 1e-12 * std::fabs(want) + 1e-18) << "after " << samples;
      EXPECT_NEAR(weight_decay(wd, samples), c["weight_decay"][i].get<double>(), 1e-14);
    }
  }
}

TEST(Schedule, WhatCannotBeIsNamed) {
  LrSchedule lr{.style = "cosinus", .lr = 1, .decay_samples = 10, .stablelm2 = {}};
  EXPECT_THROW(validate(lr), Error);
  lr.style = "cosine";
  lr.warmup_samples = 10;
  EXPECT_THROW(validate(lr), Error);
  lr.warmup_samples = 0;
  lr.min_lr = 2;
  EXPECT_THROW(validate(lr), Error);
}

}  // namespace
}  // namespace flagscale::train
