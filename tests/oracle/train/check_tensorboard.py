"""Trains a few steps and has TensorBoard itself read the event file: the same numbers as in the log.

    pip install tensorboard
    python tests/oracle/train/check_tensorboard.py build/flagscale /tmp/events
"""
import math
import pathlib
import re
import subprocess
import sys

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

DATA = pathlib.Path(__file__).resolve().parents[2] / "golden" / "data" / "a"
CONFIGURATION = f"""
experiment: {{exp_name: events, exp_dir: out}}
train:
  system: {{log_interval: 1, log_params_norm: true, log_num_zeros_in_grad: true, tensorboard_log_interval: 1,
    log_timers_to_tensorboard: true, log_world_size_to_tensorboard: true, log_validation_ppl_to_tensorboard: true,
    log_memory_to_tensorboard: true}}
  model: {{num_layers: 1, hidden_size: 32, num_attention_heads: 4, seq_length: 16, max_position_embeddings: 16,
    normalization: RMSNorm, swiglu: true, position_embedding_type: rope, disable_bias_linear: true, train_iters: 7,
    micro_batch_size: 2, global_batch_size: 4, attention_dropout: 0.0, hidden_dropout: 0.0, lr: 1.0e-2, eval_interval: 3,
    eval_iters: 1}}
  data: {{data_path: [{DATA}], vocab_size: 1000, split: "80,20"}}
"""


def after(line, label):
    return float(re.search(re.escape(label) + r" *([-+0-9.Ee]+)", line).group(1))


def main():
    program, folder = pathlib.Path(sys.argv[1]).resolve(), pathlib.Path(sys.argv[2])
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "events.yaml").write_text(CONFIGURATION)
    log = subprocess.run([program, "run", "--config-path", ".", "--config-name", "events"], cwd=folder, check=True,
                         capture_output=True, text=True).stdout.splitlines()
    events = EventAccumulator(str(folder / "out" / "tensorboard"))
    events.Reload()
    tags = set(events.Tags()["scalars"])
    expected = {"learning-rate": "learning rate:", "batch-size": "global batch size:", "lm loss": "lm loss:",
                "grad-norm": "grad norm:", "params-norm": "params norm:",
                "loss-scale": "loss scale:", "num-zeros": "num zeros:"}
    lines = [line for line in log if "] iteration" in line]
    assert len(lines) == 7, log
    for tag, label in expected.items():
        for axis in ("", " vs samples"):
            points = events.Scalars(tag + axis)
            assert len(points) == len(lines), (tag, points)
            for point, line in zip(points, lines):
                step = after(line, "consumed samples:" if axis else "] iteration")
                assert point.step == step and math.isclose(point.value, after(line, label), rel_tol=1e-3), (tag, point, line)
    validation = [after(line, "lm loss value:") for line in log if "validation loss at" in line]
    points = events.Scalars("lm loss validation")
    assert [point.step for point in points] == [3, 6, 7], points
    assert all(math.isclose(p.value, v, rel_tol=1e-5) for p, v in zip(points, validation)), (points, validation)
    for point, value in zip(events.Scalars("lm loss validation ppl"), points):
        assert math.isclose(point.value, math.exp(value.value), rel_tol=1e-5), (point, value)
    assert all(point.value == 1 for point in events.Scalars("world-size"))
    assert tags >= {"iteration-time", "mem-allocated-bytes", "mem-max-allocated-bytes"}, tags
    print(f"   {len(tags)} tags, {len(lines)} steps: as logged")


main()
