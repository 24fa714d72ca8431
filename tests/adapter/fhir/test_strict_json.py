"""What makes a document mean one thing only."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapter.errors import MalformedResource
from adapter.fhir.strict_json import content_hash, require_strict_json

_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(alphabet=st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(st.text(alphabet='ab":\\ é', max_size=3), inner, max_size=3),
    max_leaves=12,
)  # fmt: skip


@given(_VALUES, st.sampled_from([None, 0, 2]), st.booleans())
def test_every_honest_document_passes(value: object, indent: int | None, ascii_only: bool) -> None:
    """Spacing, escapes and strings full of quotes and colons are never mistaken for a repeated key."""
    require_strict_json(json.dumps(value, indent=indent, ensure_ascii=ascii_only).encode())


@pytest.mark.fault("F-23")
@given(_VALUES, _VALUES, st.sampled_from(["", " ", "\n\t"]), st.text(alphabet='ab":\\ é', max_size=3), st.booleans())
def test_a_repeated_key_is_found_wherever_it_hides(
    one: object, other: object, space: str, key: str, escaped: bool
) -> None:
    """Two members of one name are refused, deep inside, spaced, escaped, beside strings that look like keys."""
    name, again = json.dumps(key), json.dumps(key)
    if escaped:
        again = '"' + "".join(f"\\u{ord(character):04x}" for character in key) + '"'
    repeated = f"[{json.dumps([other, chr(34) + ':'])}, {{{name}{space}:{json.dumps(one)},{again}{space}: 1}}]"
    with pytest.raises(MalformedResource, match="one name"):
        require_strict_json(repeated.encode())


@pytest.mark.fault("F-23")
@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"NaN", b"[Infinity]", b"[1e999]", b'["\\ud800"]', b'["\xed\xa0\x80"]', b'["\xff"]', b"\xef\xbb\xbf{}",
     b"[" * 300 + b"]" * 300, b"[" * 10_000 + b"]" * 10_000, b"{} {}", b"[01]"],
)  # fmt: skip
def test_what_parsers_disagree_on_is_refused(content: bytes) -> None:
    """NaN, overflow, broken surrogates, foreign encodings, a BOM, endless nesting, two documents: MalformedResource."""
    with pytest.raises(MalformedResource):
        require_strict_json(content)


def test_a_hash_follows_the_content_only() -> None:
    """Key order, spacing and the server's bookkeeping change no hash; a value does."""
    one = b'{"resourceType":"Patient","meta":{"versionId":"1","lastUpdated":"x","tag":[]},"active":true}'
    same = b'{ "active" : true, "meta":{"tag":[],"source":"#1","versionId":"2"},"resourceType":"Patient" }'
    assert content_hash(one) == content_hash(same)
    assert content_hash(one) != content_hash(one.replace(b"true", b"false"))
    assert content_hash(b'{"a":123456789012345678901234567890}') == content_hash(
        b'{"a":123456789012345678901234567890}'
    )
