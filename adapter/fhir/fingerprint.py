"""Whether a resource on a server is still what we wrote, so that nobody else's work is ever changed.

A version number alone does not tell: servers name versions as they like, and do not say who made one.
"""

from __future__ import annotations

import hashlib
import re

from adapter.fhir.entries import Json, canonical_json, read_json

FINGERPRINT = "urn:adjuvant:fingerprint"  # system of the `meta.tag` that holds it
SUPERSEDED = "urn:adjuvant:superseded-by"  # system of the `meta.tag` that names the assessment which stands instead
_REFERENCE = re.compile(r"(?:.*/)?([A-Z][A-Za-z]{0,63})/[^/]+(?:/_history/[^/]+)?")
_NOT_OURS_TO_JUDGE = frozenset({"id", "text", "replaces"})
_FIRST_VERSION = "1"


def stamped(content: bytes) -> bytes:
    """The resource with the fingerprint of what is sent as its last tag."""
    resource = read_json(content)
    meta = resource["meta"]
    if isinstance(meta, dict):
        tag: Json = {"system": FINGERPRINT, "code": fingerprint_of(resource)}
        resource["meta"] = {**meta, "tag": [*meta["tag"], tag]}
    return canonical_json(resource)


def untouched(resource: Json) -> bool:
    """Whether nobody has changed it since we wrote it: same content, same labels, and no version after the first.

    A server that does not number its versions is judged by content and labels alone.
    """
    meta = resource.get("meta")
    version = str(meta.get("versionId", "")) if isinstance(meta, dict) else ""
    numbered_on = version.isdigit() and version != _FIRST_VERSION
    return not numbered_on and _tagged(resource, FINGERPRINT) == fingerprint_of(resource)


def superseded_by(resource: Json) -> str | None:
    """The assessment that stands instead of this one's, where we have said so."""
    return _tagged(resource, SUPERSEDED)


def fingerprint_of(resource: Json) -> str:
    """SHA-256, hexadecimal, over what servers leave as it is.

    Left out: ids, narratives, `replaces`, which is added on the way, and of references everything but the type, for
    servers strip versions and choose ids. Of `meta`, security labels and tags count.
    """
    meta = resource.get("meta")
    labels = _labels(meta) if isinstance(meta, dict) else []
    kept = {key: value for key, value in resource.items() if key not in _NOT_OURS_TO_JUDGE and key != "meta"}
    return hashlib.sha256(canonical_json([labels, _bare(kept)])).hexdigest()


def _labels(meta: Json) -> list[str]:
    labels = [entry for key in ("security", "tag") for entry in _objects(meta.get(key))]
    named = [f"{entry.get('system')}|{entry.get('code')}" for entry in labels if entry.get("system") != FINGERPRINT]
    return sorted(set(named))


def _tagged(resource: Json, system: str) -> str | None:
    meta = resource.get("meta")
    tags = _objects(meta.get("tag")) if isinstance(meta, dict) else []
    return next((str(tag.get("code")) for tag in tags if tag.get("system") == system), None)


def _objects(value: object) -> list[Json]:
    return [entry for entry in value if isinstance(entry, dict)] if isinstance(value, list) else []


def _bare(value: object) -> object:
    if isinstance(value, list):
        return [_bare(item) for item in value]
    if isinstance(value, dict):
        return {key: _type_in(item) if key == "reference" else _bare(item) for key, item in value.items()}
    return value


def _type_in(reference: object) -> object:
    found = _REFERENCE.fullmatch(reference) if isinstance(reference, str) else None
    return found[1] if found else reference
