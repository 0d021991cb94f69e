"""Makes tests/golden/model/<name>/: tiny random models with what transformers computes for them.

    python tests/oracle/model/make_models.py [NAME...]

Each folder holds config.json, the weights, and oracle.safetensors, all computed in fp32:
  input_ids [2, 24] i64, logits [2, 24, V], loss [] (mean cross-entropy of the next token, 46 of them),
  grad.<parameter> of that loss, prompt_ids [8] and greedy_ids [16] i64 with greedy_margins [16]
  (best minus second logit, all above 0.01; no end token occurs);
  aux_loss [] where there are experts: transformers' load-balancing loss without its coefficient; gradients are
  then those of loss + router_aux_loss_coef * aux_loss, and no token of input_ids is so near another choice of
  experts that bf16 might make it;
  hidden.embed, hidden.<layer>, hidden.norm [2, 24, D] for one model;
  bf16.loss, bf16.logits_error, bf16.grad_error.<parameter>: the same model run by PyTorch in bf16
  (weights and activations); an error is max|a-b| / max|b| against fp32.
"""
import json
import pathlib
import shutil
import sys
import zlib

import torch
from safetensors.torch import save_file
from transformers import AutoConfig, AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM
from transformers.utils import logging

from configs import MODELS, SHARDED, WITH_HIDDEN_STATES

GOLDEN = pathlib.Path(__file__).resolve().parents[2] / "golden" / "model"


def empty_model(folder):
    config = json.loads((folder / "config.json").read_text())
    if config["model_type"] == "aquila":  # no class of its own in transformers: LLaMA's tensors and maths
        return LlamaForCausalLM(LlamaConfig(**{k: v for k, v in config.items() if k != "model_type"}))
    return AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(folder), dtype=torch.float32)


def fill(model, seed):
    """Random weights, norms in 0.5..1.5 and biases included, rounded so that bf16 and fp16 hold them."""
    generator = torch.Generator().manual_seed(seed)
    for name, p in sorted(model.named_parameters()):
        if "norm" in name:
            value = 0.5 + torch.rand(p.shape, generator=generator)
        elif p.dim() == 1:
            value = 0.3 * torch.randn(p.shape, generator=generator)
        else:
            head = "embed_tokens" if model.config.tie_word_embeddings else "lm_head"
            scale = 0.15 if head in name else 0.4 if "embed_tokens" in name else 1.5 / p.shape[-1] ** 0.5
            value = scale * torch.randn(p.shape, generator=generator)
        p.data.copy_(value.half().bfloat16().float())


def per_expert(tensors, model_type):
    """transformers holds experts fused, [experts, out, in]; files have a tensor for each."""
    mixtral = model_type == "mixtral"
    gate, up, down = ("w1", "w3", "w2") if mixtral else ("gate_proj", "up_proj", "down_proj")
    result = {}
    for name, tensor in tensors.items():
        if mixtral:
            name = name.replace(".mlp.", ".block_sparse_moe.")
        for e in range(tensor.shape[0] if ".experts." in name else 0):
            block = name[: name.rindex(".")]
            parts = {down: tensor[e]} if name.endswith("down_proj") else dict(zip((gate, up), tensor[e].chunk(2)))
            result |= {f"{block}.{e}.{part}.weight": value.contiguous() for part, value in parts.items()}
        if ".experts." not in name:
            result[name] = tensor.contiguous()
    return result


def save_weights(folder, model, sharded, dtype):
    tensors = {n: p.detach().to(dtype) for n, p in model.named_parameters()}
    tensors = per_expert(tensors, model.config.model_type)
    if not sharded:
        save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
        return
    names = sorted(tensors)
    weight_map = {n: f"model-0000{1 + (i >= len(names) // 2)}-of-00002.safetensors" for i, n in enumerate(names)}
    for file in sorted(set(weight_map.values())):
        part = {n: tensors[n] for n in names if weight_map[n] == file}
        save_file(part, folder / file, metadata={"format": "pt"})
    total = sum(t.numel() * t.element_size() for t in tensors.values())
    index = {"metadata": {"total_size": total}, "weight_map": weight_map}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index, indent=2) + "\n")


def forward_backward(model, ids):
    model.zero_grad(set_to_none=True)
    mixture = {"output_router_logits": True} if hasattr(model.config, "router_aux_loss_coef") else {}
    out = model(input_ids=ids, **mixture)
    targets = ids[:, 1:].flatten()
    loss = torch.nn.functional.cross_entropy(out.logits[:, :-1].flatten(0, 1).float(), targets)
    aux = {"aux_loss": out.aux_loss} if mixture else {}
    (loss + sum(model.config.router_aux_loss_coef * a.float() for a in aux.values())).backward()
    grads = per_expert({n: p.grad.float().clone() for n, p in model.named_parameters()}, model.config.model_type)
    return out.logits.detach().float(), {"loss": loss.detach().float()} | {n: a.detach() for n, a in aux.items()}, grads


