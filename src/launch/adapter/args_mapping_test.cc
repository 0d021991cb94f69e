// One row a key and an engine of FlagScale's mapping table.
#include "launch/adapter/args_mapping.h"

#include <gtest/gtest.h>

#include "base/error.h"
#include "config/yaml.h"
#include "launch/flags.h"

namespace flagscale::launch {
namespace {

std::string translate(const std::string& yaml, Dialect dialect) {
  std::string text;
  for (const std::string& word : flags_of(*translated(*config::parse_yaml(yaml, "test.yaml"), dialect)))
    text += (text.empty() ? "" : " ") + word;
  return text;
}

struct Row {
  const char *common, *llama_cpp, *sglang;
};

class ArgsMapping : public testing::TestWithParam<Row> {};

TEST_P(ArgsMapping, OfEachKey) {
  EXPECT_EQ(translate(GetParam().common, Dialect::kLlamaCpp), GetParam().llama_cpp);
  EXPECT_EQ(translate(GetParam().common, Dialect::kSglang), GetParam().sglang);
}

INSTANTIATE_TEST_SUITE_P(
    All, ArgsMapping,
    testing::Values(
        Row{"model: /none/m", "--model /none/m", "--model-path /none/m"},
        Row{"max_model_len: 4096", "--ctx-size 4096", "--context-length 4096"},
        Row{"max_model_len: 4K", "--ctx-size 4096", "--context-length 4K"},
        Row{"max_model_len: 4k", "--ctx-size 4000", "--context-length 4k"},
        Row{"max-model-len: 8", "--ctx-size 8", "--context-length 8"},
        Row{"max_num_seqs: 4", "--parallel 4", "--max-running-requests 4"},
        Row{"served_model_name: n", "--alias n", "--served-model-name n"},
        Row{"served_model_name: [n, m]", "--alias n,m", "--served-model-name n m"},
        Row{"seed: 1", "--seed 1", "--random-seed 1"},
        Row{"uvicorn_log_level: warning", "--log-verbosity 0", "--log-level warning"},
        Row{"uvicorn_log_level: INFO", "--log-verbosity 1", "--log-level INFO"},
        Row{"show_hidden_metrics_for_version: true", "--metrics", "--enable-metrics"},
        Row{"show_hidden_metrics_for_version: '0.7'", "--metrics", "--enable-metrics 0.7"},
        Row{"show_hidden_metrics_for_version: false", "", ""},
        Row{"kv_cache_dtype: fp8_e5m2", "--cache-type-k q8_0 --cache-type-v q8_0",
            "--kv-cache-dtype fp8_e5m2"},
        Row{"kv_cache_dtype: q4_0", "--cache-type-k q4_0 --cache-type-v q4_0", "--kv-cache-dtype q4_0"},
        Row{"reasoning_parser: deepseek_r1", "--reasoning-format deepseek", "--reasoning-parser deepseek_r1"},
        Row{"rope_scaling: {rope_type: yarn, factor: 4.0}", "--rope-scaling yarn --rope-scale 4.0",
            "--rope-type yarn --factor 4.0"},
        Row{R"(rope_scaling: '{"rope_type": "linear", "factor": 2}')", "--rope-scaling linear --rope-scale 2",
            R"(--rope-scaling {"rope_type": "linear", "factor": 2})"},
        Row{"rope_theta: 10000", "--rope-freq-base 10000", "--rope-theta 10000"},
        Row{"ssl_keyfile: k", "--ssl-key-file k", "--ssl-keyfile k"},
        Row{"ssl_certfile: c", "--ssl-cert-file c", "--ssl-certfile c"},
        Row{"disable_uvicorn_access_log: true", "--log-disable", "--disable-uvicorn-access-log"},
        Row{"dtype: bfloat16", "--dtype bfloat16", "--dtype bfloat16"},
        Row{"my_own: [1, 2]", "--my-own 1 2", "--my-own 1 2"}));

TEST(ArgsMapping, WhatLlamaCppHasNoWordFor) {
  for (const char* yaml :
       {"kv_cache_dtype: auto", "max_model_len: many", "max_model_len: 1.5K", "max_model_len: -1",
        "reasoning_parser: qwen3", "uvicorn_log_level: loud", "rope_scaling: {factor: 2}",
        "rope_scaling: {rope_type: yarn}", "rope_scaling: {rope_type: su, factor: 1}"}) {
    try {
      translated(*config::parse_yaml(yaml, "test.yaml"), Dialect::kLlamaCpp);
      ADD_FAILURE() << yaml;
    } catch (const Error& error) {
      EXPECT_NE(std::string(error.what()).find("test.yaml:1: engine argument "), std::string::npos)
          << error.what();
    }
  }
}

}  // namespace
}  // namespace flagscale::launch
