"""Makes tests/golden/io with other people's writers: `gguf`, `safetensors`, `xxhash` and numpy from PyPI.

  pip install numpy gguf safetensors sentencepiece xxhash
  python tests/oracle/io/make_goldens.py

blocks.safetensors   per block format: random blocks and what gguf's quants.dequantize makes of them
llama.gguf           a tiny llama file (q and k permuted, llama3 rope_freqs, a small BPE vocabulary, every metadata type)
qwen2.gguf           q, k, v biases, an output matrix of its own, yarn
qwen3.gguf           q and k norms, heads that are not hidden/heads wide, tied
mixtral.gguf, qwen2moe.gguf, qwen3moe.gguf   the first layer of the models in tests/golden/model, experts stacked as
                     llama.cpp's converter stacks them, in BF16, which holds them exactly
llama.safetensors    the tensors of llama.gguf as Hugging Face names and orders them, fp32
checkpoints/         a version 1 checkpoint written from the format's description alone, one tensor cut in four shards
sentencepiece.gguf   the first 400 pieces of tests/golden/text/spm_kind_bpe.model, no tensors
xxh64.json           digests of XXH64
"""

import json
import pathlib
import shutil

import gguf
import numpy as np
import safetensors.numpy
import sentencepiece
import xxhash
from gguf import GGMLQuantizationType as T

OUT = pathlib.Path(__file__).parents[2] / "golden" / "io"
FORMATS = [T.Q4_0, T.Q4_1, T.Q5_0, T.Q5_1, T.Q8_0, T.Q2_K, T.Q3_K, T.Q4_K, T.Q5_K, T.Q6_K]
# Where the fp16 scales lie in a block: random bits there would give infinities.
SCALES = {T.Q4_0: [0], T.Q4_1: [0, 2], T.Q5_0: [0], T.Q5_1: [0, 2], T.Q8_0: [0], T.Q2_K: [80, 82], T.Q3_K: [108],
          T.Q4_K: [0, 2], T.Q5_K: [0, 2], T.Q6_K: [208]}
HEADS, KV_HEADS, HEAD_DIM, HIDDEN, FFN, VOCAB, THETA = 4, 2, 16, 64, 96, 40, 10000.0


def random_blocks(rng, kind, count):
    size = gguf.GGML_QUANT_SIZES[kind][1]
    blocks = rng.integers(0, 256, (count, size), dtype=np.uint8)
    for at in SCALES[kind]:
        halves = rng.normal(0, 0.05, count).astype(np.float16)
        halves[0] = np.float16(3e-6)  # a subnormal scale
        blocks[:, at:at + 2] = halves.view(np.uint8).reshape(count, 2)
    return blocks


def make_blocks(rng):
    tensors = {}
    for kind in FORMATS:
        blocks = random_blocks(rng, kind, 6)
        tensors[f"{kind.name}.blocks"] = blocks
        tensors[f"{kind.name}.values"] = gguf.quants.dequantize(blocks, kind).astype(np.float32).reshape(-1)
    safetensors.numpy.save_file(tensors, OUT / "blocks.safetensors")


