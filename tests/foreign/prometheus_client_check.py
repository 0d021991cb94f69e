"""/metrics as Prometheus's own parser reads it."""
import os
import sys
import urllib.request

from prometheus_client.parser import text_string_to_metric_families

request = urllib.request.Request(sys.argv[1], headers={"Authorization": "Bearer " + os.environ["OPENAI_API_KEY"]})
with urllib.request.urlopen(request) as answer:
    families = {family.name: family for family in text_string_to_metric_families(answer.read().decode())}
for name in (
    "vllm:num_requests_running", "vllm:num_requests_waiting", "vllm:kv_cache_usage_perc", "vllm:prefix_cache_queries",
    "vllm:prefix_cache_hits", "vllm:num_preemptions", "vllm:prompt_tokens", "vllm:generation_tokens", "vllm:request_success",
    "vllm:time_to_first_token_seconds", "vllm:inter_token_latency_seconds", "vllm:e2e_request_latency_seconds",
    "vllm:request_prompt_tokens", "vllm:request_generation_tokens", "vllm:iteration_tokens_total", "http_requests",
):
    assert name in families, name
for family in families.values():
    if family.type != "histogram":
        continue
    last = {}
    for sample in family.samples:  # buckets are cumulative and end at the count
        if not sample.name.endswith("_bucket"):
            continue
        key = tuple(sorted((k, v) for k, v in sample.labels.items() if k != "le"))
        assert sample.value >= last.get(key, 0), (family.name, sample)
        last[key] = sample.value
    for sample in family.samples:
        if sample.name.endswith("_count"):
            assert last[tuple(sorted(sample.labels.items()))] == sample.value, sample
assert families["vllm:generation_tokens"].samples[0].value > 0
print("ok,", len(families), "families")
