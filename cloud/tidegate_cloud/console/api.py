"""The HTTP interface under ``/api/v1`` (docs/api.md): what the pages use, and any program may."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any, Literal

import msgspec
from litestar import Request, Response, get, post
from litestar.exceptions import HTTPException, NotFoundException
from litestar.openapi.datastructures import ResponseSpec
from litestar.params import FromPath, FromQuery, JSONBody, QueryParameter
from tidegate_protocols.alerts import Alert, AlertState, Command, Group, Notification, Severity
from tidegate_protocols.errors import BadInput
from tidegate_protocols.events import Event

from .commands import NotRecorded
from .history import HOUR_US, decimate
from .listing import Filter
from .past import Unanswered
from .pipeline import PipelineView
from .security.gate import NOBODY, identity
from .service import Console, ConsoleService
from .views import (
    Accepted,
    AlertDetail,
    AlertPage,
    ChannelView,
    CommandBody,
    DeviceView,
    Health,
    Problem,
    SeriesView,
    Snapshot,
    Status,
    Time,
    encode,
)

_JSON = "application/json"
NoticeState = Literal["sending", "sent", "retrying", "held", "failed", "overtaken", "too-old"]
READ = {"needs": "read"}
_RESOLVED_SHOWN = 500
_NEARLY_US = 60_000_000
_UNRESOLVED_SHOWN = 2_000
_PROBLEMS = {
    404: ResponseSpec(Problem, description="There is no such thing"),
    409: ResponseSpec(Problem, description="It is over already"),
    422: ResponseSpec(Problem, description="Something in the request is not as it must be"),
    503: ResponseSpec(Problem, description="Kafka does not answer"),
}


def _json(body: bytes) -> Response[bytes]:
    return Response(body, media_type=_JSON, headers={"cache-control": "no-store"})


@get("/snapshot", opt=READ, responses={200: ResponseSpec(Snapshot)}, sync_to_thread=False)
def snapshot(console: Console) -> Response[bytes]:
    """Everything that a page needs to begin, and where the stream goes on.

    Of the alerts that are not resolved the last 2,000 that changed are here, of the resolved ones the last 500;
    `alerts_complete` says whether the former are all. `/alerts` has every one.
    """
    picture, now_us = console.picture, console.clock.now_us()
    unresolved = picture.alerts.page(Filter(states=frozenset({"open", "acknowledged", "snoozed"})), _UNRESOLVED_SHOWN)
    resolved = picture.alerts.page(Filter(states=frozenset({"resolved"})), _RESOLVED_SHOWN)
    return _json(
        encode(
            {
                "server_us": now_us,
                "resume": picture.token(now_us // 1_000_000),
                "devices": msgspec.Raw(picture.devices()),
                "alerts": unresolved.alerts + resolved.alerts,
                "alert_counts": picture.alerts.counts(),
                "alerts_complete": not unresolved.next,
                "fences": msgspec.Raw(picture.fences),
                "rules": picture.rules,
                "groups": msgspec.Raw(picture.groups),
                "rollouts": msgspec.Raw(picture.rollouts),
                "health": console.health(),
            }
        )
    )


@get("/devices", opt=READ, responses={200: ResponseSpec(list[DeviceView])}, sync_to_thread=False)
def devices(console: Console) -> Response[bytes]:
    """Every device as it was last heard."""
    return _json(console.picture.devices())


@get(
    "/devices/{device:str}",
    opt=READ,
    responses={200: ResponseSpec(DeviceView), 404: _PROBLEMS[404]},
    sync_to_thread=False,
)
def device_by_id(console: Console, device: FromPath[str]) -> Response[bytes]:
    """One device as it was last heard."""
    found = console.picture.device(device)
    if found is None:
        raise NotFoundException(f"no device {device!r} has been heard of")
    return _json(found)


@get("/devices/{device:str}/series", opt=READ, responses={404: _PROBLEMS[404], 422: _PROBLEMS[422]})
async def series(
    console: Console,
    device: FromPath[str],
    channel: FromQuery[str],
    from_us: FromQuery[Time | None] = None,
    to_us: FromQuery[Time | None] = None,
    max_points: Annotated[int, QueryParameter(ge=10, le=20_000)] = 2_000,
) -> SeriesView:
    """A channel over time: from memory as far as that reaches (`since_us`), else from the history service.

    From memory, it is thinned to the least and the greatest value of each stretch where there are more than
    `max_points`; values are null where a scan had none. From history, `values` are means of stretches of `resolution_s`
    seconds with `low` and `high`, or every reading where it is 0. `missing` says why history could not be asked.
    """
    now_us = console.clock.now_us()
    begin = now_us - HOUR_US if from_us is None else from_us
    end = now_us + HOUR_US if to_us is None else to_us
    found = await asyncio.to_thread(console.history.series, device, channel, begin, end)
    missing = ""
    # What a device stamped within the hour came within the hour; of what is older, memory has only what came late.
    reach_us = max(now_us - HOUR_US, (found.since_us or now_us) if found else now_us)
    if console.past.is_there and begin < reach_us - _NEARLY_US:
        try:
            past = await console.past.series(device, channel, begin, max(begin, end), max_points)
            if past is not None:
                return SeriesView(
                    device, channel, past.unit, past.ts_us, list(past.mean), None, "history", past.resolution_s,
                    past.low, past.high,
                )  # fmt: skip
        except Unanswered as error:
            missing = str(error)
    if found is None:
        if missing:
            raise HTTPException(missing, status_code=503)
        raise NotFoundException(f"nothing is remembered of channel {channel!r} of device {device!r}")
    ts_us, values = decimate(found.ts_us, found.values, max_points)
    shown = [None if value != value or value in (float("inf"), float("-inf")) else value for value in values.tolist()]
    return SeriesView(device, channel, found.unit, ts_us.tolist(), shown, found.since_us, missing=missing)


@get("/devices/{device:str}/channels", opt=READ, responses={503: _PROBLEMS[503]})
async def channels(console: Console, device: FromPath[str]) -> list[ChannelView]:
    """Channels of which the history service keeps anything."""
    try:
        return [ChannelView(each.name, each.unit) for each in await console.past.channels(device)]
    except Unanswered as error:
        raise HTTPException(str(error), status_code=503) from None


@get("/events", opt=READ, responses={503: _PROBLEMS[503]})
async def events(
    console: Console,
    device: FromQuery[str] = "",
    from_us: FromQuery[Time | None] = None,
    to_us: FromQuery[Time | None] = None,
    limit: Annotated[int, QueryParameter(ge=1, le=5000)] = 200,
) -> list[Event]:
    """The newest events of a device, or of all, the newest first; from the history service. Default: the last day."""
    now_us = console.clock.now_us()
    end = now_us + HOUR_US if to_us is None else to_us
    begin = min(end, now_us - 24 * HOUR_US if from_us is None else from_us)
    try:
        return await console.past.events(device, begin, end, limit)
    except Unanswered as error:
        raise HTTPException(str(error), status_code=503) from None


@get("/alerts", opt=READ, responses={422: _PROBLEMS[422]}, sync_to_thread=False)
def alerts(
    console: Console,
    alert_state: Annotated[list[AlertState] | None, QueryParameter(name="state")] = None,
    severity: FromQuery[list[Severity] | None] = None,
    device: FromQuery[str] = "",
    rule: FromQuery[str] = "",
    kind: FromQuery[str] = "",
    group: FromQuery[str] = "",
    text: Annotated[str, QueryParameter(name="q", max_length=200)] = "",
    since_us: FromQuery[Time | None] = None,
    until_us: FromQuery[Time | None] = None,
    limit: Annotated[int, QueryParameter(ge=1, le=1000)] = 200,
    after: Annotated[str, QueryParameter(max_length=100)] = "",
) -> AlertPage:
    """Alerts, the last changed first, a page at a time.

    `state` and `severity` may be there more than once; `q` is looked for in title, device, subject and rule; `since_us`
    and `until_us` are about when it was opened. `after` is the page before's `next`.
    """
    wanted = Filter(
        frozenset(alert_state or ()), frozenset(severity or ()), device, rule, kind, group, text, since_us, until_us
    )
    try:
        page = console.picture.alerts.page(wanted, limit, after)
    except BadInput as error:
        raise HTTPException(str(error), status_code=422) from None
    return AlertPage(page.alerts, page.next, page.total, console.picture.alerts.counts())


@get("/alerts/{alert:str}", opt=READ, responses={404: _PROBLEMS[404]}, sync_to_thread=False)
def alert_by_id(console: Console, alert: FromPath[str]) -> AlertDetail:
    """One alert with what happened to it, oldest first. The console remembers the log of the last 7 days."""
    found = _alert(console, alert)
    transitions, complete = console.picture.transitions(found)
    return AlertDetail(**msgspec.structs.asdict(found), transitions=transitions, transitions_complete=complete)


@post("/alerts/{alert:str}/commands", opt={"needs": "act"}, status_code=202, responses=_PROBLEMS)
async def command(
    console: Console, request: Request[Any, Any, Any], alert: FromPath[str], data: JSONBody[CommandBody]
) -> Accepted:
    """Ask something of an alert. Answered once Kafka has it for good.

    The alert engine decides: what became of it is on the stream, as `alert`, or as `refused` with the reason. Who asks
    is whoever is logged in. Asking again under the same `id` changes nothing.
    """
    found = _alert(console, alert)
    if (
        found.state == "resolved"
        and data.action in ("acknowledge", "resolve", "snooze")
        and not console.picture.asked_before(alert, data.id)
    ):
        by = f" by {found.who}" if found.who else ""
        raise HTTPException(f"it is resolved{by} already", status_code=409)
    await _ask(console, request, data, alert=alert, device=found.device)
    return Accepted(data.id)


async def _ask(
    console: ConsoleService, request: Request[Any, Any, Any], data: CommandBody, *, alert: str, device: str,
    group: str = "",
) -> None:  # fmt: skip
    """Put a command on Kafka, under the name of whoever asks."""
    who = identity(request.scope)
    assert who is not None
    if data.action == "snooze" and data.until_us is None:
        raise HTTPException("until_us: a snooze needs the time until which it lasts", status_code=422)
    asked = Command(
        id=data.id, device=device, alert=alert, action=data.action, who=who.who, why=data.why,
        until_us=data.until_us, seen_version=data.seen_version, group=group,
    )  # fmt: skip
    try:
        await asyncio.to_thread(console.commander.send, asked)
    except NotRecorded as error:
        raise HTTPException(
            f"Kafka did not take it ({error}); asking again under the same id is safe", status_code=503
        ) from None


@post("/groups/{group:str}/commands", opt={"needs": "act"}, status_code=202, responses=_PROBLEMS)
async def group_command(
    console: Console, request: Request[Any, Any, Any], group: FromPath[str], data: JSONBody[CommandBody]
) -> Accepted:
    """Ask something of a group, and so of each of its alerts of which it can be asked. As for one alert."""
    every = msgspec.json.decode(console.picture.groups, type=list[Group])
    found = next((one for one in every if one.id == group), None)
    if found is None:
        raise NotFoundException(f"there is no group {group!r}; resolved ones are removed after 30 days")
    await _ask(console, request, data, alert=group, device="", group=found.key)
    return Accepted(data.id)


@get("/status", opt=READ, sync_to_thread=False)
def status(console: Console) -> Status:
    """The console about itself."""
    states = {state: sum(by.values()) for state, by in console.picture.alerts.counts().items()}
    return Status(
        server_us=console.clock.now_us(),
        health=console.health(),
        clients=console.hub.clients,
        alerts=states,
        history_bytes=console.history.nbytes,
        history_budget_bytes=console.history_budget,
        unreadable_frames=console.tail.unreadable,
    )


@get("/groups", opt=READ, responses={200: ResponseSpec(list[Group])}, sync_to_thread=False)
def groups(console: Console) -> Response[bytes]:
    """Groups of alerts: all that are not resolved and the last 200 that are, the last changed first."""
    return _json(console.picture.groups)


@get("/notifications", opt=READ, sync_to_thread=False)
def notifications(
    console: Console,
    notice_state: Annotated[list[NoticeState] | None, QueryParameter(name="state")] = None,
    alert: Annotated[str, QueryParameter(max_length=64)] = "",
    limit: Annotated[int, QueryParameter(ge=1, le=1000)] = 200,
) -> list[Notification]:
    """Messages to people and what became of them, of the last 5,000. What went wrong: `state=failed&state=retrying`."""
    return console.tail.notices.newest(frozenset(notice_state or ()), alert, limit)


@get("/pipeline", opt=READ)
async def pipeline(console: Console) -> PipelineView:
    """Each stage's rate, delay, lag and dead letters, as far as the console was told where to look."""
    stages = await console.scraper.stages(console.clock.monotonic())
    return PipelineView(console.clock.now_us(), stages, console.tail.topics())


