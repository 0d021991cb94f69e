#pragma once
// How a server is configured. Names are those of vLLM's engine arguments, which FlagScale's `serve` files
// use.

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "config/schema.h"
#include "serve/engine_arguments.h"

namespace flagscale::serve {

struct ServiceConfig {
  std::string model, tokenizer, chat_template;
  std::vector<std::string> served_model_name;

  // Network.
  std::string host = "127.0.0.1";
  int64_t port = 8000, max_connections = 4096;
  std::vector<std::string> api_key;
  std::vector<std::string> allowed_origins, allowed_methods = {"*"}, allowed_headers = {"*"};
  bool allow_credentials = false;
  std::string ssl_certfile, ssl_keyfile, ssl_keyfile_password;
  bool metrics_public = false;

  // Engine.
  std::string dtype = "auto", kv_cache_dtype = "auto";
  std::string quantization, compute = "fast";
  bool quantize_lm_head = false;
  std::optional<int64_t> max_model_len;
  int64_t default_length = 8192;  // where max_model_len is not given and the model is not shorter
  std::string device = "auto";
  double gpu_memory_utilization = 0.9;
  std::optional<int64_t> max_num_batched_tokens, max_num_seqs;
  int64_t num_kv_blocks = 0, threads = 0;
  int64_t seed = 0;
  bool enable_prefix_caching = true;
  int64_t kv_cache_memory_bytes = 0;
  SpeculativeConfig speculative_config;

  // Adapters.
  bool enable_lora = false;
  std::optional<int64_t> max_loras, max_lora_rank;
  std::string lora_dir;
  LoraModules lora_modules;

  // Limits.
  int64_t max_queued_requests = 1024, max_body_bytes = 8 << 20, max_header_bytes = 32 << 10,
          max_logprobs = 20, max_answer_logprobs = 1 << 20, max_n = 128;

  // Output.
  std::string tool_call_parser = "auto", reasoning_parser = "auto", generation_config = "auto";
  bool enable_log_requests = false, enable_force_include_usage = false;
  int64_t stream_interval = 1;
  double health_stall_seconds = 1.8;
};

const config::Schema<ServiceConfig>& service_keys();
const config::Schema<ServiceConfig>& engine_keys();  // those of the model and its engine alone
bool is_switch(const config::KeyInfo& key);          // on a command line it has no value

}  // namespace flagscale::serve
