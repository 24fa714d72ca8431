"""When the hospital had each datum (design law 1): as its source reports it, or when it was true plus a delay."""

from __future__ import annotations

from datetime import datetime, timedelta
from enum import Enum
from zoneinfo import ZoneInfo

import msgspec

from adapter.domain.period import Period
from adapter.domain.record import RawResource
from adapter.fhir.corrections import Stamped
from adapter.fhir.elements import BadDate, DatePeriod, Meta, Stamp, period_of, span_of
from adapter.fhir.refused import Refused
from adapter.terminology import Terminology

_STAMP = msgspec.json.Decoder(Stamp)
_GROUPS = {
    "Observation": "clinical",
    "Procedure": "procedure",
    "Condition": "condition",
    "MedicationAdministration": "medication",
    "ImagingStudy": "imaging",
    "DiagnosticReport": "clinical",
}


class KnownTime(Enum):
    """Where the time the hospital had a datum comes from (design law 1)."""

    REPORTED = "reported"
    EFFECTIVE_PLUS_DELAY = "effective-plus-delay"


class Times:
    """How the times of resources are read at this site."""

    def __init__(self, terminology: Terminology, known_time: KnownTime, zone: ZoneInfo) -> None:
        """zone: for dates, which carry none."""
        self._terminology = terminology
        self._known_time = known_time
        self.zone = zone

    def stamped(self, resource: RawResource) -> Stamped:
        """The resource with its times, as far as they can be read."""
        try:
            stamp = _STAMP.decode(resource.content)
        except msgspec.MsgspecError:
            return Stamped(resource=resource, stamp=None, reported=None, known=None)
        reported = self._readable(stamp.issued or stamp.recorded_date or stamp.meta.last_updated)
        known = reported
        if self._known_time is KnownTime.EFFECTIVE_PLUS_DELAY:
            known = self._delayed(stamp, resource.version.resource_type)
        return Stamped(resource=resource, stamp=stamp, reported=reported, known=known)

    def _readable(self, text: str | None) -> datetime | None:
        try:
            return period_of(text, self.zone).latest if text else None
        except BadDate:
            return None

    def _delayed(self, stamp: Stamp, resource_type: str) -> datetime | None:
        """Effective time plus the delay of its kind."""
        moment = stamp.effective_date_time or stamp.effective_instant or stamp.performed_date_time
        span = stamp.effective_period or stamp.performed_period or stamp.onset_period
        try:
            when = self.when(moment or stamp.onset_date_time or stamp.started, span)
        except BadDate:
            return None
        features = (
            self._terminology.feature_of(coding.system or "", coding.code or "") for coding in stamp.code.coding
        )
        group = next((feature.group for feature in features if feature), _GROUPS[resource_type])
        return self._plus_delay(when, group) if when else None

    def when(self, moment: str | None, span: DatePeriod | None) -> Period | None:
        """When something was true, from a date or a span; None where the resource has neither. Raises BadDate."""
        if moment is not None:
            return period_of(moment, self.zone)
        return span_of(span, self.zone) if span is not None else None

    def known(self, reported: str | None, meta: Meta, effective: Period | None, group: str) -> datetime:
        """When the hospital had it: as reported, or effective time plus the table's delay."""
        if self._known_time is KnownTime.EFFECTIVE_PLUS_DELAY:
            if effective is None:
                raise Refused("no-effective-time")
            return self._plus_delay(effective, group)
        return self.reported(reported or meta.last_updated)

    def reported(self, text: str | None) -> datetime:
        """The last moment that a FHIR date or instant may mean. Raises Refused without one, BadDate for nonsense."""
        if text is None:
            raise Refused("no-known-time")
        return period_of(text, self.zone).latest

    def _plus_delay(self, when: Period, group: str) -> datetime:
        return when.latest + timedelta(days=self._terminology.delay_days[group])
