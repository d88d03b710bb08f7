"""Which messages a redrive sends, and to which function.

A message does not choose where its events go: they go to the one of the guard's own two functions
that wrote it. Only an operator can name another function. No event is sent, wherever to, that is
not about a table bucket.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Final, NamedTuple

from encryption_guard.arn import Scope
from encryption_guard.dead_letters.messages import UNKNOWN, Message, MessageSummary
from encryption_guard.events.envelopes import Event
from encryption_guard.settings import FunctionArn
from encryption_guard.untrusted import quoted

# The functions of template.yaml. Both process events of the audit trail.
CREATION_FUNCTION: Final = "oss-tables-encrypt-on-create"
SWEEP_FUNCTION: Final = "oss-tables-encryption-sweep"
OWN_FUNCTIONS: Final = frozenset({CREATION_FUNCTION, SWEEP_FUNCTION})
# A dead letter that a command wrote states the command. The sweep function accepts each region that
# it sweeps, the creation function only its own.
OF_COMMANDS: Final = {
    "encryption-guard enforce": CREATION_FUNCTION,
    "encryption-guard sweep": SWEEP_FUNCTION,
}

# The redrives after which a message is skipped, unless the operator allows more.
DEFAULT_MAX_REDRIVES = 3


class Obstacle(NamedTuple):
    """Why a message is not redriven; `is_final` if no option of the command changes that.

    A final obstacle means that the message contains no event of a table bucket to process.
    """

    reason: str
    is_final: bool = False


def obstacle_of(message: Message, *, max_redrives: int = DEFAULT_MAX_REDRIVES) -> Obstacle | None:
    """Return why the events of a message must not be processed again; None if they may be."""
    summary, named = message.summary, message.named
    total = len(message.events)
    if summary.is_sweep:
        reason = "a sweep failed, and the next sweep repeats its work: discard the message"
        return Obstacle(reason, is_final=True)
    if not named.acting or not total:
        why = summary.detail if not total or summary.kind == UNKNOWN else named.problem
        reason = f"the message contains no event of a table bucket to process: {why}"
        return Obstacle(reason, is_final=True)
    if named.acting < total:
        return Obstacle(
            f"only {named.acting} of the {total} events in the message are of a table bucket, so"
            f" none is processed: encrypt the buckets with `encryption-guard enforce <bucket ARN>"
            f" --apply`, then discard the message. {named.problem}"
        )
    if summary.redrives >= max_redrives:
        return Obstacle(
            f"the redrive count ({summary.redrives}) has reached the limit ({max_redrives}): fix"
            " the cause, then raise --max-redrives"
        )
    return None


def receiver_of(
    summary: MessageSummary, scope: Scope | None, own: Collection[str] = OWN_FUNCTIONS
) -> FunctionArn | Obstacle:
    """Return the guard's function that wrote a message, as a bare name or an ARN.

    The creation function receives what EventBridge could not deliver to it. `scope` is that of the
    queue, and `own` has the names of the guard's functions.
    """
    stated = CREATION_FUNCTION if summary.kind == "cloud_event" else summary.function or ""
    try:
        function = FunctionArn.parse(OF_COMMANDS.get(stated, stated))
    except ValueError:
        return Obstacle("the message names no valid function: pass --function")
    is_here = function.region is None or Scope(function.account_id, function.region) == scope
    if is_here and not function.service and function.name in own:
        return function
    return Obstacle(
        f"the message names {quoted(str(function))}, which is not one of the guard's functions"
        f" {CREATION_FUNCTION} and {SWEEP_FUNCTION}{_in(scope)}: if it is correct, pass it with"
        " --function"
    )


def _in(scope: Scope | None) -> str:
    return f" in region {scope.region} of account {scope.account_id}" if scope else ""


def is_redrivable(
    message: Message,
    scope: Scope | None,
    own: Collection[str],
    acts_on: Callable[[Event], bool],
) -> bool:
    """Return whether a redrive of a message, without any further option, would have an effect.

    `acts_on` returns whether the guard acts on an event, and does not refuse its account or region.
    """
    if obstacle_of(message) or not all(acts_on(event) for event in message.events):
        return False
    receiver = receiver_of(message.summary, scope, own)
    if not isinstance(receiver, FunctionArn):
        return False
    # The creation function accepts only the buckets of its own region.
    is_local = not scope or all(arn.region == scope.region for arn in message.named.arns)
    return is_local or receiver.name != CREATION_FUNCTION
