"""JSON that no two parsers read differently: no BOM, NaN, lone surrogate, repeated key, endless depth."""

from __future__ import annotations

import hashlib
import json

import msgspec
import orjson

from adapter.errors import MalformedResource

_ANYTHING = msgspec.json.Decoder()
_VOLATILE_META = ("lastUpdated", "versionId", "source")


def require_strict_json(content: bytes) -> None:
    """Raise MalformedResource, naming the fault, unless the document means the same to every parser.

    Source: RFC 8259 sections 4, 8 and 9; FHIR R4 `json.html` (unique names).
    """
    try:
        decoded = orjson.loads(content)  # refuses NaN, a BOM, lone surrogates, bytes that are not UTF-8
        survived = orjson.dumps(decoded)  # refuses more than 254 levels; FHIR needs fewer than 50
    except orjson.JSONDecodeError as error:
        raise MalformedResource("not strict JSON") from error
    except orjson.JSONEncodeError as error:
        raise MalformedResource("nested too deeply") from error
    if content != survived and _has_duplicate_keys(content, survived):
        raise MalformedResource("an object has two members of one name")


def content_hash(content: bytes) -> str:
    """SHA-256, hexadecimal, of what a resource says, whatever its key order, spacing or bookkeeping.

    `meta.lastUpdated`, `meta.versionId` and `meta.source` do not count: servers change them for no reason of
    ours. content: checked JSON of one resource.
    """
    resource = _ANYTHING.decode(content)
    meta = resource.get("meta") if isinstance(resource, dict) else None
    if isinstance(meta, dict):
        resource["meta"] = {key: value for key, value in meta.items() if key not in _VOLATILE_META}
    return hashlib.sha256(msgspec.json.encode(resource, order="deterministic")).hexdigest()


def _has_duplicate_keys(content: bytes, survived: bytes) -> bool:
    """Compare what is written with what survives decoding; walk every object only when that says nothing.

    Equal text, or an equal count of `":`, costs a third of a walk. The count is exact on compact JSON unless a
    string hides a quote or a colon behind a `u00..` escape, which decoding would reveal.
    """
    written = msgspec.json.format(content, indent=-1)
    if written == survived:
        return False
    if written.count(b'":') == survived.count(b'":') and b"\\u00" not in content:
        return False
    objects: list[list[tuple[str, object]]] = []
    json.loads(content, object_pairs_hook=objects.append)
    return any(len(dict(members)) != len(members) for members in objects)
