"""Tabulates global batch sizes while they ramp up: tests/golden/train/rampup.json.

    pip install torch megatron-core==0.16.1
    python tests/oracle/train/make_rampup.py

From Megatron's own RampupBatchsizeNumMicroBatchesCalculator: `batches[i]` is the global batch of update i+1.
"""
import json
import pathlib

from megatron.core.num_microbatches_calculator import RampupBatchsizeNumMicroBatchesCalculator

GOLDEN = pathlib.Path(__file__).resolve().parents[2] / "golden" / "train"
UPDATES = 80
# start, increment, samples of the ramp, global batch, micro batch
CASES = [(16, 16, 1000, 64, 4), (2, 2, 97, 32, 2), (8, 24, 300, 128, 8), (4, 1, 50, 12, 1), (32, 32, 1, 64, 32), (6, 3, 1234, 51, 3)]


def batches(start, increment, samples, full, micro):
    calculator = RampupBatchsizeNumMicroBatchesCalculator(full, micro, 1, False, 1, start, increment, samples)
    sizes, consumed = [], 0
    for _ in range(UPDATES):
        calculator.update(consumed, consistency_check=True)
        sizes.append(calculator.get_current_global_batch_size())
        consumed += sizes[-1]
    return sizes


def main():
    cases = [dict(zip(("start", "increment", "samples", "global_batch_size", "micro_batch_size"), case), batches=batches(*case))
             for case in CASES]
    lines = ",\n".join(json.dumps(case, separators=(",", ":")) for case in cases)
    (GOLDEN / "rampup.json").write_text(f"[\n{lines}\n]\n")


main()
