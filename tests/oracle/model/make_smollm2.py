"""Makes tests/golden/model/smollm2/{generate,score,train}.json from the real SmolLM2-135M-Instruct.

    python tests/oracle/model/make_smollm2.py FOLDER_WITH_THE_GGUF ENGLISH_TEXT [generate|score|train]

fp32 by transformers on the dequantised file. `generate`: greedy, 32 tokens or to the end token; margins
are best minus second logit, and where one is below 1e-3 the rest of that text may rightly differ.
`score`: log-probability of each token after the first. `train`: 20 steps of full fine-tuning on the
text's first tokens, batch 2 of 65 tokens, with the optimizer of ../train/reference_adamw.py.
"""
import json
import math
import pathlib
import sys

import torch
from transformers.utils import logging

from smollm2 import load_model, load_tokenizer
from smollm2_texts import CHATS, PROMPTS, TEXTS

HERE = pathlib.Path(__file__).resolve().parent
sys.path.append(str(HERE.parent / "train"))
from reference_adamw import SETTINGS, train  # noqa: E402

GOLDEN = HERE.parents[1] / "golden" / "model" / "smollm2"
NEW_TOKENS = 32
STEPS, BATCH, LENGTH = 20, 2, 64


def requests(tokenizer):
    for prompt in PROMPTS:
        yield {"prompt": prompt}, tokenizer.encode(prompt)
    for messages in CHATS:
        text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        yield {"messages": messages, "rendered": text}, tokenizer.encode(text)


@torch.no_grad()
def generate(model, tokenizer):
    results = []
    for request, ids in requests(tokenizer):
        step, cache, tokens, margins = torch.tensor([ids]), None, [], []
        while len(tokens) < NEW_TOKENS:
            out = model(input_ids=step, past_key_values=cache, use_cache=True)
            best, cache = out.logits[0, -1].topk(2), out.past_key_values
            tokens.append(best.indices[0].item())
            margins.append(round((best.values[0] - best.values[1]).item(), 5))
            if tokens[-1] == tokenizer.eos_token_id:
                break
            step = best.indices[None, :1]
        ended = tokens[-1] == tokenizer.eos_token_id
        text = tokenizer.decode(tokens, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        results.append(request | {
            "prompt_token_ids": ids, "token_ids": tokens, "margins": margins, "text": text,
            "finish_reason": "stop" if ended else "length"})
        print(f"{min(margins):.4f}", json.dumps(text, ensure_ascii=False))
    return results


@torch.no_grad()
def score(model, tokenizer):
    results = []
    for text in TEXTS:
        ids = tokenizer.encode(text)
        assert tokenizer.decode(ids, clean_up_tokenization_spaces=False) == text
        logprobs = model(input_ids=torch.tensor([ids])).logits[0].double().log_softmax(-1)
        chosen = logprobs[:-1].gather(1, torch.tensor(ids[1:])[:, None])[:, 0]
        results.append({
            "prompt": text, "prompt_token_ids": ids, "logprobs": [round(v, 6) for v in chosen.tolist()],
            "perplexity": math.exp(-chosen.mean().item())})
        print(f"{len(ids)} tokens, perplexity {results[-1]['perplexity']:.2f}")
    return results


def fine_tune(model, tokenizer, text):
    settings = SETTINGS | {
        "lr": 1e-4, "min_lr": 1e-5, "lr_warmup_samples": 4 * BATCH, "lr_decay_samples": STEPS * BATCH,
        "seq_length": LENGTH, "micro_batch_size": BATCH, "global_batch_size": BATCH, "train_iters": STEPS}
    need = STEPS * BATCH * (LENGTH + 1)
    tokens = torch.tensor(tokenizer.encode(text[: 8 * need])[:need]).view(STEPS, BATCH, LENGTH + 1)
    record, _ = train(model.train(), tokens, BATCH, settings)
    print("losses", [round(v, 3) for v in record["loss"]])
    return [{"settings": settings, "tokens": tokens.tolist()} | record]


def main():
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    torch.use_deterministic_algorithms(True)
    torch.set_num_threads(1)
    folder, text = sys.argv[1], pathlib.Path(sys.argv[2]).read_text()
    model, tokenizer = load_model(folder), load_tokenizer(folder)
    GOLDEN.mkdir(parents=True, exist_ok=True)
    parts = {"generate": generate, "score": score, "train": lambda m, t: fine_tune(m, t, text)}
    for name in sys.argv[3:] or parts:
        rows = [json.dumps(row, ensure_ascii=False) for row in parts[name](model, tokenizer)]
        body = rows[0] if name == "train" else "[\n" + ",\n".join(rows) + "\n]"
        (GOLDEN / f"{name}.json").write_text(body + "\n")


if __name__ == "__main__":
    main()
