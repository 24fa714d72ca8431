"""DICOM over TLS: both sides show a certificate, version 1.2 or newer, no downgrade."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from pathlib import Path

from adapter.errors import BadSettings

# PS3.15 annex B.12, BCP 195 (RFC 9325) non-downgrading profile: forward secrecy and authenticated encryption only
_CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20:DHE+AESGCM"


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """PEM files: our certificate (chain), its key, and the authorities that sign our peers."""

    certificate: Path
    key: Path
    authorities: Path


def client_context(files: TlsFiles) -> ssl.SSLContext:
    """For calling the archive: its certificate and host name are verified. Raises BadSettings."""
    return _context(files, ssl.PROTOCOL_TLS_CLIENT)


def server_context(files: TlsFiles) -> ssl.SSLContext:
    """For our Storage SCP: a peer without a certificate of our authorities is refused. Raises BadSettings."""
    return _context(files, ssl.PROTOCOL_TLS_SERVER)


def _context(files: TlsFiles, protocol: ssl._SSLMethod) -> ssl.SSLContext:
    context = ssl.SSLContext(protocol)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.verify_mode = ssl.CERT_REQUIRED
    context.set_ciphers(_CIPHERS)
    try:
        context.load_cert_chain(files.certificate, files.key)
        context.load_verify_locations(files.authorities)
    except OSError as error:  # ssl.SSLError is one
        raise BadSettings(f"DICOM TLS files cannot be used: {type(error).__name__}") from error
    return context
