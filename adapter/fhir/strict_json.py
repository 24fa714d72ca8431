"""JSON that no two parsers read differently: no BOM, NaN, lone surrogate, duplicate key or depth."""

from __future__ import annotations

import hashlib
import json
import re

import msgspec

from adapter.errors import MalformedResource

_TOKEN = re.compile(rb'"(?:[^"\\]|\\.)*"|[\[\]{}]')
_VOLATILE_META = ("lastUpdated", "versionId", "source")


def require_strict_json(content: bytes) -> None:
    """Raise MalformedResource, naming the fault, unless the document means the same to every parser.

    Source: RFC 8259 sections 4, 8 and 9; FHIR R4 `json.html` (unique names).
    """
    try:
        content.decode("utf-8")
        decoded = msgspec.json.decode(content)
    except UnicodeDecodeError as error:
        raise MalformedResource("not UTF-8") from error
    except RecursionError as error:
        raise MalformedResource("nested too deeply") from error
    except msgspec.MsgspecError as error:
        raise MalformedResource("not JSON") from error
    if _has_duplicate_keys(content, decoded):
        raise MalformedResource("an object has two members of one name")


def content_hash(content: bytes) -> str:
    """SHA-256, hexadecimal, of what a resource says, whatever its key order, spacing or bookkeeping.

    `meta.lastUpdated`, `meta.versionId` and `meta.source` do not count: servers change them for no reason of
    ours. content: checked JSON of one resource.
    """
    resource = msgspec.json.decode(content)
    meta = resource.get("meta") if isinstance(resource, dict) else None
    if isinstance(meta, dict):
        resource["meta"] = {key: value for key, value in meta.items() if key not in _VOLATILE_META}
    return hashlib.sha256(msgspec.json.encode(resource, order="deterministic")).hexdigest()


def _has_duplicate_keys(content: bytes, decoded: object) -> bool:
    """Compare what is written with what survives decoding; walk every object only when that says nothing.

    Equal text, or an equal count of `":`, costs a third of a walk. The count is exact on compact JSON unless a string
    hides a quote or a colon behind a `u00..` escape, which decoding would reveal.
    """
    written, survived = msgspec.json.format(content, indent=-1), msgspec.json.encode(decoded)
    if written == survived:
        return False
    if written.count(b'":') == survived.count(b'":') and b"\\u00" not in content:
        return False
    objects: list[list[tuple[str, object]]] = []
    json.loads(content, object_pairs_hook=objects.append)
    return any(len(dict(members)) != len(members) for members in objects)


def require_shallow_json(content: bytes, *, deepest: int) -> None:
    """Raise MalformedResource beyond `deepest` levels of nesting. content: valid JSON."""
    if content.count(b"{") + content.count(b"[") > deepest and _depth(content) > deepest:
        raise MalformedResource("nested too deeply")


def _depth(content: bytes) -> int:
    depth = reached = 0
    for token in _TOKEN.finditer(content):
        mark = token.group()
        if mark in b"{[":
            depth += 1
            reached = max(reached, depth)
        elif mark in b"}]":
            depth -= 1
    return reached
