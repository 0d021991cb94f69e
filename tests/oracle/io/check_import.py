"""Checks a folder that `flagscale checkpoint import FILE.gguf FOLDER` made against transformers' own reading of the file.

  pip install torch transformers accelerate gguf
  python tests/oracle/io/check_import.py FILE.gguf FOLDER

transformers ignores rope scaling in GGUF files: the scaling that we read is given to its model too. Every weight must be equal bit for bit (fp32 folders), and logits too; with a tokenizer.json in the folder, so must ids and the
rendered chat. Exit status 1 otherwise.
"""

import pathlib
import sys

import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

TEXTS = ["What is the capital of France?", "def f(x):\n    return x ** 2  # 1234567 été 日本語 🙂\n\n\t end", "  two  spaces\r\n"]


def main():
    file, folder = map(pathlib.Path, sys.argv[1:3])
    theirs = AutoModelForCausalLM.from_pretrained(file.parent, gguf_file=file.name, dtype=torch.float32)
    ours = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    if theirs.config.rope_parameters != ours.config.rope_parameters:
        print(f"rope: {ours.config.rope_parameters}, transformers reads {theirs.config.rope_parameters}")
        config = AutoConfig.from_pretrained(file.parent, gguf_file=file.name)
        config.rope_parameters = ours.config.rope_parameters
        theirs = AutoModelForCausalLM.from_pretrained(file.parent, gguf_file=file.name, config=config, dtype=torch.float32)
    same = True
    their_weights = theirs.state_dict()
    for name, weight in ours.state_dict().items():
        if not torch.equal(weight, their_weights[name]):
            print(f"{name} differs by up to {(weight - their_weights[name]).abs().max()}")
            same = False
    ids = torch.arange(1, 200).reshape(1, -1) * 7 % ours.config.vocab_size
    with torch.no_grad():
        difference = (ours(ids).logits - theirs(ids).logits).abs().max().item()
    print(f"{len(their_weights)} weights; logits differ by up to {difference}")
    same = same and difference == 0
    if (folder / "tokenizer.json").exists():
        same = check_tokenizer(file, folder) and same
    sys.exit(0 if same else 1)


def check_tokenizer(file, folder):
    theirs = AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name)
    ours = AutoTokenizer.from_pretrained(folder)
    chat = [{"role": "user", "content": TEXTS[0]}]
    same = ours.apply_chat_template(chat, tokenize=False) == theirs.apply_chat_template(chat, tokenize=False)
    for text in TEXTS + [ours.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)]:
        a, b = ours(text).input_ids, theirs(text).input_ids
        if a != b or ours.decode(a) != text:
            print(f"{text!r}:\n  ours   {a}\n  theirs {b}")
            same = False
    return same


if __name__ == "__main__":
    main()