@get("/healthz", opt={"needs": NOBODY}, sync_to_thread=False)
def healthz(console: Console) -> Response[Health]:
    """200 while Kafka is being read, 503 when it is not."""
    health = console.health()
    return Response(health, status_code=200 if health.kafka == "up" else 503)


def _alert(console: ConsoleService, name: str) -> Alert:
    found = console.picture.alerts.get(name)
    if found is None:
        raise NotFoundException(f"there is no alert {name!r}; resolved ones are removed after 30 days")
    return found


def problem(_request: Request[Any, Any, Any], error: HTTPException) -> Response[Problem]:
    """Every refusal as ``{"detail": …}``; what is wrong in a request is named by its field."""
    detail, code = error.detail, error.status_code
    if code == 400:
        code = 422
        places = [
            f"{_field(place)}: {place.get('message', '')}"
            for place in (error.extra if isinstance(error.extra, list) else [])
            if isinstance(place, dict)
        ]
        detail = "; ".join(places) or detail
    return Response(Problem(detail or "not possible"), status_code=code, headers=error.headers)


HANDLERS = (
    snapshot, devices, device_by_id, series, channels, events, alerts, alert_by_id, command, groups, group_command,
    notifications, pipeline, status,
)  # fmt: skip


def _field(place: dict[str, Any]) -> str:
    """The name by which the caller knows what is wrong: Litestar calls the body `data`, and a query by its variable."""
    key = str(place.get("key") or "body")
    return {"data": "body", "alert_state": "state", "notice_state": "state"}.get(key, key)


def unreadable(_request: Request[Any, Any, Any], error: Exception) -> Response[Problem]:
    """A body that is not JSON, or not JSON that anybody can mean."""
    return Response(Problem(f"the body cannot be read: {type(error).__name__}"), status_code=422)
