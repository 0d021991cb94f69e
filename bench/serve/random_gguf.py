"""Writes a GGUF file of a named shape with random weights, for speed alone:
random_gguf.py SHAPE VOCABULARY.gguf OUT.gguf [bf16|q8_0]

The tokenizer's keys are copied from VOCABULARY.gguf (any GGUF file with a tokenizer); the vocabulary is cut or filled up
to the shape's. Needs the PyPI packages gguf and numpy.
"""

import sys

import gguf
import numpy as np

# layers, hidden, feed-forward, heads, kv heads, head size, vocabulary, tied head, architecture
SHAPES = {
    "qwen2.5-0.5b": (24, 896, 4864, 14, 2, 64, 151936, True, "qwen2"),
    "llama-3.2-1b": (16, 2048, 8192, 32, 8, 64, 128256, True, "llama"),
    "llama-3-8b": (32, 4096, 14336, 32, 8, 128, 128256, False, "llama"),
}


# Normal numbers are drawn once; a matrix takes them from some row of 32 on, again and again.
POOL = np.random.default_rng(1).standard_normal((1 << 19, 32), dtype=np.float32)
Q8_0 = gguf.quants.quantize(POOL, gguf.GGMLQuantizationType.Q8_0)  # rows of a scale in fp16, then 32 numbers


def numbers(random, rows, columns, std, kind):
    if kind == gguf.GGMLQuantizationType.Q8_0:
        block = Q8_0.copy()
        block[:, :2] = (Q8_0[:, :2].copy().view(np.float16) * np.float16(std)).view(np.uint8)
    else:
        block = ((POOL * np.float32(std)).view(np.uint32) >> 16).astype(np.uint16).view(np.uint8)
    start = random.integers(len(block))
    return np.resize(np.concatenate((block[start:], block[:start])), (rows, columns // 32 * block.shape[1]))


def main(shape, vocabulary, out, kind="bf16"):
    kind = gguf.GGMLQuantizationType[kind.upper()]
    layers, hidden, ffn, heads, kv, d, vocab, tied, arch = SHAPES[shape]
    writer = gguf.GGUFWriter(out, arch)
    writer.add_block_count(layers)
    writer.add_context_length(4096)
    writer.add_embedding_length(hidden)
    writer.add_feed_forward_length(ffn)
    writer.add_head_count(heads)
    writer.add_head_count_kv(kv)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_rope_freq_base(1e6)
    writer.add_rope_dimension_count(d)
    writer.add_vocab_size(vocab)
    writer.add_file_type(gguf.LlamaFileType[f"MOSTLY_{kind.name}"])
    add_tokenizer(writer, vocabulary, vocab)
    random = np.random.default_rng(1)

    def matrix(name, rows, columns, std=None):
        writer.add_tensor(name, numbers(random, rows, columns, std or columns**-0.5, kind), raw_dtype=kind)

    def ones(name, n, value=1.0):
        writer.add_tensor(name, np.full(n, value, np.float32))

    matrix("token_embd.weight", vocab, hidden)
    if not tied:
        matrix("output.weight", vocab, hidden)
    ones("output_norm.weight", hidden)
    for i in range(layers):
        p = f"blk.{i}."
        ones(p + "attn_norm.weight", hidden)
        ones(p + "ffn_norm.weight", hidden)
        for name, rows in (("attn_q", heads * d), ("attn_k", kv * d), ("attn_v", kv * d)):
            matrix(p + name + ".weight", rows, hidden)
            if arch == "qwen2":
                ones(p + name + ".bias", rows, 0.0)
        matrix(p + "attn_output.weight", hidden, heads * d, (heads * d * 2 * layers) ** -0.5)
        matrix(p + "ffn_gate.weight", ffn, hidden)
        matrix(p + "ffn_up.weight", ffn, hidden)
        matrix(p + "ffn_down.weight", hidden, ffn, (ffn * 2 * layers) ** -0.5)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def add_tokenizer(writer, path, vocab):
    fields = gguf.GGUFReader(path).fields
    text = lambda key: fields[key].contents()
    tokens, types = text("tokenizer.ggml.tokens"), text("tokenizer.ggml.token_type")
    tokens, types = tokens[:vocab], types[:vocab]
    tokens += [f"<unused{i}>" for i in range(vocab - len(tokens))]
    types += [5] * (vocab - len(types))
    writer.add_tokenizer_model(text("tokenizer.ggml.model"))
    if "tokenizer.ggml.pre" in fields:
        writer.add_tokenizer_pre(text("tokenizer.ggml.pre"))
    writer.add_token_list(tokens)
    writer.add_token_types(types)
    if "tokenizer.ggml.merges" in fields:
        writer.add_token_merges(text("tokenizer.ggml.merges"))
    for key, add in (("bos", writer.add_bos_token_id), ("eos", writer.add_eos_token_id)):
        if f"tokenizer.ggml.{key}_token_id" in fields:
            add(int(text(f"tokenizer.ggml.{key}_token_id")))


main(*sys.argv[1:])
