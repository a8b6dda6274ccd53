"""Example messages, beside an encoder of the tests' own and bytes written by hand."""

import pytest
from rlu_toys import example

from benchmarks.timing.rlu_writer import field
from offrl.data.example import parse_example

EDGES = [0, 1, -1, 127, 128, 300, 2**63 - 1, -(2**63), -(2**62) + 5]


@pytest.mark.parametrize("packed", [True, False])
def test_everything_that_a_feature_can_be(packed: bool) -> None:
    features = {
        "bytes": [b"", b"x", b"\x00\xff" * 300],
        "int": EDGES,
        "float": [0.0, -1.5, 3.4028234663852886e38],
        "one": [7],
        "ä": [b"z"],
    }
    assert parse_example(example(features, packed)) == features


def test_bytes_by_hand() -> None:
    """As protoc encodes features { feature { key: "a" value { int64_list { value: -2 } } } }."""
    value = bytes([0xFE, *[0xFF] * 8, 0x01])
    message = b"\x0a\x15\x0a\x13\x0a\x01a\x12\x0e\x1a\x0c\x0a\x0a" + value
    assert parse_example(message) == {"a": [-2]}
    assert parse_example(b"") == {}
    # a feature without values: value { }
    assert parse_example(b"\x0a\x07\x0a\x05\x0a\x01a\x12\x00") == {"a": []}


def test_unknown_fields_are_skipped() -> None:
    strange = field(9, b"what") + field(8, 2**40) + b"\x3d1234" + b"\x3912345678"
    inner = field(1, b"a") + strange + field(2, strange + field(3, field(1, 5)))
    message = strange + field(1, strange + field(1, inner) + strange) + strange
    assert parse_example(message) == {"a": [5]}


GOOD = example({"a": [1, 2], "f": [0.5], "b": [b"xyz"]})


def test_of_two_entries_the_last_counts() -> None:
    assert parse_example(GOOD + example({"a": [3]}))["a"] == [3]


@pytest.mark.parametrize("n", range(1, len(GOOD)))
def test_cut_messages_are_refused(n: int) -> None:
    with pytest.raises(ValueError, match=r"cut off|longer than"):
        parse_example(GOOD[:n])


@pytest.mark.parametrize(
    ("message", "words"),
    [
        (b"\x0b", "of type 3"),
        (b"\x08" + b"\xff" * 10 + b"\x01", "more than ten bytes"),
        (field(1, field(1, field(2, field(2, field(1, b"123"))))), "packed floats are cut"),
        (field(1, field(1, field(1, b"\xff"))), "utf-8"),
    ],
)
def test_nonsense_is_refused(message: bytes, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        parse_example(message)
