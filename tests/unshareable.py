"""Models whose attention reaches only so far, or that carry a state: they cannot share a prompt as others can."""

import torch
from transformers import (
    Gemma3ForCausalLM,
    Gemma3TextConfig,
    GPTNeoConfig,
    GPTNeoForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    Qwen3NextConfig,
    Qwen3NextForCausalLM,
)

SMALL = {
    "vocab_size": 64, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "head_dim": 8, "pad_token_id": 0, "initializer_range": 0.3,
}  # fmt: skip


def mistral():
    torch.manual_seed(0)
    return MistralForCausalLM(MistralConfig(**SMALL, sliding_window=6)).eval()


def gemma():
    torch.manual_seed(0)
    kinds = ["sliding_attention", "full_attention"]
    return Gemma3ForCausalLM(Gemma3TextConfig(**SMALL, sliding_window=6, layer_types=kinds)).eval()


def qwen_next():
    """One layer of linear attention, one of full."""
    torch.manual_seed(0)
    more = {
        "linear_num_key_heads": 2,
        "linear_num_value_heads": 2,
        "linear_key_head_dim": 8,
        "linear_value_head_dim": 8,
    }
    config = Qwen3NextConfig(
        **SMALL, **more, layer_types=["linear_attention", "full_attention"], num_experts=0, decoder_sparse_step=99
    )
    return Qwen3NextForCausalLM(config).eval()


def gpt_neo():
    """One layer of two attends within 8 tokens, which its configuration names otherwise than others do."""
    torch.manual_seed(0)
    config = GPTNeoConfig(
        vocab_size=64, hidden_size=32, num_layers=2, num_heads=4, attention_types=[[["global", "local"], 1]], window_size=8,
        initializer_range=0.3, max_position_embeddings=64,
    )  # fmt: skip
    return GPTNeoForCausalLM(config).eval()
