#!/usr/bin/env bash
# Prefill and decode of the same GGUF file here and in llama.cpp, alternating on this machine:
#   compare_llama.sh LLAMA_BIN FLAGSCALE FILE.gguf [ROUNDS [arguments of flagscale bench decode]]
# LLAMA_BIN holds llama-bench and llama-batched-bench. Prints the medians and their ratio.
set -euo pipefail
bin=$1 flagscale=$2 file=$3 rounds=${4:-3}
shift $(($# < 4 ? $# : 4))
threads=$(nproc)
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT
for ((i = 0; i < rounds; ++i)); do
  "$flagscale" bench decode "$file" --json --repeats 1 "$@" > "$out/ours.$i"
  "$bin/llama-bench" -m "$file" -t "$threads" -p 512 -n 0 -r 1 -o json > "$out/prefill.$i" 2> "$out/log"
  "$bin/llama-batched-bench" -m "$file" -t "$threads" -tb "$threads" -c 4096 -b 512 -ub 512 -npp 16 -ntg 32 -npl 1,8,32 --output-format jsonl \
    > "$out/decode.$i" 2> "$out/log"
done
python3 - "$out" "$rounds" <<'END'
import json, statistics, sys
folder, rounds = sys.argv[1], int(sys.argv[2])
ours, peer = {}, {}
def put(table, key, value): table.setdefault(key, []).append(value)
for i in range(rounds):
    run = json.load(open(f"{folder}/ours.{i}"))
    put(ours, "prefill 512", run["prefill"]["tokens_per_s"])
    for streams, rate in run["decode"].items(): put(ours, f"decode {streams}", rate["tokens_per_s"])
    put(peer, "prefill 512", json.load(open(f"{folder}/prefill.{i}"))[0]["avg_ts"])
    for line in open(f"{folder}/decode.{i}"):
        if line.startswith("{"):
            row = json.loads(line)
            put(peer, f"decode {row['pl']}", row["speed_tg"])
print(f"{run['formats']}, compute {run['compute']}, ready in {run['ready_s']:.2f} s, resident {run['resident_bytes'] / 1e6:.0f} MB; "
      f"reading alone {run['read_bytes_per_s'] / 1e9:.1f} GB/s")
print(f"{'tokens/s, median of ' + str(rounds):24}{'ours':>9}{'llama.cpp':>11}{'ratio':>7}")
for key in ours:
    a, b = statistics.median(ours[key]), statistics.median(peer.get(key, [float('nan')]))
    print(f"{key:24}{a:9.1f}{b:11.1f}{a / b:7.2f}")
END
