import json
import textwrap

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from accord.errors import PolicyError
from accord.policy import Policy, load_policy, parse_policy, system_prompt
from accord.policy.schema import MEASURES

GOOD = """\
name: shop
version: "2"
summary: Be useful and safe.
hazards:
  - id: fraud
    name: Fraud
    definition: Deceiving people for money.
    severity: high
    disallowed: [scam scripts]
    allowed: [spotting scams]
    response: refuse
    guidance: Decline and offer an honest way.
    written_response: I can't help with that.
  - id: advice
    name: Medical Advice
    definition: Medical questions.
    severity: low
    disallowed: [doses]
    response: safe_complete
    guidance: Give general facts only.
    written_response: Please ask a doctor.
principles:
  - {id: honesty, name: Honesty, statement: Say what is true.}
"""


def fault_of(text):
    with pytest.raises(PolicyError) as raised:
        parse_policy(text, "shop.yaml")
    return str(raised.value)


def test_a_good_policy_loads(tmp_path):
    path = tmp_path / "shop.yaml"
    path.write_text(GOOD, encoding="utf-8")
    policy = load_policy(path)
    assert [clause.id for clause in policy.clauses] == ["fraud", "advice", "honesty"]
    assert policy.hazard("advice").response == "safe_complete"
    assert policy.clause("honesty").name == "Honesty"
    with pytest.raises(ValidationError):
        policy.name = "other"


def test_clause_names_the_nearest():
    policy = parse_policy(GOOD)
    with pytest.raises(PolicyError, match="no clause 'frauds'; did you mean 'fraud'"):
        policy.clause("frauds")
    with pytest.raises(PolicyError, match="no hazard 'honesty'"):
        policy.hazard("honesty")


def test_hash_follows_meaning_not_layout():
    policy = parse_policy(GOOD)
    assert len(policy.hash) == 64
    assert parse_policy(GOOD + "\ngates:\n  - {measure: capability, at_least: 0.5}\n").hash == policy.hash
    assert parse_policy("# a comment\n" + GOOD.replace("[scam scripts]", "\n      - scam scripts")).hash == policy.hash
    assert parse_policy(GOOD.replace("scam scripts", "scam script")).hash != policy.hash
    assert Policy.model_validate_json(policy.model_dump_json()).hash == policy.hash


def test_cli_02_unknown_config_keys():
    """A misspelt key, one at the wrong level and an unknown one: all in one message, with line and clause."""
    text = GOOD.replace("severity: high", "severty: high").replace("version:", "severity: low\nzzz: 1\nversion:")
    text = text.replace("statement: Say", "statment: Say")
    message = fault_of(text)
    assert "line 10: hazard 'fraud': unknown key 'severty'; did you mean 'severity'?" in message
    assert "line 2: unknown key 'severity'; did you mean 'hazards[].severity', at another level?" in message
    assert "line 3: unknown key 'zzz'; known here: name, version" in message
    assert "principle 'honesty': unknown key 'statment'; did you mean 'statement'?" in message
    assert message.startswith("shop.yaml: ")


def test_cli_02_bad_indent_names_line_and_column():
    message = fault_of("name: shop\n  version: '2'\n")
    assert "shop.yaml: not valid YAML at line 2, column 10" in message


def test_every_fault_at_once():
    text = GOOD.replace('"2"', "2.0").replace("response: refuse", "response: refusal")
    text = text.replace("id: advice", "id: fraud")
    message = fault_of(text)
    assert "3 faults" in message
    assert "line 2: 'version'" in message
    assert "put it in quotes" in message
    assert "hazard 'fraud': 'response': input should be 'refuse', 'safe_complete' or 'help_with_care'" in message
    assert "did you mean 'refuse'?" in message
    assert "line 14: hazard 'fraud': id used more than once (first on line 5)" in message


def test_a_list_of_one_faulty_clause_is_not_called_too_short():
    message = fault_of(GOOD.replace("[scam scripts]", "[7]"))
    assert "1 fault:" in message
    assert "disallowed.0" in message


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (("    name: Fraud\n", ""), "line 5: hazard 'fraud': 'name' is missing"),
        (("id: fraud", "id: Fraud!"), "no clause id"),
        (("  - id: fraud\n    name", "  - name"), "hazard number 1: 'id' is missing"),
        (("[scam scripts]", "scam scripts"), "input should be a list"),
        (("[scam scripts]", "[]"), "at least 1 item"),
        (("name: Fraud\n", "name: Fraud\n    name: Scam\n"), "key 'name' is given twice (first on line 6)"),
        (("id: honesty", "id: fraud"), "principle 'fraud': id used more than once"),
        (("name: shop", "name: ''"), "at least 1 character"),
    ],
)
def test_faults(change, expected):
    assert expected in fault_of(GOOD.replace(*change, 1))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "the document is empty"),
        ("- a\n", "the document is a list"),
        ("just text", "a single str"),
        ("1: a\n", "keys are not all text"),
        ("name: x\nhazards: []\n", "'hazards'"),
        ("a: &a [*a]\n", "unknown key 'a'"),
        ("a: \tb\n\tc: d", "not valid YAML"),
        ("a: !!python/object:os.system x\n", "not valid YAML"),
        ("a: \x00", "not valid YAML"),
    ],
)
def test_hostile_and_empty_documents(text, expected):
    assert expected in fault_of(text)


