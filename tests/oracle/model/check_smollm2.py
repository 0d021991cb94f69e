"""Checks the program itself on the real SmolLM2-135M-Instruct: import, generate, score.

    python tests/oracle/model/check_smollm2.py PROGRAM FOLDER_WITH_THE_GGUF [import|generate|score]

import:   the Hugging Face folder made of the GGUF file loads in transformers with the very weights that
          transformers reads from the GGUF; its tokenizer and chat template give the golden token ids.
generate: token ids, text and finish reason of tests/golden/model/smollm2/generate.json, up to the first
          token whose margin was below 1e-3.
score:    token ids equal, log-probabilities within 1e-3.
Prints one JSON line a part; exit 1 when one differs.
"""
import json
import pathlib
import subprocess
import sys
import tempfile

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.utils import logging

from smollm2 import FILE, load_model

GOLDEN = pathlib.Path(__file__).resolve().parents[2] / "golden" / "model" / "smollm2"


def golden(name):
    return json.loads((GOLDEN / f"{name}.json").read_text())


def run(*command):
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"exit {done.returncode}: {' '.join(map(str, command))}\n{done.stderr[-2000:]}")
    return done.stdout


def check_import(program, gguf):
    faults = []
    with tempfile.TemporaryDirectory() as folder:
        run(program, "checkpoint", "import", gguf, folder)
        ours = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).state_dict()
        theirs = load_model(gguf.parent).state_dict()
        faults += sorted(set(ours) ^ set(theirs))
        faults += [n for n in theirs if n in ours and not torch.equal(ours[n], theirs[n])]
        tokenizer = AutoTokenizer.from_pretrained(folder)
        for row in golden("generate") + golden("score"):
            text = row.get("prompt")
            if "messages" in row:
                text = tokenizer.apply_chat_template(row["messages"], tokenize=False, add_generation_prompt=True)
            if tokenizer.encode(text) != row["prompt_token_ids"]:
                faults.append(f"token ids of {text!r}")
    return faults


def run_on_prompts(rows, *command):
    with tempfile.NamedTemporaryFile("w", suffix=".jsonl") as file:
        for row in rows:
            file.write(json.dumps({k: row[k] for k in ("prompt", "messages") if k in row}) + "\n")
        file.flush()
        return [json.loads(line) for line in run(*command, "--prompts", file.name, "--json").splitlines()]


def check_generate(program, gguf):
    rows, faults = golden("generate"), []
    answers = run_on_prompts(rows, program, "generate", gguf, "--max-tokens", 32, "--temperature", 0)
    if len(answers) != len(rows):
        return [f"{len(answers)} lines for {len(rows)} prompts"]
    for row, answer in zip(rows, answers):
        clear = next((i for i, m in enumerate(row["margins"]) if m < 1e-3), None)
        whole = ("text", "finish_reason") if clear is None else ()
        same = answer["token_ids"][:clear] == row["token_ids"][:clear]
        same &= all(answer[k] == row[k] for k in (*whole, "prompt_token_ids"))
        if not same:
            faults.append({"expected": row["text"], "got": answer["text"]})
    return faults


def check_score(program, gguf):
    rows, faults = golden("score"), []
    answers = run_on_prompts(rows, program, "score", gguf)
    if len(answers) != len(rows):
        return [f"{len(answers)} lines for {len(rows)} prompts"]
    for row, answer in zip(rows, answers):
        if answer["prompt_token_ids"] != row["prompt_token_ids"]:
            faults.append(f"token ids of {row['prompt'][:40]!r}")
            continue
        error = max(abs(a - b) for a, b in zip(answer["logprobs"], row["logprobs"], strict=True))
        if error > 1e-3 or abs(answer["perplexity"] / row["perplexity"] - 1) > 1e-3:
            faults.append(f"log-probability off by {error:.1e} in {row['prompt'][:40]!r}")
    return faults


def main():
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    program, gguf = pathlib.Path(sys.argv[1]).resolve(), pathlib.Path(sys.argv[2]) / FILE
    checks = {"import": check_import, "generate": check_generate, "score": check_score}
    failed = False
    for name in sys.argv[3:] or checks:
        faults = checks[name](program, gguf)
        failed |= bool(faults)
        print(json.dumps({"check": name, "ok": not faults, "faults": faults[:5]}, ensure_ascii=False), flush=True)
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
