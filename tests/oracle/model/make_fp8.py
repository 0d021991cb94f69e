"""Makes tests/golden/fp8/<name>/: a tiny Qwen3 whose matrices are e4m3 with scales, as checkpoints have them.

    python tests/oracle/model/make_fp8.py

blocks: a scale of 128 x 128 numbers, in fp32 (DeepSeek-V3's and Qwen3-FP8's format); tensor: one a tensor
(compressed-tensors). oracle.safetensors has input_ids [2, 24] and, of the model of what the weights stand for,
scale * q in fp32 rounded to bf16: two such weights, and logits [2, 24, V] computed in fp32. transformers'
own dequantisation of the blocks must give the same weights to the bit.
"""
import json
import pathlib
import shutil

import torch
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM, FineGrainedFP8Config, Qwen3Config, Qwen3ForCausalLM

GOLDEN = pathlib.Path(__file__).resolve().parents[2] / "golden" / "fp8"
CONFIG = Qwen3Config(vocab_size=96, hidden_size=256, intermediate_size=384, num_hidden_layers=1, num_attention_heads=4,
                     num_key_value_heads=2, head_dim=32, max_position_embeddings=128, tie_word_embeddings=False)
FORMATS = {
    "blocks": {"quant_method": "fp8", "activation_scheme": "dynamic", "fmt": "e4m3", "weight_block_size": [128, 128]},
    "tensor": {"quant_method": "compressed-tensors", "format": "float-quantized", "config_groups": {"group_0": {
        "targets": ["Linear"], "weights": {"num_bits": 8, "type": "float", "strategy": "tensor", "symmetric": True,
                                           "dynamic": False}}}, "ignore": ["lm_head"]},
}


def quantise(weight, block):
    """e4m3 numbers and a scale for each block; what they stand for in bf16."""
    rows, columns = weight.shape
    down, across = -(-rows // block), -(-columns // block)
    q, scales = torch.empty(weight.shape, dtype=torch.float8_e4m3fn), torch.empty(down, across)
    wide = torch.empty(weight.shape, dtype=torch.bfloat16)
    for i in range(down):
        for j in range(across):
            at = (slice(i * block, (i + 1) * block), slice(j * block, (j + 1) * block))
            scales[i, j] = weight[at].abs().max() / 448
            q[at] = (weight[at] / scales[i, j]).to(torch.float8_e4m3fn)
            wide[at] = (q[at].float() * scales[i, j]).bfloat16()
    return q, scales, wide


def make(name, quantization):
    generator = torch.Generator().manual_seed(7)
    model = Qwen3ForCausalLM(CONFIG).float().eval()
    tensors, wide = {}, {}
    for key, p in sorted(model.named_parameters()):
        noise = torch.randn(p.shape, generator=generator)
        value = (1 + 0.2 * noise if p.dim() == 1 else noise * (0.3 if "embed" in key else p.shape[-1] ** -0.5)).bfloat16()
        if p.dim() == 2 and "layers." in key:
            q, scales, value = quantise(value.float(), 128 if name == "blocks" else 1 << 20)
            tensors[key] = q
            tensors[key + ("_scale_inv" if name == "blocks" else "_scale")] = scales if name == "blocks" else scales.reshape(1)
            wide[key] = value
        else:
            tensors[key] = value
        p.data.copy_(value.float())
    ids = torch.randint(3, CONFIG.vocab_size, (2, 24), generator=generator)
    oracle = {key: value for key, value in wide.items() if "k_proj" in key or "down_proj" in key} | {"input_ids": ids}
    with torch.no_grad():
        oracle["logits"] = model(ids).logits
    folder = GOLDEN / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    config = json.loads(CONFIG.to_json_string(use_diff=False))
    kept = ("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads",
            "head_dim", "max_position_embeddings", "tie_word_embeddings", "rms_norm_eps", "model_type", "hidden_act")
    config = {key: config[key] for key in kept} | {
        "architectures": ["Qwen3ForCausalLM"], "rope_theta": 10000.0, "torch_dtype": "bfloat16", "quantization_config": quantization}
    (folder / "config.json").write_text(json.dumps(config, indent=1) + "\n")
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    save_file(oracle, folder / "oracle.safetensors")
    if name != "blocks":
        return
    loaded = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16,
                                                  quantization_config=FineGrainedFP8Config(dequantize=True))
    for key, p in loaded.named_parameters():
        if key in wide:
            assert torch.equal(p.data.cpu(), wide[key]), key


for name, quantization in FORMATS.items():
    make(name, quantization)
