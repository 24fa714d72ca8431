"""Every error that leaves a room of adjuvant, as one tree whose branches say who acts.

    AdjuvantError
    ├── Transient            the worker tries again: the other side may recover
    │   ├── PeerUnavailable      cannot connect, connection lost, 5xx, 429
    │   │   └── PeerDown             left alone after many failures: nothing was tried
    │   ├── PeerTimeout          connected, but no answer in time
    │   ├── SearchExpired        a page link was gone twice: the search starts over with the next attempt
    │   ├── UnknownOutcome       a write was sent and its reply was lost
    │   ├── VersionConflict      somebody else wrote the resource first
    │   ├── SeriesIncomplete     the archive owes images; when the attempts are over the case abstains
    │   ├── StoreUnavailable     our own disk is full or cannot be written now
    │   │   └── StoreUnreachable     PostgreSQL cannot be reached now
    │   ├── ProcessUnavailable   this machine does not bring a process of ours to work now
    │   └── Overtaken            another of our processes went on with the same work: leave it to that one
    ├── BadData              a data steward looks: the case is settled with this reason
    │   ├── BadIdentifier        an id, UID or AE title outside its standard's grammar
    │   ├── MalformedResource    not the JSON or the resource it claims to be
    │   ├── PullIncomplete       pages cannot be counted to the end
    │   ├── ForeignLink          a link that leaves the configured server
    │   ├── WrongPatient         data of another patient came back
    │   ├── AmbiguousPatient     merged, duplicated or conflicting identities
    │   │   └── NoSuchPatient        not on the server, or deleted
    │   ├── ConflictingInstance  one SOP Instance UID, two contents
    │   ├── NoGeometry           a series that is not one regular volume
    │   ├── Unreadable           a file or pixel stream that cannot be decoded
    │   ├── TooLarge             over a declared cap, refused before it is allocated
    │   ├── UnusableInput        a model input outside its contract
    │   ├── InvalidForecast      a model output that is not a probability curve
    │   ├── WriteRefused         the server refused what we wrote
    │   └── UnknownCase          no case or assessment of that id here, or its case file is gone
    ├── Misconfigured        the site's administrator acts: refuse to start, or stop
    │   ├── BadSettings          a key, a value or a file of the configuration
    │   ├── BadMapping           a row of a mapping table
    │   ├── BadBundle            a model bundle that is not what its manifest says
    │   ├── AccessRefused        401, 403, an unknown AE title
    │   ├── UnsupportedPeer      a server that cannot do what the work needs
    │   └── BadStore             a database or vault that is not ours or not whole
    │       ├── NoStore          no database here yet: the first start makes it
    │       ├── OldStore         tables of an older adjuvant: the next start upgrades them
    │       ├── StoreInUse       another process holds it
    │       └── CaseFileGone         not in the vault: it expired, or its patient was forgotten
    └── Defect               the makers act: the case waits as a dead letter
        └── StepCrashed          a step ended its process, hung or ran out of memory three times

Messages carry ids and codes, never names, dates of birth or values. `inference` knows nothing of us and has errors of
its own, which are translated where it is called.
"""

from __future__ import annotations

import re
import traceback
from pathlib import Path


class AdjuvantError(Exception):
    """The root: catching it catches what adjuvant itself refuses, and nothing else."""


class Transient(AdjuvantError):
    """The worker tries again: the other side may recover."""

    def __init__(self, message: str, *, retry_after_seconds: float | None = None) -> None:
        """retry_after_seconds: what the peer asked for, already capped; None when it did not say."""
        super().__init__(message)
        self.retry_after_seconds = retry_after_seconds


class PeerUnavailable(Transient):
    """The peer cannot be reached or says it cannot serve now."""


class PeerDown(PeerUnavailable):
    """The peer failed so often that it is left alone now; nothing was sent, so waiting is no attempt."""


class PeerTimeout(Transient):
    """The peer was reached but did not answer in time."""


class SearchExpired(Transient):
    """The server dropped the snapshot behind a page link, also after one restart."""


class UnknownOutcome(Transient):
    """A write was sent and its reply was lost: look it up before sending again."""


class VersionConflict(Transient):
    """The resource changed between our read and our write (409 or 412)."""


