"""What properties of damaged input share: how many examples, and how text and bytes are damaged.

CBM_FUZZ_EXAMPLES, which `make fuzz` sets, makes any test of it as long as wanted.
"""

import os
import re

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

_FACTOR = float(os.environ.get("CBM_FUZZ_EXAMPLES", "1"))
_VALUE = re.compile(rb'(?<=>)[^<>]*(?=</)|(?<==")[^"<>]*(?=")')
_ELEMENT = re.compile(rb"<(\w[\w:.-]*)\b[^<>]*>[^<>]*</\1>")

ODD = (
    b"", b" ", b"nan", b"inf", b"-inf", b"1e999", b"-1", b"0", b"1e-320", b"9" * 400, b"0x1F",
    b"1_000", b"true", b"1 2", b"1;2", b"1 nan 3", b"-5 " * 50, b"0 " * 3, "½".encode(), b"\xff",
    b"&#0;", b"&x;", b"2024-02-30T00:00:00", b"0001-01-01T00:00:00", b"9999-12-31T23:59:60",
    b"2024-05-01T05:33:59+99:00", b"UTC=", b"IW", b"EW", b"VV", b"../../etc", b"\\", b"{}", b"%s",
    b"4294967296", b"-9223372036854775809", b"003.71", b"x.y", b"Descending",
)  # fmt: skip


def quickly(examples: int) -> settings:
    """Settings of a test with so many examples, unless more are wanted."""
    return settings(
        max_examples=max(1, int(examples * _FACTOR)),
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )


@st.composite
def damaged(draw: st.DrawFn, whole: bytes) -> bytes:
    """Bytes cut off, overwritten, taken out or doubled somewhere."""
    start = draw(st.integers(0, max(len(whole) - 1, 0)))
    end = min(len(whole), start + draw(st.integers(0, 60)))
    how = draw(st.sampled_from(("cut", "write", "take", "double")))
    if how == "cut":
        return whole[:start]
    if how == "double":
        return whole[:end] + whole[start:]
    put = draw(st.binary(max_size=40)) if how == "write" else b""
    return whole[:start] + put + whole[end:]


@st.composite
def damaged_xml(draw: st.DrawFn, whole: bytes) -> bytes:
    """XML in which values are odd, elements are missing or doubled; or bytes are damaged."""
    text = whole
    for _ in range(draw(st.integers(1, 3))):
        how = draw(st.sampled_from(("value", "value", "value", "take", "double", "bytes")))
        if how == "bytes":
            text = draw(damaged(text))
            continue
        found = list((_VALUE if how == "value" else _ELEMENT).finditer(text))
        if not found:
            continue
        one = found[draw(st.integers(0, len(found) - 1))]
        put = {"value": draw(st.sampled_from(ODD)), "take": b"", "double": 2 * one[0]}[how]
        text = text[: one.start()] + put + text[one.end() :]
    return text
