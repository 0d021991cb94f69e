#!/usr/bin/env python3
"""LoRA's speed and memory beside transformers with PEFT, and beside our own full training: docs/performance.md's tables.

    python3 -m venv venv && venv/bin/pip install torch transformers peft
    bench/train/compare_lora.py --python venv/bin/python [--cases 135m:1:512:fp32 ...] [--rounds 3]

A case is shape:batch:seq:dtype, and :LEARNT after it where only that share of each sequence is trained on. The modes take
turns, `rounds` times, on the same threads; medians count. `trl` is TRL's SFTTrainer over the same model (pip install trl);
`tuned` is the peer with compare.py's allocator settings; `8bit` and `4bit` hold our frozen base in as many bits; `full`
trains our whole model. Each run goes to --log as a JSON line. A compiled peer's first run compiles for minutes.
"""
import pathlib
import sys

from compare import best_ratio, common_parser, execute, in_turn, median, table
from compare import name_of as shape_of

HERE = pathlib.Path(__file__).resolve().parent
OURS = {"ours": ["--lora"], "ours 8bit": ["--load-in", "8bit", "--lora"], "ours 4bit": ["--load-in", "4bit", "--lora"],
        "ours full": []}
PEERS = ("eager", "compiled", "eager tuned", "compiled tuned", "trl", "trl tuned")


def command(mode, case, options):
    shape, batch, seq, dtype, learnt = case
    common = ["--shape", shape, "--batch", batch, "--seq", seq, "--dtype", dtype, "--learnt", learnt,
              "--steps", str(options.steps), "--threads", str(options.threads)]
    rank = str(options.rank)
    if mode in OURS:
        extra = [*OURS[mode], rank] if OURS[mode] else []
        return [options.flagscale, "bench", "train", *common, *extra, "--json"]
    return [options.python, str(HERE / "peft_peer.py"), *common, "--lora", rank,
            "--mode", {"compiled": "compile"}.get(mode.split()[0], mode.split()[0])]


def name_of(case):
    learnt = float(case[4])
    return shape_of(case) + ("" if learnt == 1 else f", {100 * learnt:.0f} % learnt")


def print_tables(results, options):
    compared = any(mode in PEERS for mode in options.modes)
    for key, title, scale, best in (("tokens_per_s", "tokens/s", 1, max), ("peak_bytes", "peak resident memory, MB", 1e-6, min)):
        print(table(title, results, options, lambda r: f"{median(r, key) * scale:,.0f}",
                    best_ratio(key, best, "ours / best peer") if compared else None, name_of))
    if "ours full" in options.modes:
        for case, r in results.items():
            time = median(r["ours full"], "tokens_per_s") / median(r["ours"], "tokens_per_s")
            memory = median(r["ours"], "peak_bytes") / median(r["ours full"], "peak_bytes")
            print(f"{name_of(case)}: a LoRA step takes {time:.2f} of a full one's time and {memory:.2f} of its memory")


def main():
    parser = common_parser(__doc__, "torch and peft", 4, sys.executable)
    parser.add_argument("--cases", nargs="+", default=["135m:1:512:fp32", "135m:1:512:bf16", "135m:1:512:fp32:0.3"])
    parser.add_argument("--modes", nargs="+", default=["ours", "ours 8bit", "ours 4bit", "eager", "eager tuned"],
                        choices=(*OURS, *PEERS))
    parser.add_argument("--rank", type=int, default=8)
    options = parser.parse_args()
    if "ours" not in options.modes:
        parser.error("--modes needs ours")
    results = {}
    with open(options.log, "a") as log:
        for text in options.cases:
            case = tuple(text.split(":")) + (("1",) if text.count(":") == 3 else ())
            if len(case) != 5:
                parser.error(f"--cases {text}: expected shape:batch:seq:dtype[:learnt]")
            results[case] = in_turn(
                case, options, log, lambda mode: execute(command(mode, case, options), mode, case, options))
    print_tables(results, options)


if __name__ == "__main__":
    main()
