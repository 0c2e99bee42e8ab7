"""Resume tokens survive the way to a client and back, and nothing else is taken for one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tidegate_cloud.console.tokens import Token, parse
from tidegate_protocols.errors import BadInput

TOKENS = st.builds(
    Token,
    topic_id=st.binary(min_size=16, max_size=16),
    process=st.binary(min_size=8, max_size=8),
    at_s=st.integers(0, 2**33),
    offsets=st.lists(st.integers(0, 2**63 - 1), max_size=24).map(tuple),
    seq=st.integers(0, 2**60),
)


@given(TOKENS)
def test_a_token_comes_back_as_it_was(token: Token):
    text = token.text()
    assert parse(text) == token
    assert text.isascii()
    assert not set(text) & set(" \r\n,;&?=")  # neither a header nor an address needs to quote it


@given(st.one_of(st.text(max_size=80), st.binary(max_size=80).map(lambda b: b.hex() + "~1")))
def test_anything_else_is_refused_or_read_as_what_it_says(text: str):
    try:
        token = parse(text)
    except BadInput:
        return
    assert parse(token.text()) == token


@given(TOKENS, st.data())
def test_a_token_that_was_cut_is_refused(token: Token, data: st.DataObject):
    head, _, seq = token.text().partition("~")
    cut = data.draw(st.integers(1, min(40, len(head))))
    try:
        read = parse(head[:-cut] + "~" + seq)
    except BadInput:
        return
    assert read != token


@pytest.mark.parametrize("text", ["", "~", "~1", "AAAA", "AAAA~-1", "AAAA~x", "x" * 5000 + "~1"])
def test_texts_that_are_no_tokens(text: str):
    with pytest.raises(BadInput, match="from"):
        parse(text)
