"""What rounding a model's output head costs in perplexity: head_rounding.py MODEL TEXT [--layers fp8]

MODEL is a Hugging Face folder. The text is scored as llama-perplexity does, the second half of pieces of 512 tokens,
with the layers in fp32 or, --layers fp8, as `--quantization fp8 --compute fast` has them on a GPU; the head in each
format of --quantize-lm-head, and in four bits. Needs the PyPI packages torch and transformers.
"""

import argparse
import math
import pathlib

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("model")
parser.add_argument("text", type=pathlib.Path)
parser.add_argument("--layers", choices=["fp32", "fp8"], default="fp32")
o = parser.parse_args()

SLICE = 1024  # of a row of activations, with one scale


def bf16(x):
    return x.bfloat16().float()


def e4m3(x):
    return x.clamp(-448, 448).to(torch.float8_e4m3fn).float()


def scale_of_rows(w, largest):
    """A scale a row in bf16, rounded up."""
    wanted = w.abs().amax(1, keepdim=True) / largest
    near = wanted.bfloat16()
    above = (near.view(torch.int16) + 1).view(torch.bfloat16)
    return torch.where(near.float() >= wanted, near.float(), above.float())


def fp8_rows(w):
    scale = scale_of_rows(w, 448)
    return e4m3(w / scale) * scale


def int8_rows(w):
    scale = scale_of_rows(w, 127)
    return bf16((w / scale).round().clamp(-127, 127) * scale)


def int4_groups(w, size):
    groups = torch.nn.functional.pad(w, (0, -w.shape[1] % size)).view(w.shape[0], -1, size)
    largest = groups.gather(2, groups.abs().argmax(2, keepdim=True))
    scale = (largest / -8).half().float()
    q = torch.where(scale != 0, (groups / scale).round().clamp(-8, 7), 0)
    return bf16((q * scale).view(w.shape[0], -1)[:, : w.shape[1]])


def fp8_activations(x):
    def rounded(part):
        largest = part.abs().amax(-1, keepdim=True).clamp_min(1e-30)
        return e4m3(part * (448 / largest)) * (largest / 448)

    return torch.cat([rounded(part) for part in bf16(x).split(SLICE, -1)], -1)


@torch.no_grad()
def main():
    tokenizer = AutoTokenizer.from_pretrained(o.model)
    model = AutoModelForCausalLM.from_pretrained(o.model, dtype=torch.float32).eval()
    head = model.lm_head.weight.detach().clone()
    if o.layers == "fp8":
        for module in model.model.modules():
            if isinstance(module, torch.nn.Linear):
                module.weight.data = fp8_rows(module.weight.data)
                module.register_forward_pre_hook(lambda _, x: (fp8_activations(x[0]),))
    ids = torch.tensor(tokenizer(o.text.read_text())["input_ids"])
    pieces = ids[: len(ids) // 512 * 512].view(-1, 512)
    hidden = [model.model(piece[None]).last_hidden_state[0, 256:511] for piece in pieces]
    x, labels = torch.cat(hidden), pieces[:, 257:].reshape(-1)

    def scores(x, w):
        parts = zip(x.split(512), labels.split(512))
        return torch.cat([(x @ w.T).log_softmax(1).gather(1, y[:, None])[:, 0] for x, y in parts]).double()

    plain = scores(bf16(x), bf16(head))
    print(f"{len(labels)} tokens, layers in {o.layers}, head in bf16: perplexity {math.exp(-plain.mean()):.3f}")
    for name, x, w in [
        ("fp8, activations in bf16", bf16(x), bf16(fp8_rows(head))),
        ("fp8, activations in fp8", fp8_activations(x), fp8_rows(head)),
        ("int8", bf16(x), int8_rows(head)),
        ("int4", bf16(x), int4_groups(head, 128)),
        ("int4-32", bf16(x), int4_groups(head, 32)),
    ]:
        change = scores(x, w) - plain
        percent = 100 * (math.exp(-change.mean()) - 1)
        error = 100 * change.std().item() / len(change) ** 0.5
        print(f"{name:26} {percent:+6.2f} % (+-{error:.2f}), log-probabilities move by {change.square().mean().sqrt():.3f}")


main()