def permute(weight, heads):  # as llama.cpp's converter does
    return weight.reshape(heads, 2, weight.shape[0] // heads // 2, *weight.shape[1:]).swapaxes(1, 2).reshape(weight.shape)


def llama3_divisors(factor=8.0, low=1.0, high=4.0, original=64):
    wave = 2 * np.pi * THETA ** (np.arange(0, HEAD_DIM, 2) / HEAD_DIM)
    smooth = (original / wave - low) / (high - low)
    blend = 1 / ((1 - smooth) / factor + smooth)
    return np.where(wave < original / high, 1.0, np.where(wave > original / low, factor, blend)).astype(np.float32)


def make_qwen(rng, arch, layers, heads, kv_heads, head_dim):
    hidden, ffn = 32, 48
    q, kv = heads * head_dim, kv_heads * head_dim
    shapes = {"token_embd.weight": (VOCAB, hidden), "output_norm.weight": (hidden,)}
    for i in range(layers):
        block = {"attn_norm.weight": (hidden,), "ffn_norm.weight": (hidden,), "attn_q.weight": (q, hidden),
                 "attn_k.weight": (kv, hidden), "attn_v.weight": (kv, hidden), "attn_output.weight": (hidden, q),
                 "ffn_gate.weight": (ffn, hidden), "ffn_up.weight": (ffn, hidden), "ffn_down.weight": (hidden, ffn)}
        if arch == "qwen2":
            block |= {"attn_q.bias": (q,), "attn_k.bias": (kv,), "attn_v.bias": (kv,)}
        else:
            block |= {"attn_q_norm.weight": (head_dim,), "attn_k_norm.weight": (head_dim,)}
        shapes |= {f"blk.{i}.{name}": shape for name, shape in block.items()}
    writer = gguf.GGUFWriter(OUT / f"{arch}.gguf", arch)
    writer.add_context_length(256)
    writer.add_embedding_length(hidden)
    writer.add_block_count(layers)
    writer.add_feed_forward_length(ffn)
    writer.add_head_count(heads)
    writer.add_head_count_kv(kv_heads)
    writer.add_key_length(head_dim)
    writer.add_value_length(head_dim)
    writer.add_rope_freq_base(1e6)
    writer.add_layer_norm_rms_eps(1e-6)
    if arch == "qwen2":
        shapes["output.weight"] = (VOCAB, hidden)
        writer.add_rope_scaling_type(gguf.RopeScalingType.YARN)
        writer.add_rope_scaling_factor(4.0)
        writer.add_rope_scaling_orig_ctx_len(64)
    add_tokenizer(writer, "qwen2")
    for name, shape in shapes.items():
        writer.add_tensor(name, rng.normal(1 if "norm" in name else 0, 0.2, shape).astype(np.float32))
    finish(writer)


def finish(writer):
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def make_llama(rng):
    weights = {
        "model.embed_tokens.weight": ("token_embd.weight", (VOCAB, HIDDEN), T.Q8_0),
        "model.norm.weight": ("output_norm.weight", (HIDDEN,), T.F32),
        "model.layers.0.input_layernorm.weight": ("blk.0.attn_norm.weight", (HIDDEN,), T.F32),
        "model.layers.0.post_attention_layernorm.weight": ("blk.0.ffn_norm.weight", (HIDDEN,), T.F32),
        "model.layers.0.self_attn.q_proj.weight": ("blk.0.attn_q.weight", (HEADS * HEAD_DIM, HIDDEN), T.Q4_0),
        "model.layers.0.self_attn.k_proj.weight": ("blk.0.attn_k.weight", (KV_HEADS * HEAD_DIM, HIDDEN), T.F16),
        "model.layers.0.self_attn.v_proj.weight": ("blk.0.attn_v.weight", (KV_HEADS * HEAD_DIM, HIDDEN), T.BF16),
        "model.layers.0.self_attn.o_proj.weight": ("blk.0.attn_output.weight", (HIDDEN, HEADS * HEAD_DIM), T.Q4_1),
        "model.layers.0.mlp.gate_proj.weight": ("blk.0.ffn_gate.weight", (FFN, HIDDEN), T.Q5_0),
        "model.layers.0.mlp.up_proj.weight": ("blk.0.ffn_up.weight", (FFN, HIDDEN), T.Q5_1),
        "model.layers.0.mlp.down_proj.weight": ("blk.0.ffn_down.weight", (HIDDEN, FFN), T.F32),
    }
    writer = gguf.GGUFWriter(OUT / "llama.gguf", "llama")
    add_metadata(writer)
    expected = {}
    for name, (stored, shape, kind) in weights.items():
        value = rng.normal(0, 0.1, shape).astype(np.float32)
        heads = {"attn_q": HEADS, "attn_k": KV_HEADS}.get(stored.split(".")[-2])
        data = gguf.quants.quantize(permute(value, heads) if heads else value, kind)
        exact = gguf.quants.dequantize(data, kind).reshape(shape).astype(np.float32)
        if heads:  # back, from the same quantised numbers
            exact = exact.reshape(heads, HEAD_DIM // 2, 2, -1).swapaxes(1, 2).reshape(shape)
        expected[name] = np.ascontiguousarray(exact)
        writer.add_tensor(stored, data, raw_dtype=kind)
    writer.add_tensor("rope_freqs.weight", llama3_divisors())
    finish(writer)
    safetensors.numpy.save_file(expected, OUT / "llama.safetensors")


EXPERT_NAMES = {
    "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output",
    "self_attn.q_norm": "attn_q_norm", "self_attn.k_norm": "attn_k_norm", "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm", "gate": "ffn_gate_inp", "shared_expert_gate": "ffn_gate_inp_shexp",
    "shared_expert.gate_proj": "ffn_gate_shexp", "shared_expert.up_proj": "ffn_up_shexp",
    "shared_expert.down_proj": "ffn_down_shexp", "w1": "ffn_gate_exps", "w3": "ffn_up_exps", "w2": "ffn_down_exps",
    "gate_proj": "ffn_gate_exps", "up_proj": "ffn_up_exps", "down_proj": "ffn_down_exps"}


def read_bf16(path):
    data = path.read_bytes()
    length = int.from_bytes(data[:8], "little")
    for name, entry in json.loads(data[8:8 + length]).items():
        if name == "__metadata__":
            continue
        begin, end = (8 + length + at for at in entry["data_offsets"])
        bits = np.frombuffer(data[begin:end], np.uint16).astype(np.uint32) << 16
        yield name, bits.view(np.float32).reshape(entry["shape"])


def make_mixture(model, arch, file):
    folder = OUT.parent / "model" / model
    config = json.loads((folder / "config.json").read_text())
    writer = gguf.GGUFWriter(OUT / file, arch)
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_block_count(1)
    writer.add_feed_forward_length(config["intermediate_size"])
    heads = {"attn_q": config["num_attention_heads"], "attn_k": config["num_key_value_heads"]}
    writer.add_head_count(heads["attn_q"])
    writer.add_head_count_kv(heads["attn_k"])
    writer.add_rope_freq_base(config["rope_theta"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_expert_used_count(config["num_experts_per_tok"])
    writer.add_expert_count(config.get("num_local_experts") or config["num_experts"])
    if "head_dim" in config:
        writer.add_key_length(config["head_dim"])
        writer.add_value_length(config["head_dim"])
    if "moe_intermediate_size" in config:
        writer.add_expert_feed_forward_length(config["moe_intermediate_size"])
    if "shared_expert_intermediate_size" in config:
        writer.add_expert_shared_feed_forward_length(config["shared_expert_intermediate_size"])
    stacks = {}
    for name, value in sorted(read_bf16(folder / "model.safetensors")):
        if name in ("model.embed_tokens.weight", "model.norm.weight", "lm_head.weight"):
            stored = {"m": "output_norm.weight", "l": "output.weight"}[name[0]]
            stacks[stored if "embed" not in name else "token_embd.weight"] = value
        if not name.startswith("model.layers.0."):
            continue
        base, suffix = name.removeprefix("model.layers.0.").rsplit(".", 1)
        base = base.removeprefix("mlp.").removeprefix("block_sparse_moe.")
        if base.startswith("experts."):
            base = base.split(".")[2]
            stacks.setdefault(f"blk.0.{EXPERT_NAMES[base]}.{suffix}", []).append(value)
            continue
        stored = EXPERT_NAMES[base]
        if arch == "llama" and stored in heads:
            value = permute(value, heads[stored])
        stacks[f"blk.0.{stored}.{suffix}"] = value[0] if stored == "ffn_gate_inp_shexp" else value
    for stored, value in stacks.items():
        value = np.ascontiguousarray(np.stack(value) if isinstance(value, list) else value)
        kind = T.F32 if value.ndim == 1 or "inp" in stored else T.BF16
        writer.add_tensor(stored, gguf.quants.quantize(value, kind), raw_dtype=kind)
    finish(writer)


def make_mixtures():
    make_mixture("mixtral", "llama", "mixtral.gguf")
    make_mixture("qwen2_moe", "qwen2moe", "qwen2moe.gguf")
    make_mixture("qwen3_moe", "qwen3moe", "qwen3moe.gguf")


def add_metadata(writer):
    writer.add_context_length(512)
    writer.add_embedding_length(HIDDEN)
    writer.add_block_count(1)
    writer.add_feed_forward_length(FFN)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KV_HEADS)
    writer.add_rope_dimension_count(HEAD_DIM)
    writer.add_rope_freq_base(THETA)
    writer.add_layer_norm_rms_eps(1e-5)
    add_tokenizer(writer, "smollm")
    writer.add_uint8("test.u8", 200)
    writer.add_int8("test.i8", -100)
    writer.add_uint16("test.u16", 60000)
    writer.add_int16("test.i16", -30000)
    writer.add_uint64("test.u64", 1 << 40)
    writer.add_int64("test.i64", -(1 << 40))
    writer.add_float64("test.f64", 0.1)
    writer.add_array("test.floats", [0.5, -1.25])
    writer.add_array("test.bools", [True, False])


def add_tokenizer(writer, pre):
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(pre)
    tokens = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"] + [chr(33 + i) for i in range(VOCAB - 4)] + ["!\""]
    writer.add_token_list(tokens)
    writer.add_token_types([3, 3, 3] + [1] * (VOCAB - 3))
    writer.add_token_merges(["! \""])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_pad_token_id(2)
    writer.add_add_bos_token(False)
    writer.add_chat_template("{{ messages[0].content }}")


def make_sentencepiece():
    model = sentencepiece.SentencePieceProcessor(str(OUT.parent / "text" / "spm_kind_bpe.model"))
    writer = gguf.GGUFWriter(OUT / "sentencepiece.gguf", "llama")
    pieces = range(min(400, len(model)))
    kinds = {"is_unknown": 2, "is_control": 3, "is_unused": 5, "is_byte": 6}
    writer.add_tokenizer_model("llama")
    writer.add_token_list([model.IdToPiece(i) for i in pieces])
    writer.add_token_scores([model.GetScore(i) for i in pieces])
    writer.add_token_types([next((kind for name, kind in kinds.items() if getattr(model, name)(i)), 1) for i in pieces])
    writer.add_bos_token_id(model.bos_id())
    writer.add_eos_token_id(model.eos_id())
    writer.add_unk_token_id(model.unk_id())
    finish(writer)


def checksum(data):
    return "xxh64:" + xxhash.xxh64(data).hexdigest()


def make_checkpoint(rng):
    """Two files; "cut" [4, 6] lies in four quarters over both, the others are whole."""
    folder = OUT / "checkpoints" / "iter_0000007"
    folder.mkdir(parents=True)
    cut = rng.normal(size=(4, 6)).astype(np.float32)
    norm = rng.normal(size=5).astype(np.float32)
    moment = rng.normal(size=(3, 2)).astype(np.float32)
    steps = np.array(12, dtype=np.int64)
    quarters = {f"cut@{r},{c}": cut[r:r + 2, c:c + 3].copy() for r in (0, 2) for c in (0, 3)}
    files = {"rank_00000_00000.safetensors": {"norm": norm, "cut@0,0": quarters["cut@0,0"], "cut@2,0": quarters["cut@2,0"]},
             "rank_00001_00000.safetensors": {"cut@0,3": quarters["cut@0,3"], "cut@2,3": quarters["cut@2,3"],
                                              "exp_avg:norm": moment, "steps": steps}}
    shapes = {"cut": [4, 6], "norm": [5], "exp_avg:norm": [3, 2], "steps": []}
    tensors = {name: {"name": name, "dtype": "int64" if name == "steps" else "float32", "shape": shape, "shards": []}
               for name, shape in shapes.items()}
    sizes = {}
    for file, held in files.items():
        safetensors.numpy.save_file(held, folder / file)
        data = (folder / file).read_bytes()
        sizes[file] = len(data)
        length = int.from_bytes(data[:8], "little")
        for key, entry in json.loads(data[8:8 + length]).items():
            name, _, start = key.partition("@")
            begin, end = (8 + length + at for at in entry["data_offsets"])
            tensors[name]["shards"].append({
                "start": [int(n) for n in start.split(",")] if start else [0] * len(shapes[name]),
                "size": entry["shape"], "file": file, "offset": begin, "bytes": end - begin,
                "checksum": checksum(data[begin:end])})
    manifest = {"format": "flagscale-checkpoint", "version": 1, "checksum": "xxh64:" + "0" * 16,
                "state": {"iteration": 7, "consumed_samples": 448, "threads": 2, "instruction_set": "avx2",
                          "config": "train:\n  model:\n    seed: 42\n", "extra": {"loss": "0x1.8p+1"}},
                "files": sizes, "tensors": list(tensors.values())}
    text = json.dumps(manifest, indent=1) + "\n"
    (folder / "manifest.json").write_text(text.replace("xxh64:" + "0" * 16, checksum(text.encode()), 1))
    (folder.parent / "latest_checkpointed_iteration.txt").write_text("7\n")
    safetensors.numpy.save_file({"cut": cut, "norm": norm, "exp_avg:norm": moment}, OUT / "checkpoint.safetensors")


def main():
    shutil.rmtree(OUT, ignore_errors=True)
    OUT.mkdir(parents=True)
    rng = np.random.default_rng(7)
    make_blocks(rng)
    make_llama(rng)
    make_checkpoint(rng)
    make_qwen(rng, "qwen2", layers=2, heads=4, kv_heads=2, head_dim=8)
    make_qwen(rng, "qwen3", layers=1, heads=2, kv_heads=1, head_dim=128)  # transformers reads no other head_dim
    make_mixtures()
    make_sentencepiece()
    data = bytes(i * 7 % 251 for i in range(1000))
    digests = [[n, seed, xxhash.xxh64(data[:n], seed=seed).hexdigest()]
               for n in (0, 1, 3, 4, 8, 31, 32, 33, 63, 64, 100, 1000) for seed in (0, 20260101)]
    (OUT / "xxh64.json").write_text(json.dumps(digests) + "\n")


if __name__ == "__main__":
    main()