class SeriesIncomplete(Transient):
    """Images that C-FIND lists did not arrive; `missing` of `expected` are still owed.

    Tried again like every transient error; when the attempts are over the case abstains: nobody here can mend it.
    """

    def __init__(self, message: str, *, expected: int, missing: int) -> None:
        """expected, missing: counts of SOP Instance UIDs."""
        super().__init__(message)
        self.expected = expected
        self.missing = missing


class StoreUnavailable(Transient):
    """Our own disk is full or cannot be written now; nothing half written is left."""


class StoreUnreachable(StoreUnavailable):
    """PostgreSQL cannot be reached now: its port, its host, or it is not up yet."""


UNREACHABLE_PEER = (PeerUnavailable, PeerTimeout, StoreUnreachable)
"""What a command ends on with exit code 3: nobody is there, and it may be tried later as it stands."""


class ProcessUnavailable(Transient):
    """A process of ours cannot be started, or ended before it was ready for the first question: nothing was asked."""


class Overtaken(Transient):
    """Another of our processes went on with the same work; nothing was written, and it is left to that one."""


class BadData(AdjuvantError):
    """A data steward looks: the case is settled with this reason and the rest goes on."""


class BadIdentifier(BadData):
    """An id, UID or AE title outside its standard's grammar."""


class MalformedResource(BadData):
    """Not the JSON, or not the resource, it claims to be."""


class PullIncomplete(BadData):
    """A search that cannot be read to its end; says what was counted."""


class ForeignLink(BadData):
    """A link that leaves the configured server; refused before connecting."""


class WrongPatient(BadData):
    """Data of another patient came back; nothing of it is used."""


class AmbiguousPatient(BadData):
    """Merged, duplicated or conflicting identities that no rule resolves."""


class NoSuchPatient(AmbiguousPatient):
    """The server does not have the patient, or no longer: also the end of a chain of merges that leads nowhere."""


class ConflictingInstance(BadData):
    """One SOP Instance UID with two different contents; the first is kept."""


class NoGeometry(BadData):
    """A series that is not one regular volume: names what is missing or irregular."""


class Unreadable(BadData):
    """A file or pixel stream that cannot be decoded."""


class TooLarge(BadData):
    """Over a declared cap; refused before anything of that size is allocated."""


class UnusableInput(BadData):
    """A model input outside its contract."""


class InvalidForecast(BadData):
    """A model output that is not finite, not in [0, 1], or falls with the horizon."""


class WriteRefused(BadData):
    """The server refused what we wrote; carries its issue codes, never its diagnostics."""


class UnknownCase(BadData):
    """No case or assessment of that id in this store, or its case file has expired."""


class Misconfigured(AdjuvantError):
    """The site's administrator acts: refuse to start, or stop."""


class BadSettings(Misconfigured):
    """A key, a value or a file of the configuration; the message names it."""


class BadMapping(Misconfigured):
    """A row of a mapping table; the message names table and row."""


class BadBundle(Misconfigured):
    """A model bundle that is not what its manifest says."""


class AccessRefused(Misconfigured):
    """401, 403, or an association refused for our AE title."""


class UnsupportedPeer(Misconfigured):
    """A server that cannot do what the work needs; names the missing interaction."""


class BadStore(Misconfigured):
    """A database or vault that is not ours, not whole, or held by another service."""


class NoStore(BadStore):
    """No database here yet, or one without our tables: the first start makes them, a look does not."""


class OldStore(BadStore):
    """The tables of an older adjuvant: the next start upgrades them, a look does not."""


class StoreInUse(BadStore):
    """Another process holds it: a service, or a command that needs it alone."""


class CaseFileGone(BadStore):
    """A case file that is not in the vault: it expired, or its patient was forgotten. One that is damaged is there."""


class Defect(AdjuvantError):
    """The makers act: the case waits as a dead letter until somebody has looked."""


class StepCrashed(Defect):
    """A step ended its process, hung, or ran out of memory, three times in a row; says how the last one ended."""


def reason_of(error: AdjuvantError) -> str:
    """The error's name as a stable code, `invalid-forecast`."""
    return re.sub(r"(?<!^)(?=[A-Z])", "-", type(error).__name__).lower()


def place_of(error: Exception) -> str:
    """The class of a foreign error and `file:line` where it was raised; never its message, which may hold anything."""
    frames = traceback.extract_tb(error.__traceback__)
    place = f" at {Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else ""
    return f"{type(error).__name__}{place}"
