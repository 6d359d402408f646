"""docs/scale.md says what its script computes, and that holds against bytes that autograd keeps and numbers worked by hand."""

import importlib.util
import sys
from contextlib import contextmanager, nullcontext
from pathlib import Path

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from accord.models.adapters import add_lora
from accord.models.checkpointing import recompute_layers
from accord.models.fused import RootMeanSquare
from accord.models.load import LoadedModel, load_model
from accord.models.packed import packed
from accord.models.precision import has_native_bf16
from accord.models.tree import decoder_of
from accord.models.work import Extent, extent_of, sizes_of
from accord.runs.tensors import load_tensors, save_tensors

ROOT = Path(__file__).parents[1]
spec = importlib.util.spec_from_file_location("scale", ROOT / "benchmarks" / "scale.py")
scale = importlib.util.module_from_spec(spec)
sys.modules["scale"] = scale  # dataclasses look their module up
spec.loader.exec_module(scale)

rl_spec = importlib.util.spec_from_file_location("scale_rl", ROOT / "benchmarks" / "scale_rl.py")
scale_rl = importlib.util.module_from_spec(rl_spec)
sys.modules["scale_rl"] = scale_rl
rl_spec.loader.exec_module(scale_rl)

TINY = scale.Shape("tiny", 64, 176, 3, 4, 2, 16, 96)
STARTER = scale.Shape("starter", 576, 1536, 3, 9, 3, 64, 96)
ROWS, LENGTH = 2, 40


def test_the_page_holds_the_tables_that_the_script_prints():
    page = (ROOT / "docs" / "scale.md").read_text(encoding="utf-8")
    for name, text in scale.tables().items():
        assert scale.marked(name, text) in page, f"run benchmarks/scale.py --write docs/scale.md: {name} has changed"
    for name, text in scale_rl.tables().items():
        assert scale.marked(name, text) in page, f"run benchmarks/scale_rl.py --write docs/scale.md: {name} has changed"


def built(shape, method, layers, recompute=False):
    """A random model of a shape in bf16, its layers trained."""
    config = LlamaConfig(
        vocab_size=shape.vocabulary,
        hidden_size=shape.width,
        intermediate_size=shape.inner,
        num_hidden_layers=layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.key_heads,
        head_dim=shape.head_size,
        attn_implementation="sdpa",
        tie_word_embeddings=False,
    )
    model = LlamaForCausalLM(config).to(torch.bfloat16).requires_grad_(method is scale.Method.FULL)
    if recompute:
        recompute_layers(model)
    if method is scale.Method.LORA:
        loaded = LoadedModel(model, None, "", "", "", torch.device("cpu"))
        model = add_lora(loaded, scale.RANK, 0)
    return model.train()


