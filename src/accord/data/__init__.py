"""Records on disk, the formats of others, checks of what can be learned from, and the fence round what may not be."""

from accord.data.checks import ComparisonSet, Flaw, Report, check_comparisons, read_comparisons
from accord.data.fence import assert_no_leak
from accord.data.formats import Format, Pair, detect, format_hh, parse_hh, parse_pair, read_conversations, split_text
from accord.data.jsonl import Row, numbered, read_rows, write_rows
from accord.data.messages import messages_from_rows, messages_to_rows, show
from accord.data.near_duplicates import NearDuplicate
from accord.data.records import (
    PromptSet,
    read_attempts,
    read_choices,
    read_demonstrations,
    read_findings,
    read_prompts,
    to_row,
    write_records,
)

__all__ = [
    "ComparisonSet",
    "Flaw",
    "Format",
    "NearDuplicate",
    "Pair",
    "PromptSet",
    "Report",
    "Row",
    "assert_no_leak",
    "check_comparisons",
    "detect",
    "format_hh",
    "messages_from_rows",
    "messages_to_rows",
    "numbered",
    "parse_hh",
    "parse_pair",
    "read_attempts",
    "read_choices",
    "read_comparisons",
    "read_conversations",
    "read_demonstrations",
    "read_findings",
    "read_prompts",
    "read_rows",
    "show",
    "split_text",
    "to_row",
    "write_records",
    "write_rows",
]
