"""Secrets are gone from the output, in every form and however it is cut into chunks."""

from __future__ import annotations

import base64
import itertools
import json
import random
import time
import urllib.parse

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from banger.batch.masking import Masker

SECRET = "hunter2/+ü&correct"


def masked(secrets: list[str], *chunks: bytes) -> bytes:
    masker = Masker(secrets)
    return b"".join([*map(masker.feed, chunks), masker.flush()])


def test_a_secret_is_masked_and_the_rest_is_not() -> None:
    assert masked(["s3cret"], b"a s3cret b\ns3cret", b"\nc s3") == b"a *** b\n***\nc s3"


def test_without_secrets_all_passes_at_once() -> None:
    assert Masker([]).feed(b"abc") == b"abc"


def test_a_line_is_shown_when_it_ends() -> None:
    masker = Masker(["a-very-long-secret"])
    assert masker.feed(b"done\nnext a-ver") == b"done\n"
    assert masker.feed(b"y-long-secret\n") == b"next ***\n"


@pytest.mark.parametrize(
    "form",
    [
        SECRET.encode(),
        base64.b64encode(SECRET.encode()),
        base64.urlsafe_b64encode(SECRET.encode()),
        base64.b64encode(f"user:{SECRET}".encode()),
        base64.b64encode(f"x-user:{SECRET}@".encode()),
        base64.b64encode(f"as-user:{SECRET}\n".encode()),
        urllib.parse.quote(SECRET).encode(),
        urllib.parse.quote(SECRET, safe="").encode(),
        urllib.parse.quote_plus(SECRET).encode(),
        urllib.parse.quote(SECRET).replace("%C3%BC", "%c3%bc").replace("%2B", "%2b").encode(),
        json.dumps({"token": SECRET}).encode(),
    ],
)
def test_a_secret_is_known_in_what_programs_make_of_it(form: bytes) -> None:
    out = masked([SECRET], b"<" + form + b">")
    assert b"***" in out
    assert len(out) <= len(form) - len(SECRET) + 8  # of what stood around it, a letter or two are shared


def test_a_secret_of_several_lines_is_masked_by_line() -> None:
    key = "-----BEGIN KEY-----\nMIIabc\r\nab\n-----END KEY-----\n"
    assert masked([key], b"MIIabc -----BEGIN KEY-----\r\nab\n") == b"*** ***\r\nab\n"


def test_a_long_secret_is_known_in_wrapped_base64() -> None:
    secret = "".join(random.Random(1).choices("abcdefgh0123", k=150))
    for width in (64, 76):
        text = base64.b64encode(secret.encode())
        lines = [text[at : at + width] for at in range(0, len(text), width)]
        assert b"\n".join(lines[:2]) not in masked([secret], b"\n".join(lines))
        assert masked([secret], b"\n".join(lines[:2])) == b"***\n***"


def test_secrets_that_overlap_go_as_one() -> None:
    assert masked(["abcd", "cdef", "cdefgh"], b"-abcdefgh-") == b"-***-"
    assert masked(["abcd", "cdef", "cdefgh"], b"-ab", b"cd", b"ef", b"gh-") == b"-***-"


def test_a_secret_without_end_holds_nothing_back() -> None:
    masker = Masker(["aaaa"])
    out = [masker.feed(b"a" * 10) for _ in range(1000)]
    assert b"".join(out) == b"***"
    assert len(masker._held) < 10


def test_bytes_that_are_no_text_can_be_secret() -> None:
    assert masked(["\udcff\udcfe\udcfd\udcfc"], b"-\xff\xfe\xfd\xfc-") == b"-***-"


@settings(max_examples=500)
@given(
    secrets=st.lists(st.text("abc", min_size=4, max_size=9), max_size=4),
    text=st.text("abc\n", max_size=200),
    cuts=st.lists(st.integers(0, 200), max_size=8),
)
def test_no_chunking_shows_a_secret_or_changes_the_output(
    secrets: list[str], text: str, cuts: list[int]
) -> None:
    data = text.encode()
    edges = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    out = masked(secrets, *(data[a:b] for a, b in itertools.pairwise(edges)))
    assert out == masked(secrets, data)
    assert not any(secret.encode() in out for secret in secrets)
    assert out.count(b"\n") == data.count(b"\n")
    if not any(secret in text for secret in secrets):
        assert out == data


def test_much_output_costs_little() -> None:
    secrets = [f"{number}-secret-{number * 7919}" for number in range(20)]
    chunk = b"a line of some output, as tests print it, 1234567890 times\n" * 1000
    masker = Masker(secrets)
    began = time.process_time()
    for _ in range(100):
        masker.feed(chunk)
    assert time.process_time() - began < 20  # for 6 MB, on a machine that is busy
