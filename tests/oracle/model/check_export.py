"""Checks that a folder written by `flagscale checkpoint export` is the model that the oracle describes.

    python tests/oracle/model/check_export.py EXPORTED_FOLDER ORACLE.safetensors

Loads the folder with transformers in fp32 and compares logits on the oracle's input_ids, then the greedy
continuation. Prints one JSON line; exit 1 when the logits differ by more than 1e-5 relative, a greedy
token differs, or the file lacks a weight or holds one too many.
"""
import json
import pathlib
import sys

import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM
from transformers.utils import logging

TOLERANCE = 1e-5


def load(folder):
    """The model, and what transformers complained about."""
    settings = json.loads((folder / "config.json").read_text())
    arguments = {"dtype": torch.float32, "output_loading_info": True}
    if settings["model_type"] == "aquila":  # LLaMA's tensors under another name
        config = LlamaConfig(**{k: v for k, v in settings.items() if k != "model_type"})
        return LlamaForCausalLM.from_pretrained(folder, config=config, **arguments)
    return AutoModelForCausalLM.from_pretrained(folder, **arguments)


@torch.no_grad()
def compare(folder, oracle):
    model, info = load(folder)
    model.eval()
    logits = model(input_ids=oracle["input_ids"]).logits
    error = ((logits - oracle["logits"]).abs().max() / oracle["logits"].abs().max()).item()
    prompt, expected = oracle["prompt_ids"], oracle["greedy_ids"]
    model.generation_config.eos_token_id = None
    tokens = model.generate(
        prompt[None], max_new_tokens=len(expected), do_sample=False, attention_mask=torch.ones(1, len(prompt))
    )[0, len(prompt) :]
    complaints = {k: sorted(map(str, v)) for k, v in info.items() if v and k != "error_msgs"}
    same = tokens.tolist() == expected.tolist()
    ok = error <= TOLERANCE and same and not complaints
    return {"ok": ok, "logits_error": error, "greedy_equal": same, "loading": complaints}


def main():
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    result = compare(pathlib.Path(sys.argv[1]), load_file(sys.argv[2]))
    print(json.dumps(result))
    sys.exit(0 if result["ok"] else 1)


if __name__ == "__main__":
    main()
