"""The peer of compare_lora.py: LoRA of a LLaMA by transformers and PEFT on random tokens, as a careful user writes it.

    python peft_peer.py --shape 135m --batch 1 --seq 512 --dtype fp32 --lora 8 --learnt 1.0 --steps 6
    python peft_peer.py --device cuda --shape 8b --batch 1 --seq 4096 --dtype bf16 --lora 16 --mode layers --steps 20

Random weights of the shape, SDPA attention, an adapter of every projection, fused AdamW, clipping, no cache; masked tokens
have the label -100. `bf16` holds weights and adapter in bf16. --mode compile compiles the whole model, `layers` each
decoder layer by one compilation, which takes seconds where the whole of a large model takes minutes; trl hands the same
model and tokens to TRL's SFTTrainer. On a GPU cuDNN's attention, then FlashAttention's, and its own memory is counted.
Prints one JSON line.
"""
import json
import resource
import statistics
import tempfile
import time

import torch
from peft import LoraConfig, get_peft_model
from torch.nn.attention import SDPBackend, sdpa_kernel
from transformers import LlamaConfig, LlamaForCausalLM

from torch_peer import SHAPES, UNTIED, peer_parser, process_age

TARGETS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


def make_model(options):
    layers, hidden, heads, kv_heads, ffn, vocab = SHAPES[options.shape]
    config = LlamaConfig(num_hidden_layers=layers, hidden_size=hidden, num_attention_heads=heads,
                         num_key_value_heads=kv_heads, intermediate_size=ffn, vocab_size=vocab,
                         tie_word_embeddings=options.shape not in UNTIED, max_position_embeddings=options.seq, use_cache=False, attn_implementation="sdpa")
    dtype = torch.bfloat16 if options.dtype == "bf16" else torch.float32
    with torch.device(options.device):
        torch.set_default_dtype(dtype)  # so that no larger copy is ever there
        model = LlamaForCausalLM(config)
    lora = LoraConfig(r=options.lora, lora_alpha=2 * options.lora, target_modules=TARGETS, task_type="CAUSAL_LM")
    return get_peft_model(model, lora, autocast_adapter_dtype=False).train()


def loop_times(model, tokens, learnt, options):
    """Seconds of each step, and the last loss."""
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-4, fused=True)
    forward = torch.compile(model) if options.mode == "compile" else model
    if options.mode == "layers":
        for layer in model.get_decoder().layers:
            layer.compile()
    labels = tokens.masked_fill(~learnt, -100)
    times, first = [], None
    for _ in range(options.steps + 2):
        start = time.perf_counter()
        loss = forward(input_ids=tokens, labels=labels).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        value = loss.item()
        times.append(time.perf_counter() - start)
        first = first or process_age()
    return times, value, first


def trl_times(model, tokens, learnt, options):
    """The same of SFTTrainer, whose data are as many copies of the batch as there are steps."""
    from datasets import Dataset
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast, TrainerCallback
    from trl import SFTConfig, SFTTrainer

    class Clock(TrainerCallback):
        times = []

        def on_step_begin(self, *_, **__):
            self.start = time.perf_counter()

        def on_step_end(self, *_, **__):
            self.times.append(time.perf_counter() - self.start)

    steps = options.steps + 2
    rows = Dataset.from_dict({"input_ids": tokens.tolist() * steps, "completion_mask": learnt.long().tolist() * steps})
    words = {str(i): i for i in range(SHAPES[options.shape][5])}
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.WordLevel(words, "0")), eos_token="0", pad_token="0")
    with tempfile.TemporaryDirectory() as folder:
        config = SFTConfig(output_dir=folder, max_steps=steps, per_device_train_batch_size=options.batch, learning_rate=1e-4,
                           max_length=options.seq, use_cpu=True, bf16=False, gradient_checkpointing=False, report_to="none",
                           save_strategy="no", logging_steps=1, optim="adamw_torch_fused", disable_tqdm=True)
        trainer = SFTTrainer(model=model, args=config, train_dataset=rows, processing_class=tokenizer, callbacks=[Clock()])
        trainer.train()
    return Clock.times, [r["loss"] for r in trainer.state.log_history if "loss" in r][-1], None


def peak_bytes(device):
    if device == "cuda":
        return torch.cuda.max_memory_reserved()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def main():
    parser = peer_parser("135m", 1, 512, ("fp32", "bf16"), 6, ("eager", "compile", "layers", "trl"))
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--lora", type=int, default=8)
    parser.add_argument("--learnt", type=float, default=1.0)
    options = parser.parse_args()

    torch.manual_seed(0)
    torch.set_num_threads(options.threads)
    model = make_model(options)
    tokens = torch.randint(0, SHAPES[options.shape][5], (options.batch, options.seq), device=options.device)
    learnt = torch.ones_like(tokens, dtype=torch.bool)
    learnt[:, : round((1 - options.learnt) * options.seq)] = False
    with sdpa_kernel([SDPBackend.CUDNN_ATTENTION, SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION,
                      SDPBackend.MATH], set_priority=True):
        times, loss, first = (trl_times if options.mode == "trl" else loop_times)(model, tokens, learnt, options)
    step = statistics.median(times[2:])
    print(json.dumps({"tokens_per_s": options.batch * options.seq / step, "step_s": step,
                      "end_of_step_1_s": first, "peak_bytes": peak_bytes(options.device), "loss": loss}))


if __name__ == "__main__":
    main()
