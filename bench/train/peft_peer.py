"""The peer of compare_lora.py: LoRA of a LLaMA by transformers and PEFT on random tokens, as a careful user writes it.

    python peft_peer.py --shape 135m --batch 1 --seq 512 --dtype fp32 --lora 8 --learnt 1.0 --steps 6

Random weights of the shape, SDPA attention, an adapter of every projection, fused AdamW, clipping, no cache; masked tokens
have the label -100. `bf16` holds weights and adapter in bf16. Prints one JSON line.
"""
import json
import resource
import statistics
import time

import torch
from peft import LoraConfig, get_peft_model
from transformers import LlamaConfig, LlamaForCausalLM

from torch_peer import SHAPES, peer_parser

TARGETS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


def make_model(options):
    layers, hidden, heads, kv_heads, ffn, vocab = SHAPES[options.shape]
    config = LlamaConfig(num_hidden_layers=layers, hidden_size=hidden, num_attention_heads=heads,
                         num_key_value_heads=kv_heads, intermediate_size=ffn, vocab_size=vocab, tie_word_embeddings=True,
                         max_position_embeddings=options.seq, use_cache=False, attn_implementation="sdpa")
    dtype = torch.bfloat16 if options.dtype == "bf16" else torch.float32
    model = LlamaForCausalLM(config).to(dtype)
    lora = LoraConfig(r=options.lora, lora_alpha=2 * options.lora, target_modules=TARGETS, task_type="CAUSAL_LM")
    return get_peft_model(model, lora, autocast_adapter_dtype=False).train()


def main():
    parser = peer_parser("135m", 1, 512, ("fp32", "bf16"), 6)
    parser.add_argument("--lora", type=int, default=8)
    parser.add_argument("--learnt", type=float, default=1.0)
    options = parser.parse_args()

    torch.manual_seed(0)
    torch.set_num_threads(options.threads)
    model = make_model(options)
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-4, fused=True)
    forward = torch.compile(model) if options.mode == "compile" else model
    tokens = torch.randint(0, SHAPES[options.shape][5], (options.batch, options.seq))
    labels = tokens.clone()
    labels[:, : round((1 - options.learnt) * options.seq)] = -100

    times = []
    for step in range(options.steps + 2):
        start = time.perf_counter()
        loss = forward(input_ids=tokens, labels=labels).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        value = loss.item()
        if step >= 2:
            times.append(time.perf_counter() - start)
    print(json.dumps({"tokens_per_s": options.batch * options.seq / statistics.median(times),
                      "step_s": statistics.median(times),
                      "peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024, "loss": value}))


if __name__ == "__main__":
    main()
