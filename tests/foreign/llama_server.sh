#!/usr/bin/env bash
# llama.cpp's own server under our launcher: tests/foreign/llama_server.sh PROGRAM MODEL.gguf
# The server is $LLAMA_SERVER, or llama-server in PATH; without one this says so and ends well.
set -euo pipefail
program=$(readlink -f "$1") model=$(readlink -f "$2")
server=${LLAMA_SERVER:-$(command -v llama-server || true)}
[ -n "$server" ] || { echo "not run: no llama-server in PATH, and LLAMA_SERVER names none"; exit 0; }
export LLAMA_SERVER=$server
scratch=$(mktemp -d)
export XDG_STATE_HOME=$scratch/state
decoy='' other=''
clean_up() {
  "$program" stop "$scratch/out" --now >/dev/null 2>&1 || true
  for pid in $decoy $other; do kill "$pid" 2>/dev/null || true; done
  rm -rf "$scratch"
}
trap clean_up EXIT
die() {
  echo "llama_server.sh: $*" >&2
  tail -n 20 "$scratch/out/serve_logs/host_0_localhost.output" "$scratch/said" >&2 2>/dev/null || true
  exit 1
}

port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
url=http://127.0.0.1:$port
mkdir -p "$scratch/conf" "$scratch/models"
ln -s "$model" "$scratch/models/model.gguf"
# As FlagScale's files have it, in vLLM's words: llama.cpp has some otherwise and some not at all.
cat >"$scratch/conf/serve.yaml" <<YAML
experiment:
  exp_name: llama
  exp_dir: $scratch/out
  task: {type: serve}
  runner: {hostfile: null, deploy: {use_fs_serve: false}}
  envs: {LLAMA_ARG_ENDPOINT_SLOTS: 1}
  cmds: {after_stop: "touch $scratch/after_stop"}
serve:
  - serve_id: vllm_model
    engine: vllm
    engine_args:
      model: $scratch/models
      served_model_name: [smollm2, small]
      host: 127.0.0.1
      port: $port
      max_model_len: 2K
      max_num_seqs: 2
      seed: 1
      uvicorn_log_level: info
      kv_cache_dtype: fp8
      rope_theta: 100000
      show_hidden_metrics_for_version: "0.7"
      tensor_parallel_size: 1
      gpu_memory_utilization: 0.9
      enforce_eager: true
      trust_remote_code: true
      enable_chunked_prefill: true
      limit_mm_per_prompt: image=8
      compilation_config: {full_cuda_graph: true}
    engine_args_specific:
      llama_cpp: {threads: 2, n_gpu_layers: 0}
action: run
YAML
words=(run --config-path "$scratch/conf" --config-name serve --engine llama_cpp)
get() { curl -sf --max-time 120 "$@"; }
state() { "$program" "${words[@]}" action=query 2>/dev/null | sed -n '1s/^llama \([a-z]*\).*/\1/p'; }

wait_for_health() {
  for _ in $(seq 600); do
    get "$url/health" >/dev/null && return
    [ "$(state)" != failed ] || die "it failed before it was healthy"
    sleep 0.2
  done
  die "it was not healthy in two minutes"
}

its_process() {
  pid=$(cat "$scratch/out/serve_logs/pids/host_0_localhost.pid")
  [ "$(readlink "/proc/$pid/exe")" = "$(readlink -f "$server")" ] || die "process $pid is no $server"
}

ask() {  # PATH JSON
  get "$url$1" -H 'Content-Type: application/json' -d "$2" >"$scratch/answer" || die "no answer of $1"
}

it_answers() {
  ask /v1/completions '{"model": "smollm2", "prompt": "The capital of France is", "max_tokens": 4, "temperature": 0}'
  grep -q Paris "$scratch/answer" || die "it answers $(cat "$scratch/answer")"
  ask /v1/chat/completions '{"model": "small", "max_tokens": 8, "messages": [{"role": "user", "content": "Say hello."}]}'
  grep -q '"role":"assistant","content":"[^"]' "$scratch/answer" || die "it answers $(cat "$scratch/answer")"
  get "$url/metrics" | grep '^llamacpp:' >/dev/null || die "no metrics"
  for name in smollm2 small; do
    get "$url/v1/models" | grep -F "\"$name\"" >/dev/null || die "no model has the name $name: $(get "$url/v1/models")"
  done
  get "$url/slots" | python3 -c 'import json, sys; assert [s["n_ctx"] for s in json.load(sys.stdin)] == [1024, 1024]' ||
    die "not two slots of half the context: $(get "$url/slots")"
}

nothing_is_left() {
  ! kill -0 "$pid" 2>/dev/null || die "process $pid is still there"
  ! get "$url/health" >/dev/null 2>&1 || die "something still answers at $url"
  [ -e "$scratch/after_stop" ] || die "cmds.after_stop did not run"
  rm "$scratch/after_stop"
  [ -z "$(ls "$scratch/out/serve_logs/pids")" ] || die "pid files are left: $(ls "$scratch/out/serve_logs/pids")"
}

in_the_foreground() {  # where a job of a shell's background would not hear of Ctrl-C
  env --default-signal=INT "$program" "${words[@]}" >"$scratch/said" 2>&1 &
  launcher=$!
  wait_for_health
  its_process
}

ends_with() {  # CODE
  local status=0
  wait "$launcher" || status=$?
  [ $status = "$1" ] || die "it ended with $status, not $1"
}

# Someone else's server of that name: it survives every stop.
ln -s "$(command -v sleep)" "$scratch/llama-server"
"$scratch/llama-server" 1000 &
decoy=$!

echo "in the background: an answer, a stop"
"$program" "${words[@]}" --detach >"$scratch/said" 2>&1 || die "it does not start"
grep -q "engine argument limit_mm_per_prompt says nothing to llama.cpp" "$scratch/said" || die "nothing is said of vLLM's words"
wait_for_health
its_process
it_answers
[ "$(state)" = running ] || die "query says $(state)"
"$program" "${words[@]}" action=stop | grep '^llama stopped' >/dev/null || die "after a stop it is $(state)"
nothing_is_left

echo "in the foreground: Ctrl-C"
in_the_foreground
kill -INT "$launcher"
ends_with 130
nothing_is_left

echo "killed: its exit code is the job's"
in_the_foreground
kill -KILL "$pid"
ends_with 137
[ "$(state)" = failed ] || die "query says $(state)"

echo "a port that is taken, before weights are read"
python3 -c 'import socket, sys, time
s = socket.socket(); s.bind(("127.0.0.1", int(sys.argv[1]))); s.listen(); print("listens", flush=True); time.sleep(600)' "$port" \
  >"$scratch/listens" &
other=$!
until grep -qs listens "$scratch/listens"; do sleep 0.05; done
! "$program" "${words[@]}" >"$scratch/said" 2>&1 || die "it ended well"
[ "$(grep -c '^flagscale: error: port '"$port"' is taken on this machine' "$scratch/said")" = 1 ] || die "nothing is said of the port"

kill -0 "$decoy" 2>/dev/null || die "the decoy was killed"
echo "llama.cpp's server runs, answers and goes"