def kept_bytes(model, rows=ROWS):
    """What one forward pass keeps for the backward pass, each storage once, weights left out."""
    weights = {p.untyped_storage().data_ptr() for p in model.parameters()}
    kept = {}

    def note(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage  # held, so that no other takes its place
        return tensor

    decoder = decoder_of(model)
    entering = torch.zeros(rows, LENGTH, decoder.config.hidden_size, dtype=torch.bfloat16, requires_grad=True)
    mask = torch.ones(LENGTH, LENGTH, dtype=torch.bool).tril().repeat(rows, 1, 1, 1)
    positions = torch.arange(LENGTH).expand(rows, LENGTH)
    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        out = decoder(inputs_embeds=entering, attention_mask=mask, position_ids=positions, use_cache=False)
    assert out.last_hidden_state.requires_grad
    return sum(storage.nbytes() for storage in kept.values())


def kept_by_a_layer(shape, method, how=lambda _: nullcontext(), **more):
    """What a third layer adds, in bytes a position; what it keeps whatever the positions, of its adapters say, is left out."""

    def added(rows):
        found = []
        for n in (2, 3):
            model = built(shape, method, n, **more)
            with how(model):
                found.append(kept_bytes(model, rows))
        return found[1] - found[0]

    return (added(2 * ROWS) - added(ROWS)) / (ROWS * LENGTH)


@contextmanager
def fused_as_on_a_gpu(model):
    """The layers run as they do on a GPU: there products of trained weights are not joined."""
    if decoder_of(model).embed_tokens.weight.requires_grad:
        for module in model.modules():
            if type(module).__name__ == "LlamaRMSNorm":
                module.forward = RootMeanSquare(module)
        yield
    else:
        with packed(model):
            yield


@pytest.mark.parametrize("shape", [TINY, STARTER], ids=lambda shape: shape.name)
@pytest.mark.parametrize("method", [scale.Method.LORA, scale.Method.FULL], ids=lambda method: method.name)
@pytest.mark.parametrize("fused", [False, True])
def test_what_a_layer_keeps_is_what_autograd_keeps(shape, method, fused):
    if fused and method is scale.Method.LORA and not has_native_bf16(torch.device("cpu")):
        pytest.skip("this processor has no bf16, and its layers are not run in one piece")
    how = fused_as_on_a_gpu if fused else lambda _: nullcontext()
    assert kept_by_a_layer(shape, method, how) == scale.saved_bytes(shape, method, LENGTH, fused)


@pytest.mark.parametrize("method", [scale.Method.LORA, scale.Method.FULL], ids=lambda method: method.name)
def test_a_recomputed_layer_keeps_its_input_alone(method):
    assert kept_by_a_layer(TINY, method, recompute=True) == 2 * TINY.width


def test_sizes_are_those_read_off_a_model():
    model = built(TINY, scale.Method.LORA, TINY.layers)
    assert sizes_of(model) == TINY.sizes(TINY.layers, head=True, adapted=True)
    assert TINY.weights == sum(p.numel() for n, p in model.named_parameters() if "norm" not in n and "lora" not in n)


def test_what_a_pair_of_an_8b_model_needs_by_hand():
    """A layer has 4096 (4096 + 2 1024) + 4096 4096 + 3 4096 14336 = 218,103,808 weights, 32 have 6,979,321,856; a head 525,336,576.

    A map's adapter has 16 (inputs + outputs): 16 (8192 + 5120 + 5120 + 8192 + 3 18432) 32 = 41,943,040. A pair has 149 + 42 + 52 =
    243 positions, 94 of them of answers, and 149 150 / 2 + (42 149 + 42 43 / 2) + (52 149 + 52 53 / 2) = 27,462 pairs of query and
    key. LoRA: 2 (2 N 243 + 2 H 94) + 6 Λ 243 + 3 4 4096 32 27462 = 7.0858e12; full: 3 (2 N 243 + 2 H 94) and the same attention,
    10.5153e12.
    """
    run = scale.Run(scale.LLAMA_8B, scale.Method.LORA, scale.Spread.WHOLE)
    extent = extent_of([scale.Objective.DPO_CACHED.lengths(scale.HH)])
    assert extent == Extent(243, 94, 27462)
    assert scale.LLAMA_8B.weights == 6_979_321_856 + 2 * 525_336_576
    assert run.trained == 41_943_040
    forward = 2 * (6_979_321_856 * 243 + 525_336_576 * 94)
    attention = 12 * 4096 * 32 * 27462
    assert scale.needed_flop(run, extent) == 2 * forward + 6 * 41_943_040 * 243 + attention
    assert scale.needed_flop(run, extent) == pytest.approx(7.0858e12, rel=1e-5)
    full = scale.Run(scale.LLAMA_8B, scale.Method.FULL, scale.Spread.RESHARDED)
    assert scale.needed_flop(full, extent) == 3 * forward + attention == pytest.approx(10.5153e12, rel=1e-5)


def test_what_full_training_of_a_70b_model_holds_and_moves_by_hand():
    """From 64 GPUs to 128 the 16 bytes a weight become 70,552,387,584 16 / 128 fewer.

    Moved: 2 bytes each way for the layers' weights (80 times 855,638,016), 2 once for those outside them, 4 for each gradient; a
    64th is one's own.
    """
    shape = scale.LLAMA_70B
    assert shape.weights == 68_451_041_280 + 2_101_346_304
    run = scale.Run(shape, scale.Method.FULL, scale.Spread.RESHARDED)
    moved = (4 * 68_451_041_280 + 2 * 2_101_346_304 + 4 * shape.weights) * 63 / 64
    assert scale.traffic(run, 64) == pytest.approx(moved, rel=1e-12)
    assert scale.memory(run, 64) - scale.memory(run, 128) == pytest.approx(16 * shape.weights / 128, rel=1e-12)
    # One adapter a GPU, eight a node: between nodes the network is the limit, within one NVLink.
    assert scale.bandwidth(8) == 450e9
    assert scale.bandwidth(16) == 400e9


def test_what_a_70b_model_needs_to_load_by_hand():
    """A GPU of 8 keeps an eighth of 70,552,387,584 weights, and holds embedding and head whole, 2,101,346,304.

    With LoRA at 2 bytes each, in full training at 4, and then as a whole copy in each process.
    """
    shape, spread = scale.LLAMA_70B, scale.Spread.RESHARDED
    assert scale.loading(shape, scale.Method.LORA, spread, 8) == 2 * (70_552_387_584 / 8 + 2_101_346_304)
    assert scale.loading(shape, scale.Method.FULL, spread, 8) == 4 * (70_552_387_584 / 8 + 2_101_346_304)
    assert scale.loading(shape, scale.Method.FULL, scale.Spread.WHOLE, 8) == 2 * 70_552_387_584
    assert scale.host_copy(shape, scale.Method.FULL, spread) == 4 * 70_552_387_584
    assert scale.host_copy(shape, scale.Method.FULL, scale.Spread.WHOLE) == 0
    assert scale.host_copy(shape, scale.Method.LORA, spread, file_in_bf16=False) == 2 * 70_552_387_584


def file_of(tensor):
    """The file that a tensor's memory is mapped from; empty where it is none's."""
    address = tensor.data_ptr()
    for line in Path("/proc/self/maps").read_text(encoding="utf-8").splitlines():
        span, *_, name = line.split(maxsplit=5)
        first, end = (int(x, 16) for x in span.split("-"))
        if first <= address < end:
            return name if name.startswith("/") else ""
    return ""


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="the system does not say what is mapped")
def test_weights_in_their_files_own_format_are_mapped_from_it_and_so_is_a_checkpoint(tiny_folder, tmp_path):
    own, other = (load_model(str(tiny_folder), precision).model for precision in ("fp32", "bf16"))
    assert {file_of(p) for p in own.parameters()} == {str(tiny_folder / "model.safetensors")}
    assert {file_of(p) for p in other.parameters()} == {""}
    save_tensors(tmp_path / "checkpoint.safetensors", [torch.zeros(100, 100)])
    (kept,) = load_tensors(tmp_path / "checkpoint.safetensors")
    assert file_of(kept) == str(tmp_path / "checkpoint.safetensors")


