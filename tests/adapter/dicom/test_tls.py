"""DICOM over TLS: both sides prove who they are, or nothing is exchanged."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from pathlib import Path

import pytest

from adapter.dicom.ae import Archive, associated
from adapter.dicom.inbox import Inbox
from adapter.dicom.limits import Limits
from adapter.dicom.quiet import quiet_libraries
from adapter.dicom.storage_scp import Listener, StorageScp
from adapter.dicom.tls import TlsFiles, client_context, server_context
from adapter.domain.ids import AETitle
from adapter.errors import BadSettings, PeerUnavailable
from tests.fakes.certificates import issue

VERIFICATION = "1.2.840.10008.1.1"
LIMITS = Limits(connect_seconds=2, association_seconds=2, answer_seconds=2)


def _old_protocol(files: TlsFiles) -> ssl.SSLContext:
    context = client_context(files)
    with pytest.warns(DeprecationWarning, match="TLSv1"):
        context.minimum_version = ssl.TLSVersion.TLSv1
    with pytest.warns(DeprecationWarning, match="TLSv1"):
        context.maximum_version = ssl.TLSVersion.TLSv1_1
    return context


def _without_certificate(files: TlsFiles) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(files.authorities))


def _of_a_stranger(files: TlsFiles) -> ssl.SSLContext:
    own = issue(files.key.parent, "stranger")
    return client_context(TlsFiles(own.certificate, own.key, files.authorities))


def _plain(files: TlsFiles) -> None:
    return None


@pytest.mark.fault("F-05")
@pytest.mark.parametrize("caller", [_old_protocol, _without_certificate, _of_a_stranger, _plain])
def test_only_a_peer_with_our_authoritys_certificate_is_served(
    tmp_path: Path, caller: Callable[[TlsFiles], ssl.SSLContext | None]
) -> None:
    """Plain TCP, old TLS, no certificate and a stranger's are refused; the right peer is served before and after."""
    quiet_libraries()
    files = issue(tmp_path, "hospital")
    listener = Listener(
        ae_title=AETitle("ADJUVANT"), bind="127.0.0.1", port=0, callers=(AETitle("PEER"),), tls=server_context(files)
    )
    with StorageScp(listener, Inbox(tmp_path / "series", LIMITS), LIMITS) as scp:

        def call(context: ssl.SSLContext | None) -> None:
            peer = Archive(
                host="127.0.0.1",
                port=scp.port,
                ae_title=AETitle("ADJUVANT"),
                calling_ae_title=AETitle("PEER"),
                limits=LIMITS,
                tls=context,
            )
            with associated(peer, VERIFICATION, answer_seconds=2) as association:
                assert association.send_c_echo().Status == 0

        call(client_context(files))
        with pytest.raises(PeerUnavailable):
            call(caller(files))
        call(client_context(files))


def test_files_that_cannot_be_used_are_named(tmp_path: Path) -> None:
    """A missing or foreign key is BadSettings at the start."""
    files = issue(tmp_path, "hospital")
    files.key.write_text("not a key")
    with pytest.raises(BadSettings, match="TLS files"):
        server_context(files)
