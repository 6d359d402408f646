import pytest

from accord.errors import SettingsError
from accord.models.chat import ChatFormat
from accord.recipes.settings import AlignSettings, TrainingSettings
from accord.recipes.training import OWN_DECLINES, demonstration_trees, matched_rows
from accord.types import Demonstration, Message, Prompt


def row(name, pair="", kind="contrast", answer="The harbour is what it is, and the water is in it."):
    return Demonstration(Prompt(name, (Message("user", name),), kind, "c", name, "train", pair=pair), answer)


def test_a_pair_is_one_unit_and_a_row_without_one_stands_alone():
    rows = [row("a", "p1"), row("b"), row("c", "p2"), row("d", "p1"), row("e")]
    assert matched_rows(rows) == [[0, 3], [1], [2], [4]]


def test_what_is_learned_and_along_which_paths_the_base_model_is_kept(tiny_model):
    """A refusal is learned to its end or in its beginning; a benign row has two paths, the second a refusal's beginning.

    Of 200 benign rows about half go along a demonstrated refusal and half along one of the model's own kind.
    """
    chat = ChatFormat(tiny_model.tokenizer)
    refusals = ["I won't help with the harbour.", "No, that is what the water is in."]
    rows = [row(f"h{i}", kind="harmful", answer=refusals[i % 2]) for i in range(40)] + [
        row(f"c{i}") for i in range(200)
    ]
    trees = demonstration_trees(tiny_model, chat, rows, AlignSettings(retain_tokens=4, whole_share=0.5))
    whole = [chat.answer(text) for text in refusals]
    learned = [t.answers for t in trees[:40]]
    assert {len(answers) for answers in learned} == {1}
    assert {a for (a,) in learned} == {*whole, *(w[:4] for w in whole)}
    demonstrated, own = {w[:4] for w in whole}, {chat.answer(text)[:4] for text in OWN_DECLINES}
    kept = [t.answers for t in trees[40:]]
    assert {first for first, _ in kept} == {chat.answer(rows[-1].answer)[:4]}
    assert {second for _, second in kept} == demonstrated | own
    assert 70 < sum(second in demonstrated for _, second in kept) < 130


def test_without_a_learned_refusal_there_is_no_path_to_one(tiny_model):
    chat = ChatFormat(tiny_model.tokenizer)
    (tree,) = demonstration_trees(tiny_model, chat, [row("c")], AlignSettings(retain_tokens=4))
    assert tree.answers == (chat.answer(row("c").answer)[:4],)


def test_manifests_from_before_a_setting_was_there_ask_the_same():
    for settings in (TrainingSettings(), AlignSettings()):
        assert {"checkpointing", "last_layer"}.isdisjoint(settings.asked())
        assert settings.asked()["first_layer"] == settings.first_layer
    assert (
        TrainingSettings(checkpointing=True, last_layer=3).asked().items()
        >= {"checkpointing": True, "last_layer": 3}.items()
    )


def test_a_round_is_refused_in_several_processes(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(SettingsError, match="`accord train` can be launched in several"):
        AlignSettings().refuse_as_round()
