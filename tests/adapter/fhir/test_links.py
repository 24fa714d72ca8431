"""Links: verbatim, and only within our server."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapter.errors import ForeignLink
from adapter.fhir.links import ServiceBase, request_target

_BASE = ServiceBase.parse("https://ehr.invalid/r4/")
_PAGE = "https://ehr.invalid/r4/Observation?patient=1"
_QUERY = st.text(alphabet="abc+/=%&?{}|~'()*!@:;,.-_0123456789", max_size=40)


@given(_QUERY)
def test_a_query_is_never_touched(query: str) -> None:
    """Whatever a cursor holds is what goes back, absolute or relative."""
    for link in (f"https://ehr.invalid/r4?{query}", f"https://ehr.invalid/r4/Observation?{query}"):
        assert _BASE.admit(link, page_url=_PAGE) == link
        assert request_target(link).decode() == link.removeprefix("https://ehr.invalid")
    assert _BASE.admit(f"?{query}x", page_url=_PAGE) == f"https://ehr.invalid/r4/Observation?{query}x"


@pytest.mark.parametrize(
    ("link", "absolute"),
    [
        ("?page=2", "https://ehr.invalid/r4/Observation?page=2"),
        ("Observation?page=2", "https://ehr.invalid/r4/Observation?page=2"),
        ("/r4?page=2", "https://ehr.invalid/r4?page=2"),
        ("https://EHR.invalid:443/r4?page=2", "https://EHR.invalid:443/r4?page=2"),
        ("https://ehr.invalid/r4?page=2#top", "https://ehr.invalid/r4?page=2"),
    ],
)
def test_relative_links_stand_on_their_page(link: str, absolute: str) -> None:
    """Resolved as RFC 3986 says; our own server in another spelling is still our own."""
    assert _BASE.admit(link, page_url=_PAGE) == absolute


@pytest.mark.fault("F-33")
@pytest.mark.parametrize(
    "link",
    ["http://ehr.invalid/r4?p", "https://ehr.invalid:8443/r4?p", "https://ehr.invalid.evil/r4?p", "https://ehr.invalid/r4x?p",
     "https://ehr.invalid/r5?p", "/?p", "https://ehr.invalid/r4/%2e%2e/x", "https://ehr.invalid/r4/..%2fx/../..",
     "https://ehr.invalid@evil.invalid/r4", "https://evil.invalid\\@ehr.invalid/r4", "https://ehr.invalid/r4 ?p", "",
     "https://ehr.invalid/r4?p\r\nHost: x", "https://ehr.invalid/r4?\u00e9", "javascript:alert(1)", "https://[bad/r4",
     "https://ehr.invalid:x/r4"],
)  # fmt: skip
def test_everything_else_is_foreign(link: str) -> None:
    """Scheme, port, host, base path, user part, dot segments, line breaks: refused, and not repeated in words."""
    with pytest.raises(ForeignLink) as caught:
        _BASE.admit(link, page_url=_PAGE)
    assert "evil" not in str(caught.value)
