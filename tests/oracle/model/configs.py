"""The tiny models of the parity tests: each is the config.json that its folder gets, word for word.

Both spellings of the rotary settings occur: the hub's (`rope_theta`, `rope_scaling`) and that of
transformers 5 (`rope_parameters`). `torch_dtype` or `dtype` is also the dtype of the file; every value
fits bf16 and fp16, so that all three read alike.
"""

BASE = {
    "hidden_act": "silu",
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 128,
    "initializer_range": 0.02,
    "tie_word_embeddings": False,
    "use_cache": True,
}
LLAMA = BASE | {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "attention_bias": False,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "rms_norm_eps": 1e-5,
}
QWEN2 = BASE | {
    "architectures": ["Qwen2ForCausalLM"],
    "model_type": "qwen2",
    "bos_token_id": 1,
    "eos_token_id": 2,
    "rms_norm_eps": 1e-6,
    "max_position_embeddings": 128,
}
QWEN3 = QWEN2 | {
    "architectures": ["Qwen3ForCausalLM"],
    "model_type": "qwen3",
    "attention_bias": False,
    "head_dim": 32,
}
MIXTRAL = BASE | {
    "architectures": ["MixtralForCausalLM"],
    "model_type": "mixtral",
    "bos_token_id": 1,
    "eos_token_id": 2,
    "rms_norm_eps": 1e-5,
    "max_position_embeddings": 128,
    "rope_theta": 1000000.0,
    "hidden_size": 48,
    "intermediate_size": 56,
    "num_local_experts": 4,
    "num_experts_per_tok": 2,
    "router_aux_loss_coef": 0.5,
    "sliding_window": None,
    "torch_dtype": "bfloat16",
}
QWEN_MOE = QWEN2 | {
    "hidden_size": 48,
    "intermediate_size": 64,
    "moe_intermediate_size": 24,
    "num_experts": 8,
    "num_experts_per_tok": 2,
    "decoder_sparse_step": 1,
    "mlp_only_layers": [],
    "router_aux_loss_coef": 0.5,
    "use_sliding_window": False,
    "rope_theta": 1000000.0,
    "torch_dtype": "bfloat16",
}
QWEN3_MOE = QWEN_MOE | {
    "architectures": ["Qwen3MoeForCausalLM"],
    "model_type": "qwen3_moe",
    "attention_bias": False,
    "head_dim": 32,
    "norm_topk_prob": True,
}
QWEN2_MOE = QWEN_MOE | {
    "architectures": ["Qwen2MoeForCausalLM"],
    "model_type": "qwen2_moe",
    "norm_topk_prob": False,
    "num_experts_per_tok": 3,
    "shared_expert_intermediate_size": 40,
}
LLAMA3_SCALING = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}

MODELS = {
    # The hub's LLaMA-2 file says nothing of rotary positions: theta is 10000.
    "llama2": LLAMA
    | {"num_key_value_heads": 4, "max_position_embeddings": 64, "rope_scaling": None, "torch_dtype": "float32"},
    "llama3": LLAMA
    | {"head_dim": 32, "max_position_embeddings": 64, "rope_theta": 500000.0, "torch_dtype": "bfloat16"},
    "llama3_1": LLAMA
    | {
        "head_dim": 24,
        "max_position_embeddings": 256,
        "rope_theta": 500000.0,
        "rope_scaling": LLAMA3_SCALING,
        "eos_token_id": [2, 3],
        "torch_dtype": "bfloat16",
    },
    "llama3_2": LLAMA
    | {
        "tie_word_embeddings": True,
        "head_dim": 16,
        "max_position_embeddings": 1024,
        "rope_parameters": LLAMA3_SCALING | {"factor": 32.0, "rope_theta": 500000.0},
        "dtype": "bfloat16",
    },
    "llama_bias": LLAMA
    | {
        "attention_bias": True,
        "mlp_bias": True,
        "tie_word_embeddings": True,
        "head_dim": 8,
        "max_position_embeddings": 64,
        "torch_dtype": "float16",
    },
    "aquila": LLAMA
    | {
        "architectures": ["AquilaForCausalLM"],
        "model_type": "aquila",
        "max_position_embeddings": 64,
        "rope_theta": 10000.0,
        "torch_dtype": "float16",
    },
    "mistral": BASE
    | {
        "architectures": ["MistralForCausalLM"],
        "model_type": "mistral",
        "head_dim": 24,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "rms_norm_eps": 1e-5,
        "max_position_embeddings": 128,
        "rope_theta": 10000.0,
        "sliding_window": 9,
        "torch_dtype": "bfloat16",
    },
    "qwen2": QWEN2
    | {
        "rope_theta": 1000000.0,
        "max_window_layers": 2,
        "sliding_window": 64,
        "use_sliding_window": False,
        "torch_dtype": "bfloat16",
    },
    "qwen2_tied": QWEN2
    | {
        "tie_word_embeddings": True,
        "rope_parameters": {"rope_type": "default", "rope_theta": 1000000.0},
        "layer_types": ["full_attention", "full_attention"],
        "sliding_window": None,
        "use_sliding_window": False,
        "dtype": "bfloat16",
    },
    "qwen2_window": QWEN2
    | {
        "tie_word_embeddings": True,
        "rope_theta": 10000.0,
        "sliding_window": 8,
        "use_sliding_window": True,
        "max_window_layers": 1,
        "torch_dtype": "bfloat16",
    },
    "qwen2_yarn": QWEN2
    | {
        "rope_theta": 1000000.0,
        "rope_scaling": {"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32},
        "torch_dtype": "bfloat16",
    },
    "qwq": QWEN2
    | {
        "rms_norm_eps": 1e-5,
        "rope_parameters": {"rope_type": "default", "rope_theta": 1000000.0},
        "dtype": "bfloat16",
    },
    "qwen3": QWEN3 | {"rope_theta": 1000000.0, "rope_scaling": None, "torch_dtype": "bfloat16"},
    "qwen3_bias": QWEN3
    | {"attention_bias": True, "head_dim": 8, "rope_theta": 10000.0, "torch_dtype": "bfloat16"},
    "qwen3_tied": QWEN3
    | {
        "tie_word_embeddings": True,
        "num_key_value_heads": 1,
        "rope_parameters": {"rope_type": "default", "rope_theta": 1000000.0},
        "dtype": "bfloat16",
    },
    "mixtral": MIXTRAL,
    "qwen3_moe": QWEN3_MOE,
    # Weights that do not add up to one, every other layer a mixture.
    "qwen3_moe_step": QWEN3_MOE
    | {
        "num_hidden_layers": 3,
        "decoder_sparse_step": 2,
        "norm_topk_prob": False,
        "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0},
    },
    "qwen2_moe": QWEN2_MOE,
    "qwen2_moe_dense": QWEN2_MOE | {"num_hidden_layers": 3, "mlp_only_layers": [0, 2], "norm_topk_prob": True},
}

# Written in two files with an index.
SHARDED = {"qwen2"}
# The state after the embedding, each layer and the last norm is recorded.
WITH_HIDDEN_STATES = {"llama3"}
