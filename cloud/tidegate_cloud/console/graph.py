"""GraphQL for programs, `/api/v1/graphql`: alerts and devices as queries, what changes as subscriptions.

Subscriptions speak graphql-transport-ws over a WebSocket and hang on the same hub as the stream, with its promises: who
gives `from` goes on exactly after it, who is too slow is told to reload, and none holds up another.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from typing import Annotated, Any, NewType

import msgspec
import strawberry
from litestar.handlers import HTTPRouteHandler
from strawberry.extensions import MaxAliasesLimiter, MaxTokensLimiter, QueryDepthLimiter
from strawberry.litestar import make_graphql_controller
from strawberry.scalars import JSON
from strawberry.schema.config import StrawberryConfig
from strawberry.subscriptions import GRAPHQL_TRANSPORT_WS_PROTOCOL
from tidegate_protocols import alerts as records
from tidegate_protocols.errors import BadInput

from . import tokens
from .hub import Full
from .listing import Filter
from .service import ConsoleService
from .sinks import QueueSink
from .wire import Event, as_events

Micros = NewType("Micros", int)
_MICROS = strawberry.scalar(
    name="Micros", description="Microseconds since 1970 UTC, a JSON number", serialize=int, parse_value=int
)
_PAGE_MAX = 1000


@strawberry.type(description="A condition that a person must know of, as it stands")
class Alert:
    id: strawberry.ID
    device: str
    rule: str
    subject: str
    state: str
    severity: str
    kind: str
    title: str
    started_us: Micros
    opened_us: Micros
    changed_us: Micros
    ended_us: Micros | None
    version: int
    events: int
    value: float | None
    limit: float | None
    unit: str
    lat: float | None
    lon: float | None
    who: str
    why: str
    snoozed_until_us: Micros | None


_ALERT_FIELDS = tuple(Alert.__annotations__)


@strawberry.type(description="Some alerts, the last changed first; `next` goes on after them, empty at the end")
class AlertPage:
    alerts: list[Alert]
    next: str
    total: int


@strawberry.type(description="A device as it was last heard; `readings` by channel: {value, unit}")
class Device:
    id: strawberry.ID
    name: str
    group: str
    type: str
    lat: float | None
    lon: float | None
    speed: float | None
    heading: float | None
    ts_us: Micros | None
    heard_us: Micros | None
    readings: JSON


_DEVICE_FIELDS = tuple(Device.__annotations__)


@strawberry.type(description="An alert has changed. `resume` is what `from` takes")
class AlertChanged:
    resume: str
    alert: Alert


@strawberry.type(description="An alert, resolved long ago, is no longer kept")
class AlertRemoved:
    resume: str
    id: strawberry.ID


@strawberry.type(description="A command changed nothing")
class CommandRefused:
    resume: str
    alert: strawberry.ID
    command: str
    who: str
    why: str


@strawberry.type(description="You took so long for what you were sent")
class Behind:
    behind_ms: int
    interval_ms: int


@strawberry.type(description="What was missed is no longer known: ask for everything again. The subscription ends")
class Reload:
    reason: str


AlertEvent = Annotated[
    AlertChanged | AlertRemoved | CommandRefused | Behind | Reload, strawberry.union(name="AlertEvent")
]


@strawberry.type(description="How far behind what is shown is")
class Health:
    server_us: Micros
    behind_ms: int
    kafka: str
    devices: int
    readings_per_s: float


Info = strawberry.Info[dict[str, Any], None]


def _console(info: Info) -> ConsoleService:
    found: ConsoleService = info.context["console"]
    return found


@strawberry.type
class Query:
    @strawberry.field(description="Alerts in pages")
    def alerts(
        self,
        info: Info,
        state: list[str] | None = None,
        severity: list[str] | None = None,
        device: str = "",
        text: str = "",
        first: int = 100,
        after: str = "",
    ) -> AlertPage:
        if not 1 <= first <= _PAGE_MAX:
            raise BadInput(f"{first} is not 1 to {_PAGE_MAX}", where="first")
        wanted = Filter(frozenset(state or ()), frozenset(severity or ()), device, text=text[:200])
        page = _console(info).picture.alerts.page(wanted, first, after[:100])
        return AlertPage(alerts=[_alert(each) for each in page.alerts], next=page.next, total=page.total)

    @strawberry.field(description="One alert, null where there is none")
    def alert(self, info: Info, id: strawberry.ID) -> Alert | None:
        found = _console(info).picture.alerts.get(str(id))
        return None if found is None else _alert(found)

    @strawberry.field(description="One device, null where it was never heard of")
    def device(self, info: Info, id: strawberry.ID) -> Device | None:
        found = _console(info).picture.device(str(id))
        return None if found is None else _device(msgspec.json.decode(found))

    @strawberry.field(description="Every device")
    def devices(self, info: Info) -> list[Device]:
        return [_device(each) for each in msgspec.json.decode(_console(info).picture.devices())]

    @strawberry.field
    def health(self, info: Info) -> Health:
        return _health(msgspec.to_builtins(_console(info).health()))

    @strawberry.field(description="Where a subscription that begins now goes on: its `from`")
    def resume(self, info: Info) -> str:
        console = _console(info)
        return console.picture.token(console.clock.now_us() // 1_000_000)


@strawberry.type
class Subscription:
    @strawberry.subscription(description="Every change of every alert, in order, none left out")
    async def alerts(
        self,
        info: Info,
        resume: Annotated[str, strawberry.argument(name="from", description="Go on after this")] = "",
        device: str = "",
    ) -> AsyncGenerator[AlertEvent, None]:
        async for event in _follow(info, resume):
            made = _alert_event(event, device)
            if made is not None:
                yield made

    @strawberry.subscription(description="Devices that changed, the newest of each, at most 4 times a second")
    async def devices(self, info: Info, ids: list[strawberry.ID] | None = None) -> AsyncGenerator[list[Device], None]:
        wanted = None if ids is None else {str(each) for each in ids}
        async for event in _follow(info, ""):
            if event.kind == "positions":
                found = [
                    _device(each) for each in msgspec.json.decode(event.data) if wanted is None or each["id"] in wanted
                ]
                if found:
                    yield found

    @strawberry.subscription(description="Every second")
    async def health(self, info: Info) -> AsyncGenerator[Health, None]:
        async for event in _follow(info, ""):
            if event.kind == "health":
                yield _health(msgspec.json.decode(event.data))


async def _follow(info: Info, resume: str) -> AsyncGenerator[Event, None]:
    """The hub's events for one subscriber, until it ends."""
    token = tokens.parse(resume) if resume else None
    console, sink = _console(info), QueueSink(as_events, asyncio.current_task())
    hub, good = console.hub, console.while_good(info.context["socket"].scope)
    try:
        client = hub.join(token, sink, good)
    except Full:
        raise BadInput("there are too many readers of the stream") from None
    try:
        while True:
            events: Sequence[Event] | None = await sink.take()
            if events is None:
                return
            for event in events:
                yield event
    finally:
        hub.leave(client)


