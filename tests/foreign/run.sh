#!/usr/bin/env bash
# Clients by others against our server: tests/foreign/run.sh PYTHON PROGRAM MODEL NODE_MODULES ORACLE
# (an environment with requirements.txt beside this file; a folder with npm's openai, or "" to leave Node out; the
# oracles' environment, which has lm-evaluation-harness beside PyTorch, or "" to leave that out).
set -euo pipefail
python=$1 program=$2 model=$3 modules=$4 oracle=$5
for name in python modules; do  # from wherever a client runs
  case ${!name} in /* | "") ;; */*) declare "$name=$PWD/${!name}" ;; esac
done
here=$(dirname "$(readlink -f "$0")")
. "$here/server.sh"
scratch=$(mktemp -d)
trap 'kill "${server_pid:-}" 2>/dev/null || true; rm -rf "$scratch"' EXIT

start_server "$program" "$model" "$scratch/log" --api-key key-of-the-test --served-model-name smollm2 --compute exact
export OPENAI_API_KEY=key-of-the-test OPENAI_BASE_URL=$base_url/v1

echo "-- openai (Python)"
"$python" "$here/openai_client.py"
echo "-- LangChain"
"$python" "$here/langchain_client.py"
echo "-- the Prometheus parser"
"$python" "$here/prometheus_client_check.py" "$base_url/metrics"
if [ -n "$modules" ]; then
  echo "-- openai (Node)"
  cp "$here/openai_client.mjs" "$scratch/"
  ln -s "$modules" "$scratch/node_modules"
  node "$scratch/openai_client.mjs"
fi
"$program" checkpoint import "$model" "$scratch/hf" >"$scratch/import"
echo "-- huggingface_hub's offline look-up of what we fetched"
"$python" "$here/hub_check.py" "$program" "$scratch/hf"
if [ -n "$oracle" ]; then
  echo "-- lm-evaluation-harness: local-completions against its own hf"
  "$oracle" "$here/lm_eval_check.py" "$scratch/hf"
fi
echo "-- the wheel, in a fresh environment"
"$here/wheel.sh" "$python" "$program"
echo "-- manifests against Kubernetes' schemas, and JobSet's and LeaderWorkerSet's where there is Go to fetch them"
mapfile -t sets < <(! command -v go >/dev/null || GOPATH=$scratch/go GOFLAGS=-modcacherw \
  go mod download -json sigs.k8s.io/jobset@v0.8.0 sigs.k8s.io/lws@v0.6.2 | sed -n 's/^\t"Dir": "\(.*\)",$/\1/p')
"$python" "$here/kubernetes_check.py" "$here/../golden/kubernetes" "${sets[@]}"
echo "-- llama.cpp's own server under our launcher"
"$here/llama_server.sh" "$program" "$model"
echo "-- the chat page in Chromium"
"$python" "$here/browser.py" "$base_url/" "$OPENAI_API_KEY"
echo "-- schemathesis on /openapi.json"
(cd "$scratch" && "$(dirname "$python")/schemathesis" run "$base_url/openapi.json" --header "Authorization: Bearer $OPENAI_API_KEY" \
  --checks not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance \
  --max-examples "${FLAGSCALE_SCHEMATHESIS_EXAMPLES:-50}" --phases fuzzing --request-timeout 120 --seed 1)

stop_server
