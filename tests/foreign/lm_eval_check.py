"""lm-evaluation-harness's scores of the served model equal those of its own `hf` model, within 0.5 %:

    python tests/foreign/lm_eval_check.py MODEL_FOLDER     (OPENAI_BASE_URL, OPENAI_API_KEY)

MODEL_FOLDER: the served weights as a Hugging Face folder. Tasks are tests/foreign/tasks, no network is used.
"""
import json
import os
import pathlib
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
TASKS = sorted(path.stem for path in (HERE / "tasks").glob("*.yaml"))


def evaluate(model, arguments, scratch, *more):
    output = pathlib.Path(scratch) / model
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "HF_DATASETS_CACHE": f"{scratch}/datasets",
                   "HF_EVALUATE_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    command = [sys.executable, "-m", "lm_eval", "--model", model, "--model_args", ",".join(f"{k}={v}" for k, v in arguments.items()),
               "--include_path", ".", "--tasks", ",".join(TASKS), "--output_path", output, *more]
    done = subprocess.run(command, cwd=HERE / "tasks", env=environment, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"lm_eval --model {model} failed:\n{done.stderr[-4000:]}")
    (result,) = output.rglob("results_*.json")
    return {(task, metric): value
            for task, metrics in json.loads(result.read_text())["results"].items()
            for metric, value in metrics.items() if isinstance(value, float) and "stderr" not in metric}


folder = sys.argv[1]
with tempfile.TemporaryDirectory() as scratch:
    served = evaluate("local-completions",
                      {"model": "smollm2", "base_url": os.environ["OPENAI_BASE_URL"] + "/completions", "tokenizer": folder,
                       "num_concurrent": 4, "max_length": 2048},
                      scratch, "--batch_size", "1")
    own = evaluate("hf", {"pretrained": folder, "dtype": "float32", "max_length": 2048}, scratch, "--batch_size", "1", "--device", "cpu")
assert served.keys() == own.keys() and len(own) >= 5, (served, own)
for key, value in own.items():
    print(f"{' '.join(key):40} ours {served[key]:.5f}   hf {value:.5f}")
wrong = {key: (served[key], value) for key, value in own.items() if abs(served[key] - value) > 0.005 * abs(value)}
assert not wrong, wrong
print("ok")
