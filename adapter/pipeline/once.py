"""One patient, once, without the durable queue: what `assess` and a dry run do."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from functools import partial

from adapter.domain.outcome import Case, Settled
from adapter.engine.steps import RetryPolicy, attempt
from adapter.errors import AdjuvantError, Misconfigured, PeerTimeout, PeerUnavailable
from adapter.pipeline.assess import StepResult, conclude, deliver, gather, outcome_of, retrieve
from adapter.pipeline.case_file import CaseFile, unseal
from adapter.pipeline.ports import Ports

Step = Callable[[CaseFile, Ports], StepResult]
STEPS_TO_A_DECISION: Sequence[Step] = (conclude,)
STEPS_TO_DELIVERY: Sequence[Step] = (conclude, deliver)
_RETRIES = RetryPolicy(attempts=3, store_attempts=3)


def assess_once(
    case: Case, ports: Ports, at: datetime | None, steps: Sequence[Step], *, wait: Callable[[float], bool]
) -> tuple[StepResult | None, Settled | None]:
    """Gather, retrieve, then these steps; transient errors are tried again, what no retry mends is the outcome.

    at: the landmark to stand at, None for the newest. Returns the last result and how the case ended, None where the
    steps went through without an end. Raises PeerUnavailable, PeerTimeout and Misconfigured: nothing is known about
    the patient then.
    """
    walk: Sequence[Step] = (partial(retrieve, case), *steps)
    result: StepResult | None = None
    try:
        result = attempt(lambda: gather(case, ports, at), _RETRIES, wait=wait)
        for step in walk:
            case_file = unseal(ports.files.recall(result.case_file), CaseFile)
            result = attempt(partial(step, case_file, ports), _RETRIES, wait=wait)
            if result.settled is not None:
                break
    except (PeerUnavailable, PeerTimeout, Misconfigured):
        raise
    except AdjuvantError as error:
        return result, outcome_of(error)
    finally:
        if ports.archive is not None:
            ports.archive.abandon(case.patient_id)  # no try follows, and what had arrived is in plain
    return result, result.settled