def test_the_references_pass_is_shared_out_by_hand():
    """100,000 pairs of 243 positions are 12,500 batches of 8: on 512 GPUs 25 of one's own, on 8 GPUs 1,563.

    8B: a pair's forward pass is 2 (6,979,321,856 243 + 525,336,576 94) + 4 4096 32 27,462 operations. 70B under FSDP2: where
    products take no time, a batch takes as long as seven eighths of the layers' weights over NVLink.
    """
    run = scale.Run(scale.LLAMA_8B, scale.Method.LORA, scale.Spread.WHOLE)
    forward = 2 * (6_979_321_856 * 243 + 525_336_576 * 94) + 4 * 4096 * 32 * 27462
    assert scale.reference_seconds(run, 512, 0.4) == pytest.approx(25 * 8 * forward / (0.4 * 989e12), rel=1e-12)
    assert scale.reference_seconds(run, 8, 0.4) == pytest.approx(1563 * 8 * forward / (0.4 * 989e12), rel=1e-12)
    spread = scale.Run(scale.LLAMA_70B, scale.Method.LORA, scale.Spread.RESHARDED)
    moved = 2 * 68_451_041_280 * 7 / 8
    assert scale.reference_seconds(spread, 8, 1e6) == pytest.approx(1563 * moved / 450e9, rel=1e-12)


def test_states_of_frozen_layers_take_their_forward_pass_by_hand():
    """8B: 13 of 32 layers of 218,103,808 weights, no head."""
    run = scale.Run(scale.LLAMA_8B, scale.Method.UPPER, scale.Spread.WHOLE)
    of_a_pair = 2 * 13 * 218_103_808 * 243 + 4 * 4096 * 13 * 27462
    assert scale.states_seconds(run, 10, 0.2) == pytest.approx(10 * of_a_pair / (0.2 * 989e12), rel=1e-12)


def test_checkpoints_by_hand():
    """Full training of 8B: 12 bytes of 8,029,995,008 weights, 9.6 s to the host and 48.2 s to disk; then 20 times that.

    One that takes 1 s is due after 30 s, 60 s and so on; one that takes 10 s after 30 s and then every 200 s. The last is always
    written.
    """
    run = scale.Run(scale.LLAMA_8B, scale.Method.FULL, scale.Spread.RESHARDED)
    assert scale.saving_seconds(run) == pytest.approx(12 * 8_029_995_008 * (1 / 10e9 + 1 / 2e9), rel=1e-12)
    assert [scale.seconds_between(saving) for saving in (0.3, 1.5, 10)] == [30, 30, 200]
    assert [scale.n_saves(training, 1.0) for training in (29, 30, 59, 60)] == [1, 2, 2, 3]
    assert [scale.n_saves(training, 10.0) for training in (29, 229, 230, 430)] == [1, 2, 3, 4]


