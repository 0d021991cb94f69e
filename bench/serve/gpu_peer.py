"""The peer of serving on an NVIDIA GPU: a Hugging Face folder in transformers with a static cache.

    python gpu_peer.py FOLDER [--modes nothing layers whole] [--streams 1 8] [--depth 128] [--prompt-tokens 2048]

Decode: a step, from tokens to the greedy ones after them, is one CUDA graph, replayed without the host between; the
cache is as long as the last step needs, and begins with random keys and values. Prefill: one prompt into a static cache
of its length. Both in each mode of torch.compile: `nothing` of the model is compiled; its `layers`, all by one
compilation, and the head; the `whole` model, which takes longest to compile, and whose prompt takes a mask rather than
FlashAttention. All in bf16; weights are the folder's, or random where it has none. Prints a JSON line for each as it is
measured, so that who runs out of time has those before: at_s counts from process start.
"""
import argparse
import json
import pathlib
import statistics
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent / "train"))
from torch_peer import process_age

import safetensors.torch
import torch
import transformers
from torch import nn

REPEATS = 3
MODES = ["nothing", "layers", "whole"]


def say(**what):
    print(json.dumps({**what, "at_s": round(process_age(), 2)}), flush=True)


def load(folder, device):
    config = transformers.AutoConfig.from_pretrained(folder)
    torch.set_default_dtype(torch.bfloat16)
    with torch.device(device):
        model = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16, attn_implementation="sdpa")
    files = sorted(pathlib.Path(folder).glob("*.safetensors"))
    missing = set(dict(model.named_parameters())) if files else set()
    for file in files:
        weights = safetensors.torch.load_file(file, device=device)
        if model.load_state_dict(weights, strict=False).unexpected_keys:
            sys.exit(f"{file}: has tensors that {type(model).__name__} has not")
        missing -= set(weights)
    if missing:
        sys.exit(f"{folder}: lacks {', '.join(sorted(missing))}")
    return model.eval().requires_grad_(False), "of the folder" if files else "random"


class Alone(nn.Module):
    """A layer with its part of the cache, as if there were no other: so one compilation serves all."""

    def __init__(self, layer, index, compiled):
        super().__init__()
        self.layer, self.index, self.compiled = layer, index, compiled

    def forward(self, h, past_key_values=None, **rest):
        cache = transformers.Cache(layers=[past_key_values.layers[self.index]])
        return self.compiled(self.layer, h, past_key_values=cache, **rest)


def compiled(model, mode):
    def greedy(head, h):
        return head(h[:, -1:]).argmax(-1)

    def through(layer, h, **rest):
        return layer(h, **rest)

    def whole(tokens, cache):
        return greedy(model.lm_head, model.model(tokens, past_key_values=cache, use_cache=True).last_hidden_state)

    if mode == "whole":
        return torch.compile(whole, fullgraph=True, dynamic=False)
    if mode == "layers":
        greedy, through = (torch.compile(f, fullgraph=True, dynamic=False) for f in (greedy, through))
        for index, layer in enumerate(model.model.layers):
            layer.self_attn.layer_idx = 0
            model.model.layers[index] = Alone(layer, index, through)
    return whole


def restored(model):
    for index, layer in enumerate(model.model.layers):
        if isinstance(layer, Alone):
            model.model.layers[index] = layer.layer
            layer.layer.self_attn.layer_idx = index


def static_cache(model, streams, length):
    config = model.config
    cache = transformers.StaticCache(config=config, max_cache_len=length)
    dim = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    cache.early_initialization(streams, config.num_key_value_heads, dim, torch.bfloat16, model.device)
    for layer in cache.layers:
        # Where they lie is the graph's matter here, and would be compiled into each layer's code.
        for x in (layer.keys, layer.values, layer.cumulative_length):
            x.__dict__.pop("_dynamo_static_input_type", None)
        layer.keys.normal_(), layer.values.normal_()
    return cache


def set_depth(cache, depth):
    for layer in cache.layers:
        layer.cumulative_length.fill_(depth)


def graph_of(step, warm_up):
    side = torch.cuda.Stream()
    with torch.cuda.stream(side):
        for _ in range(3):
            warm_up()
            step()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step()
    return graph.replay


def decode(model, run, streams, depth, steps):
    """Seconds of a step."""
    cache = static_cache(model, streams, depth + steps + 1)
    tokens = torch.randint(0, model.config.vocab_size, (streams, 1), device=model.device)

    def step():
        tokens.copy_(run(tokens, cache))

    replay = graph_of(step, lambda: set_depth(cache, depth))
    times = []
    for _ in range(REPEATS):
        set_depth(cache, depth)
        replay()
        torch.cuda.synchronize()
        start = time.perf_counter()
        for _ in range(steps):
            replay()
        tokens.tolist()
        times.append((time.perf_counter() - start) / steps)
    return statistics.median(times)


def prefill(model, run, length):
    """Seconds from a prompt to the token after it, on the host."""
    cache = static_cache(model, 1, length)
    tokens = torch.randint(0, model.config.vocab_size, (1, length), device=model.device)
    times = []
    for i in range(REPEATS + 2):
        set_depth(cache, 0)
        torch.cuda.synchronize()
        start = time.perf_counter()
        run(tokens, cache).item()
        if i >= 2:
            times.append(time.perf_counter() - start)
    return statistics.median(times)


def measure(model, mode, options):
    run = compiled(model, mode)
    for streams in options.streams:
        seconds = decode(model, run, streams, options.depth, options.steps)
        say(compiled=mode, decode_streams=streams, tokens_per_s=streams / seconds, step_s=seconds)
    seconds = prefill(model, run, options.prompt_tokens)
    say(compiled=mode, prefill_tokens=options.prompt_tokens, tokens_per_s=options.prompt_tokens / seconds,
        first_token_s=seconds)


@torch.no_grad()
def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("folder")
    parser.add_argument("--modes", nargs="+", default=MODES, choices=MODES)
    parser.add_argument("--streams", type=int, nargs="+", default=[1, 8])
    parser.add_argument("--depth", type=int, default=128)
    parser.add_argument("--steps", type=int, default=64)
    parser.add_argument("--prompt-tokens", type=int, default=2048)
    options = parser.parse_args()

    torch.manual_seed(0)
    model, weights = load(options.folder, "cuda")
    say(gpu=torch.cuda.get_device_name(), torch=torch.__version__, transformers=transformers.__version__,
        weights=weights, bytes=sum(p.numel() * p.element_size() for p in model.parameters()))
    failed = False
    for mode in options.modes:
        try:
            measure(model, mode, options)
        except (RuntimeError, torch._dynamo.exc.TorchDynamoException) as error:  # the next one may still do
            failed = True
            say(compiled=mode, error=str(error)[:1000])
        restored(model)
    sys.exit(failed)


if __name__ == "__main__":
    main()
