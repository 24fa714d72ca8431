"""Splitting a page: nothing is lost, nothing bad spoils the rest."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapter.errors import MalformedResource
from adapter.fhir.paging import SplitPage, dropped_parameters, split_page


def split(*entries: str) -> SplitPage:
    """Split a page of Observations whose entries are written out."""
    content = '{"resourceType":"Bundle","type":"searchset","entry":[' + ",".join(entries) + "]}"
    return split_page(content.encode(), resource_type="Observation", page=2)


def observation(resource_id: str, more: str = "") -> str:
    """One entry, as text."""
    return f'{{"resource": {{"resourceType":"Observation","id":"{resource_id}"{more}}},"search":{{"mode":"match"}}}}'


_BAD = [
    ('{"resource":{"resourceType":"Observation"}}', "Observation page 2 entry 1"),
    ('{"resource":{"id":"o9"}}', "Observation page 2 entry 1"),
    ('{"resource":{"resourceType":"Observation","id":7}}', "Observation page 2 entry 1"),
    ('{"resource":{"resourceType":"Observation","id":"../../etc"}}', "Observation page 2 entry 1"),
    ('{"resource":{"resourceType":"Observation","id":"o9\\u0000"}}', "Observation page 2 entry 1"),
    ('{"resource":{"resourceType":"observation/..","id":"o9"}}', "Observation page 2 entry 1"),
    (observation("o9", ',"meta":{"versionId":"1/2"}'), "Observation/o9"),
    (observation("o9", ',"meta":[]'), "Observation/o9"),
    (observation("o9", ',"subject":"Patient/p1"'), "Observation/o9"),
    (observation("o9", ',"status":"final","status":"entered-in-error"'), "Observation/o9"),
    (observation("o9", ',"a":' + "[" * 300 + "]" * 300), "Observation/o9"),
    ('{"resource":{"resourceType":"Device","id":"d1"},"search":{"mode":"match"}}', "Device/d1"),
    ('{"search":{"mode":"match"}}', "Observation page 2 entry 1"),
    ('{"resource":null}', "Observation page 2 entry 1"),
    ('{"resource":[]}', "Observation page 2 entry 1"),
    ('"entry"', "Observation page 2 entry 1"),
    ("null", "Observation page 2 entry 1"),
]


@pytest.mark.parametrize(("bad", "source"), _BAD)
def test_one_bad_entry_is_set_aside_and_the_rest_go_on(bad: str, source: str) -> None:
    """It is named as far as it can be read, with a reason and no value; its neighbours are all there."""
    page = split(bad, observation("o1"), observation("o2"))
    assert [match.resource.version.resource_id for match in page.matches] == ["o1", "o2"]
    assert [(entry.source, entry.reason) for entry in page.quarantined] == [(source, "malformed-entry")]
    assert "entered-in-error" not in page.quarantined[0].detail


@given(st.lists(st.sampled_from([None, *range(len(_BAD))]), max_size=8))
def test_good_and_bad_entries_add_up(kinds: list[int | None]) -> None:
    """Whatever the mixture, every entry is either a match or set aside, and matches keep their order."""
    entries = [observation(f"o{n}") if kind is None else _BAD[kind][0] for n, kind in enumerate(kinds)]
    page = split(*entries)
    good = [f"o{n}" for n, kind in enumerate(kinds) if kind is None]
    assert [match.resource.version.resource_id for match in page.matches] == good
    assert len(page.matches) + len(page.quarantined) == len(kinds)


def test_a_resource_keeps_its_bytes() -> None:
    """Spacing, number text and unknown elements stay as sent: `1.10` is not `1.1`."""
    written = '{ "resourceType":"Observation" ,"id":"o1","valueQuantity":{"value": 1.10},"é":"\\u00e9"}'
    page = split(f'{{"resource":{written}}}')
    assert page.matches[0].resource.content == written.encode()


def test_modes_are_kept_apart() -> None:
    """An outcome is no match, an included resource is no match, and an entry without mode counts by its type."""
    page = split(
        '{"resource":{"resourceType":"OperationOutcome","issue":[{"severity":"warning","code":"suppressed"}]},'
        '"search":{"mode":"outcome"}}',
        '{"resource":{"resourceType":"Patient","id":"p1"},"search":{"mode":"include"}}',
        '{"resource":{"resourceType":"Observation","id":"o1"},"search":{"mode":"include"}}',
        '{"resource":{"resourceType":"Observation","id":"o2"}}',
        '{"resource":{"resourceType":"Patient","id":"p2"}}',
    )
    assert [match.resource.version.resource_id for match in page.matches] == ["o2"]
    assert [match.resource.version.resource_id for match in page.included] == ["p1", "o1", "p2"]
    assert [issue.code for issue in page.issues] == ["suppressed"]
    assert page.quarantined == ()


def test_a_version_is_never_missing() -> None:
    """Without versionId the content names it: the same content the same version, another content another one."""
    one, same, other = (
        split(observation("o1", more)).matches[0].resource.version.version
        for more in (',"a":1,"b":2', ',"b":2,"a":1', ',"a":1,"b":3')
    )
    assert one == same != other
    assert one.startswith("sha256-")
    assert len(one) == len("sha256-") + 32


def test_a_fault_outside_the_entries_spoils_the_page() -> None:
    """A repeated key of the Bundle itself cannot be pinned on an entry."""
    content = b'{"resourceType":"Bundle","type":"searchset","total":1,"total":2,"entry":[{"resource":{}}]}'
    with pytest.raises(MalformedResource):
        split_page(content, resource_type="Observation", page=1)


@pytest.mark.fault("F-44")
@pytest.mark.parametrize(
    ("self_link", "dropped"),
    [
        ("http://h/fhir/Observation?patient=p1&_lastUpdated=ge2026", ()),
        ("http://h/fhir/Observation?patient%3APatient=p1&_lastUpdated=ge2026&_count=50", ()),
        ("Observation?subject=Patient/p1&_lastUpdated=ge2026", ()),
        ("http://h/fhir/Observation?_lastUpdated=ge2026", ("patient",)),
        ("http://h/fhir/Observation?patient=p1", ("_lastUpdated",)),
        ("http://h/fhir/Observation", ("_lastUpdated", "patient")),
        (None, ()),
    ],
)
def test_the_self_link_tells_what_was_dropped(self_link: str | None, dropped: tuple[str, ...]) -> None:
    """A filter that the server no longer shows was not applied; page size and format are no filters."""
    asked = [("patient", "p1"), ("_lastUpdated", "ge2026"), ("_count", "200"), ("_format", "json")]
    assert dropped_parameters(asked, self_link) == dropped


def test_entries_may_be_absent() -> None:
    """A searchset without entries found nothing: an answer, not an error."""
    page = split_page(json.dumps({"resourceType": "Bundle", "type": "searchset"}).encode(),
                      resource_type="Observation", page=1)  # fmt: skip
    assert page.matches == ()
    assert page.next_link is None
