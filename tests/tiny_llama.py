"""A random Llama of 40,000 weights and its tokenizer, made in milliseconds. Whoever needs one asks for the fixture `tiny_model`."""

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from accord.models.load import LoadedModel

START, END = "<|im_start|>", "<|im_end|>"
CHATML = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
CORPUS = ("user assistant system the water of the harbour is what is in the harbour and how that is asked",) * 4


def tiny_tokenizer() -> PreTrainedTokenizerFast:
    """Byte-level BPE with ChatML's control tokens; the pad token *is* the end token."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(
        vocab_size=280, initial_alphabet=alphabet, special_tokens=[START, END], show_progress=False
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token=END,
        pad_token=END,
        additional_special_tokens=[START],
        chat_template=CHATML,
    )


def tiny_causal_lm(
    vocab: int = 280, seed: int = 0, scale: float = 0.2, n_layers: int = 4, hidden: int = 32
) -> LlamaForCausalLM:
    """Hidden 32, 4 layers, 4 heads on 2 kv heads, tied embeddings, fp32, frozen, in eval mode.

    `scale` is the initial weights' spread: at transformers' own 0.02 so small a model says the same whatever it is asked,
    and a mask that leaks would go unseen.
    """
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        config = LlamaConfig(
            vocab_size=vocab,
            hidden_size=hidden,
            intermediate_size=2 * hidden,
            num_hidden_layers=n_layers,
            num_attention_heads=4,
            num_key_value_heads=2,
            max_position_embeddings=512,
            tie_word_embeddings=True,
            initializer_range=scale,
            bos_token_id=None,
            eos_token_id=1,
            pad_token_id=None,
            attn_implementation="sdpa",
        )
        model = LlamaForCausalLM(config)
    return model.float().eval().requires_grad_(False)


def tiny(seed: int = 0, hidden: int = 32) -> LoadedModel:
    """Return the model with its tokenizer, as `load_model` would."""
    tokenizer = tiny_tokenizer()
    return LoadedModel(
        tiny_causal_lm(len(tokenizer), seed, hidden=hidden),
        tokenizer,
        "tiny",
        "tiny",
        f"tiny-{seed}",
        torch.device("cpu"),
    )


def save(loaded, folder):
    """Write model and tokenizer as the ecosystem reads them, and return the folder."""
    loaded.model.save_pretrained(folder)
    loaded.tokenizer.save_pretrained(folder)
    return folder
