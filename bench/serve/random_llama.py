"""Writes a Hugging Face folder of LLaMA-3-8B's shape with random bf16 weights, for speed alone: random_llama.py OUT

OUT gets 16 GB. --layers, --hidden and --intermediate make a smaller one. The tokenizer knows bytes, and names for the
other ids. Needs the PyPI package numpy.
"""

import argparse
import json
import pathlib

import numpy as np

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("out", type=pathlib.Path)
parser.add_argument("--layers", type=int, default=32)
parser.add_argument("--hidden", type=int, default=4096)
parser.add_argument("--intermediate", type=int, default=14336)
parser.add_argument("--vocabulary", type=int, default=128256)
o = parser.parse_args()
HEAD, KV = 128, o.hidden // 4

# Normal numbers are drawn once; a matrix takes them from somewhere on, again and again.
random = np.random.default_rng(0)
pool = (random.standard_normal(1 << 24, dtype=np.float32) * np.float32(0.02)).view(np.uint32)
pool = (pool >> 16).astype(np.uint16)
one = np.uint16(0x3F80)


def write(name, shapes):
    header, at = {"__metadata__": {"format": "pt"}}, 0
    for tensor, shape in shapes.items():
        size = 2 * int(np.prod(shape))
        header[tensor] = {"dtype": "BF16", "shape": shape, "data_offsets": [at, at + size]}
        at += size
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(o.out / name, "wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for shape in shapes.values():
            left = int(np.prod(shape))
            if len(shape) == 1:
                file.write(np.full(left, one).tobytes())
                continue
            first = int(random.integers(len(pool)))
            while left > 0:
                part = pool[first : first + left]
                file.write(part)
                left, first = left - len(part), 0
    return {tensor: name for tensor in shapes}


def layer(i):
    h, f, p = o.hidden, o.intermediate, f"model.layers.{i}."
    return {
        p + "input_layernorm.weight": [h],
        p + "post_attention_layernorm.weight": [h],
        p + "self_attn.q_proj.weight": [h, h],
        p + "self_attn.k_proj.weight": [KV, h],
        p + "self_attn.v_proj.weight": [KV, h],
        p + "self_attn.o_proj.weight": [h, h],
        p + "mlp.gate_proj.weight": [f, h],
        p + "mlp.up_proj.weight": [f, h],
        p + "mlp.down_proj.weight": [h, f],
    }


def tokenizer():
    """GPT-2's letters for the 256 bytes, then ids that no text gives."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    letters = [chr(b) for b in plain] + [chr(256 + i) for i in range(256 - len(plain))]
    vocabulary = {c: i for i, c in enumerate(letters)} | {f"unused{i}": i for i in range(256, o.vocabulary)}
    level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    return {
        "version": "1.0",
        "added_tokens": [],
        "pre_tokenizer": level,
        "decoder": level,
        "model": {"type": "BPE", "vocab": vocabulary, "merges": []},
    }


def main():
    o.out.mkdir(parents=True, exist_ok=True)
    matrix = [o.vocabulary, o.hidden]
    places = write("ends.safetensors", {"model.embed_tokens.weight": matrix, "model.norm.weight": [o.hidden],
                                        "lm_head.weight": matrix})
    for i in range(o.layers):
        places |= write(f"layer_{i}.safetensors", layer(i))
    (o.out / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": places}))
    (o.out / "tokenizer.json").write_text(json.dumps(tokenizer()))
    (o.out / "config.json").write_text(json.dumps({
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_act": "silu",
        "hidden_size": o.hidden, "intermediate_size": o.intermediate, "num_hidden_layers": o.layers,
        "num_attention_heads": o.hidden // HEAD, "num_key_value_heads": KV // HEAD, "head_dim": HEAD,
        "vocab_size": o.vocabulary, "max_position_embeddings": 8192, "rms_norm_eps": 1e-5, "rope_theta": 500000.0,
        "tie_word_embeddings": False, "torch_dtype": "bfloat16", "bos_token_id": 0, "eos_token_id": 1,
    }, indent=1))


main()