def relative_error(a, b):
    return (a - b).abs().max() / b.abs().max()


@torch.no_grad()
def greedy(model, prompt, steps):
    """Without a cache: every token from a full forward pass."""
    ids, margins = prompt.clone(), []
    for _ in range(steps):
        best = model(input_ids=ids[None], use_cache=False).logits[0, -1].topk(2)
        margins.append(best.values[0] - best.values[1])
        ids = torch.cat((ids, best.indices[:1]))
    return ids[len(prompt) :], torch.stack(margins)


def greedy_with_margins(model, generator, vocabulary, end_ids):
    for _ in range(500):
        prompt = torch.randint(4, vocabulary, (8,), generator=generator)
        ids, margins = greedy(model, prompt, 16)
        if margins.min() > 0.01 and ids.unique().numel() >= 6 and not set(ids.tolist()) & end_ids:
            break
    else:
        raise RuntimeError("no prompt with clear margins")
    cached = model.generate(prompt[None], max_new_tokens=16, do_sample=False, attention_mask=torch.ones(1, 8))
    assert torch.equal(cached[0, 8:], ids), "the cache changes transformers' own tokens"
    return {"prompt_ids": prompt, "greedy_ids": ids, "greedy_margins": margins}


@torch.no_grad()
def routed_clearly(model, ids):
    """Whether the last token's experts are those of any rounding."""
    for logits in model(input_ids=ids, output_router_logits=True).router_logits:
        best = logits[-1].topk(model.config.num_experts_per_tok + 1).values
        if best[-2] - best[-1] < 0.2:
            return False
    return True


def make_ids(model, generator, vocabulary):
    ids = torch.randint(0, vocabulary, (2, 24), generator=generator)
    if not hasattr(model.config, "router_aux_loss_coef"):
        return ids
    for row in ids:
        for i in range(len(row)):
            while not routed_clearly(model, row[None, : i + 1]):
                row[i] = torch.randint(0, vocabulary, (), generator=generator)
    return ids


def hidden_states(model, ids):
    seen, parts = {}, {"hidden.embed": model.model.embed_tokens, "hidden.norm": model.model.norm}
    parts |= {f"hidden.{i}": layer for i, layer in enumerate(model.model.layers)}
    for name, part in parts.items():
        part.register_forward_hook(
            lambda _m, _i, out, name=name: seen.__setitem__(name, (out[0] if isinstance(out, tuple) else out).clone())
        )
    with torch.no_grad():
        model(input_ids=ids)
    return seen


def make(name, config):
    folder = GOLDEN / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    seed = zlib.crc32(name.encode())
    model = empty_model(folder).eval()
    fill(model, seed)
    save_weights(folder, model, name in SHARDED, getattr(torch, config.get("dtype") or config["torch_dtype"]))

    generator = torch.Generator().manual_seed(seed + 1)
    ids = make_ids(model, generator, config["vocab_size"])
    logits, losses, grads = forward_backward(model, ids)
    oracle = {"input_ids": ids, "logits": logits} | losses | {f"grad.{n}": g for n, g in grads.items()}
    ends = config["eos_token_id"] if isinstance(config["eos_token_id"], list) else [config["eos_token_id"]]
    oracle |= greedy_with_margins(model, generator, config["vocab_size"], set(ends))
    if config["model_type"] != "aquila":
        loaded = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
        assert torch.equal(loaded(input_ids=ids).logits, logits), "the folder loads as another model"
    if name in WITH_HIDDEN_STATES:
        oracle |= hidden_states(model, ids)

    bf16_logits, bf16_losses, bf16_grads = forward_backward(model.to(torch.bfloat16), ids)
    oracle |= {"bf16.loss": bf16_losses["loss"], "bf16.logits_error": relative_error(bf16_logits, logits)}
    oracle |= {f"bf16.grad_error.{n}": relative_error(g, grads[n]) for n, g in bf16_grads.items()}
    save_file({n: t.contiguous() for n, t in oracle.items()}, folder / "oracle.safetensors")
    size = sum(f.stat().st_size for f in folder.iterdir())
    print(f"{name:13} loss {losses['loss']:.4f}  least margin {oracle['greedy_margins'].min():.3f}  "
          f"bf16 logits error {oracle['bf16.logits_error']:.1e}  {size // 1024} kB")


def main():
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    torch.use_deterministic_algorithms(True)
    torch.set_num_threads(1)
    for name in sys.argv[1:] or MODELS:
        make(name, MODELS[name])


if __name__ == "__main__":
    main()