def test_missing_file_and_bytes(tmp_path):
    with pytest.raises(PolicyError, match="no such policy file"):
        load_policy(tmp_path / "none.yaml")
    (tmp_path / "bytes.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(PolicyError, match="UTF-8"):
        load_policy(tmp_path / "bytes.yaml")
    with pytest.raises(PolicyError, match="cannot be read"):
        load_policy(tmp_path)


def test_ids_are_unique_without_a_file_too():
    policy = parse_policy(GOOD)
    with pytest.raises(ValidationError, match="used more than once: fraud"):
        Policy(name="x", version="1", summary="s", hazards=(policy.hazards[0],) * 2)


def test_system_prompt_says_what_each_mode_asks():
    text = system_prompt(parse_policy(GOOD))
    assert "Refuse real help with: fraud." in text
    assert "Medical Advice. Give general facts only." in text
    assert "Say what is true." in text
    assert "Help with special care" not in text


def test_system_prompt_says_less_before_it_says_too_much():
    policy = parse_policy(GOOD)
    full = system_prompt(policy)
    short = system_prompt(policy, max_words=len(full.split()))
    assert "Say what is true." not in short
    assert "Honesty" in short
    with pytest.raises(PolicyError, match="the names of its 3 clauses alone"):
        system_prompt(policy, max_words=20)


def test_indented_block_reports_the_line_of_its_key():
    text = GOOD.replace("summary: Be useful and safe.", "summary:\n  - a\n  - b")
    assert "line 3: 'summary': input should be a valid string" in fault_of(textwrap.dedent(text))


GATED = (
    GOOD
    + """\
gates:
  - {measure: harmful_compliance, at_most: 0.05}
  - measure: gsm8k/accuracy
    at_least: 0.3
    max_unscored: 0.1
"""
)


def test_gates_are_read_and_leave_the_hash_alone():
    gated = parse_policy(GATED)
    assert [(g.measure, g.bound, g.limit, g.max_unscored) for g in gated.gates] == [
        ("harmful_compliance", "at most", 0.05, 0.05),
        ("gsm8k/accuracy", "at least", 0.3, 0.1),
    ]
    assert [g.measure for g in gated.round_gates] == ["harmful_compliance"]
    assert gated.hash == parse_policy(GOOD).hash


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ("{measure: harmfull_compliance, at_most: 0.05}", "is no measure; did you mean 'harmful_compliance'?"),
        ("{measure: gsm8k/, at_most: 0.05}", "'gsm8k/' is no measure"),
        ("{measure: capability, atmost: 0.05}", "unknown key 'atmost'; did you mean 'at_most'?"),
        ("{measure: capability}", "expected one limit: at_most or at_least"),
        ("{measure: capability, at_most: 0.1, at_least: 0.2}", "expected one limit: at_most or at_least"),
        ("{measure: capability, at_least: 5}", "'at_least': input should be less than or equal to 1, not 5"),
        ("{measure: capability, at_least: '5%'}", "'at_least': input should be a valid number, not '5%'"),
        ("{measure: capability, at_least: .nan}", "'at_least'"),
        ("{measure: capability, at_least: 0.5, max_unscored: 2}", "'max_unscored'"),
        ("{at_most: 0.05}", "gate number 1: 'measure' is missing"),
        ("capability", "gate number 1"),
    ],
)
def test_a_faulty_gate_is_named_with_its_line(row, expected):
    message = fault_of(f"{GOOD}gates:\n  - {row}\n")
    assert expected in message
    assert f"line {GOOD.count(chr(10)) + 2}: gate " in message


@given(
    st.dictionaries(
        st.sampled_from(["measure", "at_most", "at_least", "max_unscored", "kind"]),
        st.one_of(
            st.none(),
            st.booleans(),
            st.integers(),
            st.floats(),
            st.text(max_size=12),
            st.lists(st.integers(), max_size=2),
        ),
    )
)
@settings(max_examples=80, deadline=None)
def test_any_gate_is_read_or_refused_with_its_line(gate):
    text = f"{GOOD}gates:\n  - {json.dumps(gate)}\n"
    try:
        (read,) = parse_policy(text).gates
    except PolicyError:
        assert "line " in fault_of(text)
        return
    assert read.measure in MEASURES or "/" in read.measure
    assert -1 <= read.limit <= 1
    assert 0 <= read.max_unscored <= 1
