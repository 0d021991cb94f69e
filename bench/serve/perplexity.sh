#!/usr/bin/env bash
# Perplexity of a GGUF file on a text as llama-perplexity counts it (the second half of pieces of 512 tokens): exact,
# as served by default (compute fast, keys and values in bf16), and llama.cpp's own.
#   perplexity.sh LLAMA_BIN FLAGSCALE FILE.gguf TEXT [arguments of flagscale score]
set -euo pipefail
bin=$1 flagscale=$2 file=$3 text=$4
shift 4
ours() {
  "$flagscale" score "$file" --text "$text" --max-model-len 512 --second-half --json "$@" |
    python3 -c 'import json, sys; print("%.4f" % json.load(sys.stdin)["perplexity"])'
}
exact=$(ours "$@" --compute exact) fast=$(ours "$@" --compute fast --kv-cache-dtype bfloat16)
peer=$("$bin/llama-perplexity" -m "$file" -f "$text" -c 512 2>&1 | sed -n 's/.*Final estimate: PPL = \([0-9.]*\).*/\1/p')
python3 -c "print('%s: exact $exact, fast $fast (%+.2f %%), llama.cpp $peer' % ('$(basename "$file") $*', 100 * ($fast / $exact - 1)))"