def _alert_event(event: Event, device: str) -> AlertChanged | AlertRemoved | CommandRefused | Behind | Reload | None:
    data: Any = msgspec.json.decode(event.data) if event.kind in _TOLD else None
    match event.kind:
        case "alert" if not device or data["device"] == device:
            return AlertChanged(resume=event.id, alert=_alert(msgspec.convert(data, records.Alert)))
        case "alert-removed":
            return AlertRemoved(resume=event.id, id=strawberry.ID(data["id"]))
        case "refused":
            return CommandRefused(
                resume=event.id, alert=strawberry.ID(data["alert"]), command=data["command"], who=data["who"],
                why=data["why"],
            )  # fmt: skip
        case "behind":
            return Behind(behind_ms=data["behind_ms"], interval_ms=data["interval_ms"])
        case "reload":
            return Reload(reason=data["reason"])
    return None


_TOLD = frozenset({"alert", "alert-removed", "refused", "behind", "reload"})


def _alert(alert: records.Alert) -> Alert:
    return Alert(**{name: getattr(alert, name) for name in _ALERT_FIELDS})


def _device(view: dict[str, Any]) -> Device:
    return Device(**{name: view[name] for name in _DEVICE_FIELDS})


def _health(health: dict[str, Any]) -> Health:
    return Health(**{name: health[name] for name in Health.__annotations__})


def controller(console: ConsoleService) -> type[HTTPRouteHandler] | Any:
    """The route handlers of `/graphql`."""
    schema = strawberry.Schema(
        Query,
        subscription=Subscription,
        config=StrawberryConfig(scalar_map={Micros: _MICROS}),
        extensions=[lambda: QueryDepthLimiter(6), lambda: MaxTokensLimiter(2000), lambda: MaxAliasesLimiter(20)],
    )

    async def context() -> dict[str, Any]:
        return {"console": console}

    made = make_graphql_controller(
        schema, "/graphql", graphql_ide=None, allow_queries_via_get=False, context_getter=context,
        subscription_protocols=(GRAPHQL_TRANSPORT_WS_PROTOCOL,),
    )  # fmt: skip
    return type("GraphQL", (made,), {"opt": {"needs": "read"}, "include_in_schema": False})
