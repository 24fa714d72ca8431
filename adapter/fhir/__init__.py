"""FHIR R4 over HTTP: searchsets in, one transaction out. `client` is the only door to the wire."""
