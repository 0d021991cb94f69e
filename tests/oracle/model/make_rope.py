"""Makes tests/golden/model/rope.json: config.json files with every spelling of the rotary settings, and what transformers
makes of them: the frequencies [head_dim / 2] and the factor of cos and sin.

    python tests/oracle/model/make_rope.py
"""
import itertools
import json
import pathlib
import warnings

from transformers import AutoConfig
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding
from transformers.models.qwen2.modeling_qwen2 import Qwen2RotaryEmbedding
from transformers.models.qwen3.modeling_qwen3 import Qwen3RotaryEmbedding
from transformers.utils import logging

OUT = pathlib.Path(__file__).resolve().parents[2] / "golden" / "model" / "rope.json"
EMBEDDINGS = {"llama": LlamaRotaryEmbedding, "qwen2": Qwen2RotaryEmbedding, "qwen3": Qwen3RotaryEmbedding}
BASE = {"hidden_size": 96, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 4, "num_key_value_heads": 2,
        "vocab_size": 32, "max_position_embeddings": 4096, "rms_norm_eps": 1e-6, "hidden_act": "silu"}
LLAMA3 = {"factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 512}
SCALINGS = [
    {"rope_type": "default"},
    {"rope_type": "linear", "factor": 2.5},
    {"rope_type": "llama3"} | LLAMA3,
    {"rope_type": "llama3"} | LLAMA3 | {"factor": 32.0, "low_freq_factor": 2.0, "high_freq_factor": 5.0},
    {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 1024},
    {"rope_type": "yarn", "factor": 4.0},
    {"rope_type": "yarn", "factor": None, "original_max_position_embeddings": 512},
    {"rope_type": "yarn", "factor": 8.0, "original_max_position_embeddings": 1024, "beta_fast": 16, "beta_slow": 2},
    {"rope_type": "yarn", "factor": 8.0, "original_max_position_embeddings": 1024, "attention_factor": 1.25},
    {"rope_type": "yarn", "factor": 8.0, "original_max_position_embeddings": 1024, "mscale": 0.7, "mscale_all_dim": 1.2},
    {"rope_type": "yarn", "factor": 8.0, "original_max_position_embeddings": 1024, "truncate": False},
]


def spellings(scaling, theta):
    """The settings as files have them."""
    old = {("type" if k == "rope_type" else k): v for k, v in scaling.items()}
    yield {"rope_theta": theta, "rope_scaling": scaling}
    yield {"rope_theta": theta, "rope_scaling": old}
    yield {"rope_scaling": old | {"rope_theta": theta}}
    yield {"rope_parameters": scaling | {"rope_theta": theta}}
    yield {"rope_theta": theta, "rope_parameters": scaling}
    yield {"rope_theta": 77.0, "rope_parameters": scaling | {"rope_theta": theta}}
    yield {"rope_scaling": scaling, "rope_parameters": {"rope_type": "default", "rope_theta": theta}, "rope_theta": theta + 1}


def configs():
    for (i, scaling), (j, family) in itertools.product(enumerate(SCALINGS), enumerate(EMBEDDINGS)):
        theta = [10000.0, 500000.0, 1000000.0][(i + j) % 3]
        for settings in spellings(scaling, theta):
            head_dim = {"head_dim": 32} if family == "qwen3" or i % 2 else {}
            yield BASE | head_dim | {"model_type": family} | settings
    yield BASE | {"model_type": "llama"}
    yield BASE | {"model_type": "llama", "rope_theta": 5e5, "rope_scaling": None}
    yield BASE | {"model_type": "llama", "rope_theta": 5e5, "rope_scaling": {}}
    yield BASE | {"model_type": "llama", "original_max_position_embeddings": 256, "rope_scaling": {"rope_type": "llama3"} | LLAMA3}


def main():
    warnings.simplefilter("ignore")
    logging.set_verbosity(logging.CRITICAL)
    cases = []
    for settings in configs():
        config = AutoConfig.for_model(**json.loads(json.dumps(settings)))
        rotary = EMBEDDINGS[settings["model_type"]](config)
        cases.append({"config": settings, "frequencies": [float(f) for f in rotary.inv_freq], "factor": float(rotary.attention_scaling)})
    OUT.write_text("[\n" + ",\n".join(json.dumps(c) for c in cases) + "\n]\n")
    print(len(cases), "cases")


if __name__ == "__main__":
    main()