def test_upper_layers_need_the_frozen_ones_run_forward_and_no_further():
    """8B: 13 of 32 layers are frozen, 19 trained: 13 layers once, 19 twice, the head twice."""
    run = scale.Run(scale.LLAMA_8B, scale.Method.UPPER, scale.Spread.WHOLE)
    extent = Extent(positions=1, answers=1, pairs=0)
    layer, head, adapters = 218_103_808, 525_336_576, 1_310_720
    assert scale.needed_flop(run, extent) == 2 * (13 * layer + 2 * 19 * layer + 2 * head) + 6 * 19 * adapters


def test_recomputing_costs_the_layers_forward_pass_and_spares_memory():
    extent = Extent(positions=1, answers=0, pairs=0)
    plain, again = (
        scale.Run(scale.LLAMA_8B, scale.Method.FULL, scale.Spread.RESHARDED, recompute) for recompute in (False, True)
    )
    assert scale.computed_flop(plain, extent) == scale.needed_flop(plain, extent) == 6 * 6_979_321_856
    assert scale.computed_flop(again, extent) == 8 * 6_979_321_856
    assert scale.memory(again, 64) < scale.memory(plain, 64)


def test_more_gpus_take_no_more_memory_and_a_lower_share_of_the_peak_is_no_faster():
    for shape in scale.SHAPES:
        for spread in scale.Spread:
            run = scale.Run(shape, scale.Method.FULL, spread)
            held = [scale.memory(run, n) for n in scale.N_GPUS]
            assert held == sorted(held, reverse=True)
            assert scale.rate(run, 64, 0.2) <= scale.rate(run, 64, 0.4)


def test_a_micro_batch_fills_the_trainers_budget():
    """2,048 positions hold 8 pairs of 243, four in each of two rows; and one of 2,000."""
    assert scale.micro_of(scale.Objective.DPO_CACHED.lengths(scale.HH)) == scale.Micro(8, 1944, 972)
    assert scale.micro_of(scale.Objective.DPO_CACHED.lengths(scale.LONG)) == scale.Micro(1, 2000, 2000)


def test_what_a_step_of_grpo_takes_by_hand():
    """8B: 2 (6,979,321,856 + 525,336,576) + 4 4096 32 328 = 15,181,283,328 operations a token behind 200 + 128 others.

    Keys and values take 2 2 32 8 128 = 131,072 bytes a token. 128 prompts of 8 answers on 8 GPUs: 128 answers each, all at once.
    Products: 128 15,181,283,328 / 989e12 = 1.965 ms a token each. Reads: 15,009,316,864 bytes of weights and 128 (200 / 8 + 128)
    131,072 = 2,566,914,048 of keys and values at 3.35e12 = 5.247 ms, which is more: 256 steps at a fifth of it take 6.7156 s. 16
    prompts before: 16 2 6,979,321,856 200 / (989e12 / 5) = 0.2258 s.
    """
    whole, served = scale_rl.PLANS[:2]
    assert scale_rl.kv_bytes(scale.LLAMA_8B) == 131_072
    assert scale_rl.in_flight(whole) == 128
    assert scale_rl.sampling_seconds(whole, 0.2) == pytest.approx(6.7156 + 0.2258, rel=1e-4)
    # vLLM reads the prompt for each answer: 128 328 131,072 bytes.
    reads = (15_009_316_864 + 128 * 328 * 131_072) / 3.35e12
    assert scale_rl.sampling_seconds(served, 0.2) == pytest.approx(256 * reads / 0.2 + 0.2258, rel=1e-4)
    assert scale_rl.sending_seconds(served) == pytest.approx(2 * 4 * 41_943_040 / 2e9)
    assert scale_rl.sending_seconds(whole) == 0


def test_a_server_holds_no_more_answers_than_its_memory_does():
    """Two H200 hold 0.9 2 140.4 GiB, of which 70B takes 141,104,775,168 bytes; a group is (200 + 2048) 327,680 = 736,624,640."""
    plan = next(p for p in scale_rl.PLANS if p.card is scale.H200)
    free = 0.9 * 2 * 140.4 * 2**30 - 2 * 70_552_387_584
    assert free // 736_624_640 == 176
    assert scale_rl.in_flight(plan) == 128  # of 1,024 answers on 8 instances
    many = scale_rl.Rollouts(prompts=10_000)
    assert scale_rl.in_flight(plan, many) == 8 * 176
