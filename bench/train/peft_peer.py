"""The peer of compare_lora.py: LoRA of a LLaMA by transformers and PEFT on random tokens, as a careful user writes it.

    python peft_peer.py --shape 135m --batch 1 --seq 512 --dtype fp32 --lora 8 --learnt 1.0 --steps 6

Random weights of the shape, SDPA attention, an adapter of every projection, fused AdamW, clipping, no cache; masked tokens
have the label -100. `bf16` holds weights and adapter in bf16. --mode trl hands the same model and tokens to TRL's
SFTTrainer. Prints one JSON line.
"""
import json
import resource
import statistics
import tempfile
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


def loop_times(model, tokens, learnt, options):
    """Seconds of each step, and the last loss."""
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-4, fused=True)
    forward = torch.compile(model) if options.mode == "compile" else model
    labels = tokens.masked_fill(~learnt, -100)
    times = []
    for _ in range(options.steps + 2):
        start = time.perf_counter()
        loss = forward(input_ids=tokens, labels=labels).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        value = loss.item()
        times.append(time.perf_counter() - start)
    return times, value


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
    return Clock.times, [r["loss"] for r in trainer.state.log_history if "loss" in r][-1]


def main():
    parser = peer_parser("135m", 1, 512, ("fp32", "bf16"), 6, ("eager", "compile", "trl"))
    parser.add_argument("--lora", type=int, default=8)
    parser.add_argument("--learnt", type=float, default=1.0)
    options = parser.parse_args()

    torch.manual_seed(0)
    torch.set_num_threads(options.threads)
    model = make_model(options)
    tokens = torch.randint(0, SHAPES[options.shape][5], (options.batch, options.seq))
    learnt = torch.ones_like(tokens, dtype=torch.bool)
    learnt[:, : round((1 - options.learnt) * options.seq)] = False
    times, loss = (trl_times if options.mode == "trl" else loop_times)(model, tokens, learnt, options)
    step = statistics.median(times[2:])
    print(json.dumps({"tokens_per_s": options.batch * options.seq / step, "step_s": step,
                      "peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024, "loss": loss}))


if __name__ == "__main__":
    main()
