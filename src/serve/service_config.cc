#include "serve/service_config.h"

#include <set>

namespace flagscale::serve {

namespace {

void add_network_keys(config::Schema<ServiceConfig>& keys) {
  keys.acts("host", [](ServiceConfig& c) -> auto& { return c.host; },
            {.doc = "address to listen on; 0.0.0.0 opens it to the network"});
  keys.acts("port", [](ServiceConfig& c) -> auto& { return c.port; },
            {.doc = "port; 0: any free one", .least = 0, .most = 65535});
  keys.acts("max_connections", [](ServiceConfig& c) -> auto& { return c.max_connections; },
            {.doc = "open connections at most", .least = 1});
  keys.acts("api_key", [](ServiceConfig& c) -> auto& { return c.api_key; },
            {.doc = "keys, one of which each request must bring", .aliases = {"api_keys"}});
  keys.acts(
      "allowed_origins", [](ServiceConfig& c) -> auto& { return c.allowed_origins; },
      {.doc = "origins whose pages may call the server (CORS); * is any", .aliases = {"cors_allow_origins"}});
  keys.acts("allowed_methods", [](ServiceConfig& c) -> auto& { return c.allowed_methods; },
            {.doc = "methods that such pages may use; * is any"});
  keys.acts("allowed_headers", [](ServiceConfig& c) -> auto& { return c.allowed_headers; },
            {.doc = "headers that such pages may send; * is any"});
  keys.acts("allow_credentials", [](ServiceConfig& c) -> auto& { return c.allow_credentials; },
            {.doc = "such pages may send cookies"});
  keys.acts("ssl_certfile", [](ServiceConfig& c) -> auto& { return c.ssl_certfile; },
            {.doc = "PEM certificate chain: TLS", .aliases = {"tls_cert"}});
  keys.acts("ssl_keyfile", [](ServiceConfig& c) -> auto& { return c.ssl_keyfile; },
            {.doc = "PEM key of that certificate", .aliases = {"tls_key"}});
  keys.acts("ssl_keyfile_password", [](ServiceConfig& c) -> auto& { return c.ssl_keyfile_password; },
            {.doc = "of that key"});
  keys.acts("metrics_public", [](ServiceConfig& c) -> auto& { return c.metrics_public; },
            {.doc = "/metrics needs no key"});
}

void add_engine_keys(config::Schema<ServiceConfig>& keys) {
  keys.acts("model", [](ServiceConfig& c) -> auto& { return c.model; },
            {.doc = "what to serve", .aliases = {"model_path"}});
  keys.acts("tokenizer", [](ServiceConfig& c) -> auto& { return c.tokenizer; },
            {.doc = "tokenizer file or folder, in place of the model's own"});
  keys.acts("served_model_name", [](ServiceConfig& c) -> auto& { return c.served_model_name; },
            {.doc = "names of the model in requests; the first is answered"});
  keys.acts("dtype", [](ServiceConfig& c) -> auto& { return c.dtype; },
            {.doc = "type of the weights in memory; auto: as the file has each, GGUF's blocks too",
             .choices = {"auto", "float32", "float", "fp32", "bfloat16", "bf16", "float16", "half", "fp16"}});
  keys.acts(
      "quantization", [](ServiceConfig& c) -> auto& { return c.quantization; },
      {.doc = "weights quantised at load, in place of dtype; fp8 on a GPU alone: with compute fast it rounds "
              "activations too where the GPU multiplies fp8",
       .choices = {"none", "int8", "int4", "int4-32", "fp8"}});
  keys.acts("quantize_lm_head", [](ServiceConfig& c) -> auto& { return c.quantize_lm_head; },
            {.doc = "with quantization: the output head in eight bits on a GPU too, multiplied as the other "
                    "weights are; on a CPU it has eight bits in any case"});
  keys.acts(
      "compute", [](ServiceConfig& c) -> auto& { return c.compute; },
      {.doc = "fast: int8 or bf16, as the weights are, in formats whose perplexity it keeps; exact: fp32; "
              "int8: quantised activations on integer weights; bf16: rounded ones on bf16",
       .choices = {"exact", "bf16", "int8", "fast"}});
  keys.acts("kv_cache_dtype", [](ServiceConfig& c) -> auto& { return c.kv_cache_dtype; },
            {.doc = "type of the cache; auto: float32 with compute exact, else bfloat16; on "
                    "a GPU the weights' type",
             .choices = {"auto", "fp32", "float32", "bf16", "bfloat16", "int8"}});
  keys.acts("device", [](ServiceConfig& c) -> auto& { return c.device; },
            {.doc = "auto: a GPU where there is one", .choices = {"auto", "cpu", "cuda"}});
  keys.acts("gpu_memory_utilization", [](ServiceConfig& c) -> auto& { return c.gpu_memory_utilization; },
            {.doc = "share of a GPU's memory that may be taken in all", .above = 0, .most = 1});
  keys.acts("max_model_len", [](ServiceConfig& c) -> auto& { return c.max_model_len; },
            {.doc = "tokens of the longest sequence; none: the model's, up to 8192",
             .least = 16,
             .most = 1 << 24,
             .aliases = {"context_length"}});
  keys.acts("max_num_seqs", [](ServiceConfig& c) -> auto& { return c.max_num_seqs; },
            {.doc = "sequences computed at once; none: 32, on a GPU 256", .least = 1, .most = 4096});
  keys.acts("max_num_batched_tokens", [](ServiceConfig& c) -> auto& { return c.max_num_batched_tokens; },
            {.doc = "tokens of one step; none: 256, on a GPU 2048", .least = 16, .most = 65536});
  keys.acts("num_kv_blocks", [](ServiceConfig& c) -> auto& { return c.num_kv_blocks; },
            {.doc = "pages of 16 tokens in the cache; 0: max_num_seqs of max_model_len, in "
                    "kv_cache_memory_bytes at most",
             .least = 0,
             .most = 1 << 27,
             .aliases = {"num_gpu_blocks_override"}});
  keys.acts("kv_cache_memory_bytes", [](ServiceConfig& c) -> auto& { return c.kv_cache_memory_bytes; },
            {.doc = "of the cache at most; 0: half of the memory that the weights leave free, of a "
                    "GPU's share all",
             .least = 0});
  keys.acts("threads", [](ServiceConfig& c) -> auto& { return c.threads; },
            {.doc = "of the engine; 0: all cores", .least = 0, .most = 4096});
  keys.acts("enable_prefix_caching", [](ServiceConfig& c) -> auto& { return c.enable_prefix_caching; },
            {.doc = "prompts that begin alike share what was computed"});
  keys.acts("speculative_config", [](ServiceConfig& c) -> auto& { return c.speculative_config; },
            {.doc = "guesses by prompt lookup: method ngram, num_speculative_tokens, prompt_lookup_max and "
                    "prompt_lookup_min"});
  keys.acts("seed", [](ServiceConfig& c) -> auto& { return c.seed; },
            {.doc = "has no effect on requests, which bring their own"});
}

void add_lora_keys(config::Schema<ServiceConfig>& keys) {
  keys.acts("enable_lora", [](ServiceConfig& c) -> auto& { return c.enable_lora; },
            {.doc = "LoRA adapters are loaded and unloaded by request, from lora_dir"});
  keys.acts("lora_modules", [](ServiceConfig& c) -> auto& { return c.lora_modules; },
            {.doc = "LoRA adapters that are loaded at start, as names of their own"});
  keys.acts("lora_dir", [](ServiceConfig& c) -> auto& { return c.lora_dir; },
            {.doc = "folder of the adapters that requests may load"});
  keys.acts(
      "max_loras", [](ServiceConfig& c) -> auto& { return c.max_loras; },
      {.doc = "LoRA adapters at once; none: 8, or as many as lora_modules has", .least = 1, .most = 1024});
  keys.acts("max_lora_rank", [](ServiceConfig& c) -> auto& { return c.max_lora_rank; },
            {.doc = "rank of an adapter at most; none: 16, or the highest in lora_modules",
             .least = 1,
             .most = 512});
}

void add_limit_keys(config::Schema<ServiceConfig>& keys) {
  keys.acts("max_queued_requests", [](ServiceConfig& c) -> auto& { return c.max_queued_requests; },
            {.doc = "requests that wait at most; more are answered with 429",
             .least = 1,
             .aliases = {"max_num_queued_reqs"}});
  keys.acts("max_body_bytes", [](ServiceConfig& c) -> auto& { return c.max_body_bytes; },
            {.doc = "of a request: else 413", .least = 1024});
  keys.acts("max_header_bytes", [](ServiceConfig& c) -> auto& { return c.max_header_bytes; },
            {.doc = "of a request: else 431", .least = 1024, .most = 1 << 24});
  keys.acts("max_logprobs", [](ServiceConfig& c) -> auto& { return c.max_logprobs; },
            {.doc = "log-probabilities of a token at most", .least = 0, .most = 1024});
  keys.acts("max_answer_logprobs", [](ServiceConfig& c) -> auto& { return c.max_answer_logprobs; },
            {.doc = "log-probabilities that an answer may have: of all its tokens, prompts and choices",
             .least = 1});
  keys.acts("max_n", [](ServiceConfig& c) -> auto& { return c.max_n; },
            {.doc = "answers of a request at most (n, best_of): else 422", .least = 1, .most = 4096});
}

void add_output_keys(config::Schema<ServiceConfig>& keys) {
  keys.acts("chat_template", [](ServiceConfig& c) -> auto& { return c.chat_template; },
            {.doc = "file with a Jinja template, in place of the model's own"});
  keys.acts("tool_call_parser", [](ServiceConfig& c) -> auto& { return c.tool_call_parser; },
            {.doc = "how the model writes tool calls; auto: told by its template",
             .choices = {"auto", "hermes", "qwen", "llama3_json", "mistral", "none"}});
  keys.acts("reasoning_parser", [](ServiceConfig& c) -> auto& { return c.reasoning_parser; },
            {.doc = "<think> is reasoning; auto: where the template knows it",
             .choices = {"auto", "qwen3", "deepseek_r1", "none"}});
  keys.acts("generation_config", [](ServiceConfig& c) -> auto& { return c.generation_config; },
            {.doc = "sampling defaults: auto, the model's generation_config.json; vllm: none",
             .choices = {"auto", "vllm"}});
  keys.acts("stream_interval", [](ServiceConfig& c) -> auto& { return c.stream_interval; },
            {.doc = "tokens of a streamed chunk at least, the first and the last excepted", .least = 1});
  keys.acts("enable_force_include_usage",
            [](ServiceConfig& c) -> auto& { return c.enable_force_include_usage; },
            {.doc = "streams end with their usage, asked for or not"});
  keys.acts("health_stall_seconds", [](ServiceConfig& c) -> auto& { return c.health_stall_seconds; },
            {.doc = "/health answers 503 when the engine has not got on for so long", .above = 0});
  keys.acts("enable_log_requests", [](ServiceConfig& c) -> auto& { return c.enable_log_requests; },
            {.doc = "a line for each request"});
}

void add_other_keys(config::Schema<ServiceConfig>& keys) {
  for (const char* name : {"enforce_eager",
                           "compilation_config",
                           "swap_space",
                           "block_size",
                           "cpu_offload_gb",
                           "trust_remote_code",
                           "enable_chunked_prefill",
                           "use_v2_block_manager",
                           "disable_log_stats",
                           "disable_log_requests",
                           "distributed_executor_backend",
                           "max_seq_len_to_capture",
                           "num_scheduler_steps",
                           "mm_processor_kwargs",
                           "limit_mm_per_prompt",
                           "tokenizer_mode",
                           "load_format",
                           "download_dir",
                           "model_impl",
                           "enable_expert_parallel",
                           "disable_custom_all_reduce",
                           "disable_cascade_attn",
                           "async_scheduling",
                           "enable_sleep_mode",
                           "prefix_caching_hash_algo",
                           "guided_decoding_backend",
                           "structured_outputs_config",
                           "chat_template_content_format",
                           "enable_prompt_tokens_details",
                           "enable_server_load_tracking",
                           "lora_extra_vocab_size",
                           "disable_fastapi_docs"})
    keys.ignored(name, "a matter of vLLM's own machinery");
  keys.ignored("scheduling_policy", "the lower priority runs first, then who came first");
  for (const char* name :
       {"uvicorn_log_level", "log_level", "disable_uvicorn_access_log", "disable_frontend_multiprocessing",
        "show_hidden_metrics_for_version", "max_log_len"})
    keys.ignored(name, "logging elsewhere");
  for (const char* name : {"enable_auto_tool_choice", "enable_reasoning"})
    keys.ignored(name, "always on where the model's template allows it");
  for (const char* name : {"max_cpu_loras", "lora_dtype", "fully_sharded_loras"})
    keys.ignored(name, "adapters lie in fp32 beside the weights");
  for (const char* name : {"tensor_parallel_size", "pipeline_parallel_size", "data_parallel_size"})
    keys.ignored(name, "one process holds the whole model, whatever it says");
  for (const char* name : {"revision", "tokenizer_revision", "code_revision"})
    keys.refused(name, "name it with the model, as owner/name@revision");
  keys.refused("hf_token", "set HF_TOKEN");
  keys.refused("task", "texts are continued and embedded", {"auto", "generate", "embed", "embedding"});
  keys.refused("runner", "texts are continued and embedded", {"auto", "generate", "pooling"});
  keys.refused("override_generation_config", "requests bring their own; generation_config: vllm takes none");
  keys.refused("root_path", "routes stand at the root");
  keys.refused("response_role", "answers are the assistant's", {"assistant"});
  keys.refused("disable_sliding_window", "the model's own configuration says it");
  keys.refused("skip_tokenizer_init", "requests are texts too");
  keys.refused("rope_scaling", "the model's own configuration says it");
  keys.refused("rope_theta", "the model's own configuration says it");
  keys.refused("kv_transfer_config", "prefill and decode run in one process");
  keys.refused("hf_overrides", "edit the model's config.json");
}

}  // namespace

bool is_switch(const config::KeyInfo& key) {
  static const std::set<std::string> kOfOthers = {"enforce_eager",
                                                  "trust_remote_code",
                                                  "enable_chunked_prefill",
                                                  "use_v2_block_manager",
                                                  "disable_log_stats",
                                                  "disable_log_requests",
                                                  "enable_expert_parallel",
                                                  "disable_custom_all_reduce",
                                                  "disable_cascade_attn",
                                                  "async_scheduling",
                                                  "enable_sleep_mode",
                                                  "enable_prompt_tokens_details",
                                                  "enable_server_load_tracking",
                                                  "disable_fastapi_docs",
                                                  "disable_uvicorn_access_log",
                                                  "disable_frontend_multiprocessing",
                                                  "enable_auto_tool_choice",
                                                  "enable_reasoning",
                                                  "fully_sharded_loras",
                                                  "disable_sliding_window",
                                                  "skip_tokenizer_init"};
  return key.type == "flag" || kOfOthers.contains(key.name);
}

const config::Schema<ServiceConfig>& engine_keys() {
  static const config::Schema<ServiceConfig> keys = [] {
    config::Schema<ServiceConfig> table;
    add_engine_keys(table);
    add_other_keys(table);
    return table;
  }();
  return keys;
}

const config::Schema<ServiceConfig>& service_keys() {
  static const config::Schema<ServiceConfig> keys = [] {
    config::Schema<ServiceConfig> table;
    add_engine_keys(table);
    add_lora_keys(table);
    add_network_keys(table);
    add_limit_keys(table);
    add_output_keys(table);
    add_other_keys(table);
    return table;
  }();
  return keys;
}

}  // namespace flagscale::serve
