"""40 greedy answers of the served SmolLM2-135M-Instruct against transformers, from the same GGUF file in fp32.

    python tests/oracle/model/check_served.py PROGRAM FOLDER_WITH_THE_GGUF [TOKENS]

Each question is asked alone, and again among 32 requests of all kinds at once. The token ids must be
transformers', except after a token whose margin to the next best was below 1e-3 there. Prints one JSON line.
"""
import concurrent.futures
import json
import pathlib
import random
import re
import subprocess
import sys
import urllib.request

import torch
from transformers.utils import logging

from smollm2 import FILE, load_model, load_tokenizer
from smollm2_texts import CHATS, PROMPTS, TEXTS

MORE = [
    "Water boils at", "The largest planet is", "A haiku about rain:\n", "To be or not to be,", "Roses are red,",
    "My favourite book is", "The recipe needs three eggs,", "import numpy as np\n\n", "SELECT name FROM", "Es war einmal",
    "The stock market fell today because", "Q: What is 2 + 2?\nA:", "Title: The Last Train\n\nChapter 1\n",
    "Photosynthesis is", "She opened the door and", "Il était une fois", "The speed of light is", "<html>\n<head>\n",
    "Step 1: Preheat the oven to", "Once there was a dragon who", "The meaning of life is", "for i in range(10):\n    ",
]
QUESTIONS = [{"prompt": text} for text in PROMPTS + MORE] + [{"messages": chat} for chat in CHATS]
QUESTIONS += [{"prompt": text[:80]} for text in TEXTS][: 40 - len(QUESTIONS)]


def oracle(model, tokenizer, question, count):
    if "prompt" in question:
        ids = tokenizer.encode(question["prompt"])
    else:
        text = tokenizer.apply_chat_template(question["messages"], tokenize=False, add_generation_prompt=True)
        ids = tokenizer.encode(text)
    with torch.no_grad():
        out = model.generate(torch.tensor([ids]), attention_mask=torch.ones(1, len(ids)), do_sample=False, max_new_tokens=count,
                             eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.eos_token_id,
                             return_dict_in_generate=True, output_logits=True)
    margins = [float(-logits[0].topk(2).values.diff()) for logits in out.logits]
    return out.sequences[0][len(ids):].tolist(), margins


class Server:
    def __init__(self, program, gguf):
        command = [program, "serve", gguf, "--port", "0", "--compute", "exact", "--max-num-seqs", "32", "--max-model-len", "2048"]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        self.url = re.search(r" at (http\S+) ", self.process.stdout.readline()).group(1)

    def post(self, path, body):
        request = urllib.request.Request(self.url + path, json.dumps(body).encode(), {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=600) as answer:
            return answer.read()

    def ask(self, question, count):
        body = {**question, "max_tokens": count, "temperature": 0, "logprobs": 0 if "prompt" in question else True,
                "return_tokens_as_token_ids": True, "skip_special_tokens": False, "include_stop_str_in_output": True}
        path = "/v1/completions" if "prompt" in question else "/v1/chat/completions"
        logprobs = json.loads(self.post(path, body))["choices"][0]["logprobs"]
        names = logprobs["tokens"] if "prompt" in question else [token["token"] for token in logprobs["content"]]
        return [int(name.removeprefix("token_id:")) for name in names]

    def stop(self):
        self.process.terminate()
        return self.process.wait()


def other_request(draw):
    """One of the kinds that others send meanwhile."""
    text = draw.choice(TEXTS)[: draw.randrange(20, 300)]
    body = {"prompt": text, "max_tokens": draw.randrange(4, 40), "temperature": draw.choice([0.5, 1.0, 1.5]), "seed": draw.randrange(1000)}
    kind = draw.randrange(6)
    more = [{}, {"n": 2}, {"logprobs": 3, "echo": True}, {"guided_regex": "[a-z ]{5,30}"}, {"stream": True},
            {"repetition_penalty": 1.2, "top_k": 20, "stop": ["the"]}][kind]
    return {**body, **more}


def main():
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    program, folder = pathlib.Path(sys.argv[1]).resolve(), pathlib.Path(sys.argv[2])
    count = int(sys.argv[3]) if len(sys.argv) > 3 else 24
    model, tokenizer = load_model(folder), load_tokenizer(folder)
    expected = [oracle(model, tokenizer, question, count) for question in QUESTIONS]
    del model
    server = Server(program, folder / FILE)
    alone = [server.ask(question, count) for question in QUESTIONS]
    together = [None] * len(QUESTIONS)
    draw = random.Random(1)
    with concurrent.futures.ThreadPoolExecutor(32) as pool:
        for first in range(0, len(QUESTIONS), 8):  # 8 of them among 24 others, started in any order
            jobs = {pool.submit(server.ask, QUESTIONS[i], count): i for i in range(first, first + 8)}
            others = [pool.submit(server.post, "/v1/completions", other_request(draw)) for _ in range(24)]
            for job, i in jobs.items():
                together[i] = job.result()
            for job in others:
                job.result()
    code = server.stop()
    faults, after_ties = [], 0
    for question, (tokens, margins), first, second in zip(QUESTIONS, expected, alone, together, strict=True):
        tokens = [t for t in tokens if t != tokenizer.eos_token_id]
        first, second = ([t for t in row if t != tokenizer.eos_token_id] for row in (first, second))
        if first == tokens == second:
            continue
        clear = next((i for i, margin in enumerate(margins) if margin < 1e-3), len(margins))
        if first == second and first[:clear] == tokens[:clear]:
            after_ties += 1
        else:
            faults.append({"question": question, "expected": tokens, "alone": first, "together": second})
    print(json.dumps({"check": "served greedily", "questions": len(QUESTIONS), "tokens": sum(len(t) for t, _ in expected),
                      "identical": len(QUESTIONS) - len(faults) - after_ties, "differ_after_a_tie": after_ties,
                      "exit_code": code, "faults": faults[:3]}))
    sys.exit(1 if faults or code else 0)


if __name__ == "__main__":
    main()
