"""Which 4 bits a frozen base takes least harm from: ours (load_in_4bit) or bitsandbytes' NF4. docs/finetuning.md has the answer.

    pip install bitsandbytes==0.50.2 gguf
    python tests/oracle/train/compare_4bit.py FILE.gguf TEXT

FILE has the weights in bf16. Perplexity on the second half of each piece of 512 tokens in fp32, with every matrix but the
embedding replaced by what a format makes of it, the embedding in 8 bits as load_in_4bit has it; and the root mean square
error, relative to the weights, of the model's and of normal numbers. Ours: 32 numbers around zero share a scale, the best one
for its codes (op/packed_linear/packing_blocks.cc). NF4: 64 share their largest magnitude. Both take 4.5 bits a number.
"""
import math
import pathlib
import sys

import torch
from bitsandbytes.functional import dequantize_4bit, quantize_4bit
from transformers import AutoModelForCausalLM, AutoTokenizer


def nf4(w):
    return dequantize_4bit(*quantize_4bit(w, blocksize=64, quant_type="nf4"))


def ours(w):
    x = w.reshape(-1, 32)
    first = x.gather(1, x.abs().argmax(1, keepdim=True)) / -8
    q = (x / torch.where(first == 0, 1, first)).round().clamp(-8, 7)
    scale = (x * q).sum(1, keepdim=True) / (q * q).sum(1, keepdim=True).clamp(min=1e-30)
    return (q * scale.half().float()).reshape(w.shape)


def int8(w):
    scale = w.abs().amax(1, keepdim=True) / 127
    return (w / scale).round() * scale


def error(pairs):
    return math.sqrt(sum((a - b).square().sum().item() for a, b in pairs) / sum(b.square().sum().item() for _, b in pairs))


@torch.no_grad()
def perplexity(model, ids):
    loss = count = 0
    for piece in ids[: len(ids) // 512 * 512].split(512):
        logits = model(piece[None]).logits[0, 256:-1]
        loss += torch.nn.functional.cross_entropy(logits, piece[257:], reduction="sum").item()
        count += 255
    return math.exp(loss / count), count


def main():
    file, text = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]).read_text()
    tokenizer = AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name)
    model = AutoModelForCausalLM.from_pretrained(file.parent, gguf_file=file.name, dtype=torch.float32).eval()
    ids = torch.tensor(tokenizer(text, add_special_tokens=False).input_ids)
    stored = {n: p.detach().clone() for n, p in model.named_parameters() if p.dim() == 2}
    normal = torch.randn(4096, 1024, generator=torch.Generator().manual_seed(1))
    print("stored: perplexity %.3f over %d tokens" % perplexity(model, ids), flush=True)
    for form in (ours, nf4):
        made = {n: int8(w) if "embed" in n else form(w) for n, w in stored.items()}
        errors = error([(made[n], w) for n, w in stored.items() if "embed" not in n]), error([(form(normal), normal)])
        print("%s: errors %.4f of the model's, %.4f of normal numbers" % (form.__name__, *errors), flush=True)
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if name in made:
                    parameter.copy_(made[name])
        print("  perplexity %.3f over %d tokens" % perplexity(model, ids), flush=True)


if __name__ == "__main__":
    main()
