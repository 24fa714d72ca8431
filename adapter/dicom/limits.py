"""How much time, memory and disk one archive is given."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Every cap of the DICOM room in one place; seconds, bytes and counts.

    connect_seconds, association_seconds: TCP connection, and A-ASSOCIATE or A-RELEASE (the ARTIM timer of PS3.8
    section 9.1.5). answer_seconds: one C-ECHO or C-FIND response. move_silence_seconds: between two C-MOVE responses;
    long, because an archive need not send pending ones. network_silence_seconds: nothing at all on a connection to
    our Storage SCP, also inside one PDU.
    quiet_seconds: no byte for so long after a C-MOVE has ended means that nothing more will come.
    series_seconds: everything about one series, the wait for another series included. rounds: C-MOVE of the series,
    of lists of images, of single images. images_per_list: UIDs in one IMAGE-level C-MOVE.
    pdu_bytes: what we let a peer send at once. instance_bytes: one C-STORE. most_matches: of one C-FIND.
    connections: TCP connections to our Storage SCP at a time. free_bytes: with less on the disk no series is asked for;
    a quarter of it stays free of images, for the database and what is sealed.
    """

    connect_seconds: float = 5.0
    association_seconds: float = 15.0
    answer_seconds: float = 30.0
    move_silence_seconds: float = 300.0
    network_silence_seconds: float = 60.0
    quiet_seconds: float = 5.0
    series_seconds: float = 1800.0
    rounds: int = 3
    images_per_list: int = 64
    pdu_bytes: int = 131_072
    instance_bytes: int = 1 << 30
    most_matches: int = 100_000
    connections: int = 16
    free_bytes: int = 1 << 30

    def shortage(self, folder: Path) -> str | None:
        """What is said while the disk of this folder is too full to ask for images; None while it is not."""
        free = shutil.disk_usage(folder).free
        return None if free >= self.free_bytes else f"{free >> 20} MiB free, {self.free_bytes >> 20} MiB needed"

    def admits(self, size: int, folder: Path) -> bool:
        """Whether an image of so many bytes may be written there."""
        return shutil.disk_usage(folder).free - size >= self.free_bytes // 4
