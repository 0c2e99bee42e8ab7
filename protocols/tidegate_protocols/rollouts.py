"""Layers of configuration, and rollouts: how a change of one reaches the agents, in waves.

registry.configs          `Layer`, key = layer id
fleet.rollout-commands    `RolloutCommand`, key = rollout id, or the command's own for a push
fleet.rollouts            `Rollout` as it stands, key = rollout id; who belongs to it, key = ``ID/members/N``; JSON,
                          since it is one part's own state
fleet.rollout-log         `RolloutStep`, key = rollout id
"""

from __future__ import annotations

import re
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from .avro import AvroCodec
from .errors import BadInput
from .ids import check_device_id
from .ota import Place

Action = Literal["push", "approve", "pause", "resume", "abort", "rollback", "retry"]
RolloutState = Literal[
    "running", "waiting", "paused", "stopped", "rolling-back", "rolled-back", "aborted", "done"
]  # fmt: skip
# Nothing more will happen to its agents through these.
OVER: frozenset[str] = frozenset(("rolled-back", "done"))

_LAYER = re.compile(r"base|(group|agent)/[^/\x00-\x1f]{1,64}")
Share = Annotated[float, Meta(ge=0, le=1)]
Seconds = Annotated[float, Meta(ge=0, le=366 * 86_400)]


class FileRef(msgspec.Struct, frozen=True):
    """A file on device.files: SHA-256 in hex, length in bytes."""

    sha256: str
    length: int


class Layer(msgspec.Struct, frozen=True, kw_only=True):
    """See ``schemas/Layer.avsc``."""

    id: str
    version: int = 1
    content: str
    rollout: str = ""
    files: dict[str, FileRef] = {}


class RolloutCommand(msgspec.Struct, frozen=True, kw_only=True):
    """See ``schemas/RolloutCommand.avsc``."""

    id: str
    rollout: str = ""
    action: str
    who: str
    why: str = ""
    seen_version: int | None = None
    body: str = ""


class RolloutStep(msgspec.Struct, frozen=True, kw_only=True):
    """See ``schemas/RolloutStep.avsc``."""

    rollout: str
    version: int
    action: str
    from_state: str
    to_state: str
    ts_us: int
    who: str
    why: str
    cause: str = ""
    agents: int = 0


class Window(msgspec.Struct, frozen=True):
    """When agents may be told: `days` 0 (Monday) to 6, from `start` to `end` (HH:MM, `end` may be past midnight)."""

    days: list[Annotated[int, Meta(ge=0, le=6)]]
    start: Annotated[str, Meta(pattern=r"^([01]\d|2[0-3]):[0-5]\d$")]
    end: Annotated[str, Meta(pattern=r"^([01]\d|2[0-3]):[0-5]\d$")]
    zone: str = "UTC"


class Gate(msgspec.Struct, frozen=True):
    """What must hold before the next wave.

    success        of the agents that answered, at least this share runs it and is well
    hold_s         for so long after the last answer
    answers        at least so many agents of the wave run it
    alerts_ratio   new alerts per agent at most this many times what they were in `before_s`; None: not asked
    """

    success: Share = 0.95
    hold_s: Seconds = 60.0
    answers: Annotated[int, Meta(ge=0)] = 1
    alerts_ratio: Annotated[float, Meta(gt=0)] | None = 2.0
    before_s: Annotated[float, Meta(ge=60)] = 86_400.0


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """What a push asks for.

    places      where the contents of `files` are on device.files, by SHA-256
    waves       sizes, the canary first: a count ("5") or a share of all ("1%"); the last one takes what is left. A
                wave that ends in "!" waits for a person before it begins
    timeout_s   an agent that was there when it was told and says nothing for so long has failed
    heard_s     an agent that was last heard longer ago than this is away: it is told, and not waited for
    pace        at most so many agents are told per minute; 0: all at once
    on_failure  what happens by itself when a gate fails
    """

    layer: str
    content: str
    title: str = ""
    files: dict[str, FileRef] = {}
    places: dict[str, list[Place]] = {}
    waves: Annotated[list[str], Meta(min_length=1, max_length=20)] = msgspec.field(
        default_factory=lambda: ["1%", "10%", "50%", "100%"]
    )
    gate: Gate = Gate()
    timeout_s: Annotated[float, Meta(ge=1)] = 900.0
    heard_s: Annotated[float, Meta(ge=1)] = 900.0
    pace: Annotated[int, Meta(ge=0)] = 0
    windows: list[Window] = []
    on_failure: Literal["rollback", "stop"] = "rollback"


class Wave(msgspec.Struct, frozen=True):
    """Part of a rollout: how many agents are in it, and whether a person must let it begin."""

    name: str
    size: int
    manual: bool = False


class Rollout(msgspec.Struct, kw_only=True):
    """A rollout as it stands. Times in microseconds since 1970 UTC.

    before, before_files  what the layer was, which a roll-back brings again; `had` False: there was no such layer
    wave                  the one under way, from 0; `let` is the last one that a person let begin
    since_us              when `wave` began; `good_us` since when its gate holds, None while it does not
    reason                why it stands as it does, in words
    resumes               what a paused one goes back to
    members               how many records of members there are
    """

    id: str
    version: int
    order: Order
    who: str
    why: str
    state: RolloutState
    created_us: int
    changed_us: int
    waves: list[Wave]
    had: bool = False
    before: str = ""
    before_files: dict[str, FileRef] = {}
    wave: int = 0
    let: int = 0
    since_us: int = 0
    good_us: int | None = None
    reason: str = ""
    resumes: RolloutState | None = None
    members: int = 0
    cause: str = ""


class Progress(msgspec.Struct, frozen=True):
    """How far fleet.rollout-commands was worked off: key ``commands`` on fleet.rollouts. `done`: the newest ids."""

    offset: int
    done: list[str] = []


class Members(msgspec.Struct, frozen=True):
    """Agents of a rollout with the wave that each is in, from 0."""

    waves: dict[str, int]


LAYER = AvroCodec("Layer", Layer)
ROLLOUT_COMMAND = AvroCodec("RolloutCommand", RolloutCommand)
ROLLOUT_STEP = AvroCodec("RolloutStep", RolloutStep)


def check_layer_id(text: str) -> str:
    """Return `text` if it names a layer. Raises BadInput."""
    if _LAYER.fullmatch(text) is None:
        raise BadInput(f"{text[:80]!r} is not a layer", hint="base, group/NAME or agent/NAME")
    if text.startswith("agent/"):
        check_device_id(text.removeprefix("agent/"))
    return text


def order_of(body: str) -> Order:
    """The order in a push. Raises BadInput naming the field."""
    try:
        order = msgspec.json.decode(body, type=Order)
    except msgspec.MsgspecError as error:
        raise BadInput(str(error), where="order") from None
    check_layer_id(order.layer)
    return order
