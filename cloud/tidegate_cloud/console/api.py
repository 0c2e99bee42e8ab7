"""The HTTP interface under ``/api/v1`` (docs/api.md): what the pages use, and any program may."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

import msgspec
from litestar import Request, Response, get, post
from litestar.exceptions import HTTPException, NotFoundException
from litestar.openapi.datastructures import ResponseSpec
from litestar.params import Parameter
from tidegate_protocols.alerts import Alert, AlertState, Command

from .commands import NotRecorded
from .history import HOUR_US, decimate
from .service import ConsoleService
from .views import (
    Accepted,
    AlertDetail,
    CommandBody,
    DeviceView,
    Health,
    Problem,
    SeriesView,
    Snapshot,
    Status,
    encode,
)

_JSON = "application/json"
_RESOLVED_SHOWN = 500
_PROBLEMS = {
    404: ResponseSpec(Problem, description="There is no such thing"),
    409: ResponseSpec(Problem, description="It is over already"),
    422: ResponseSpec(Problem, description="Something in the request is not as it must be"),
    503: ResponseSpec(Problem, description="Kafka does not answer"),
}


def _json(body: bytes) -> Response[bytes]:
    return Response(body, media_type=_JSON, headers={"cache-control": "no-store"})


@get("/snapshot", responses={200: ResponseSpec(Snapshot)}, sync_to_thread=False)
def snapshot(console: ConsoleService) -> Response[bytes]:
    """Everything that a page needs to begin, and where the stream goes on.

    Of the resolved alerts the last 500 are here; `/alerts` has all that are kept.
    """
    picture, now_us = console.picture, console.clock.now_us()
    alerts = list(picture.selected())
    shown = [alert for alert in alerts if alert.state != "resolved"]
    shown += [alert for alert in alerts if alert.state == "resolved"][:_RESOLVED_SHOWN]
    return _json(
        encode(
            {
                "server_us": now_us,
                "resume": picture.token(now_us // 1_000_000),
                "devices": msgspec.Raw(picture.devices()),
                "alerts": shown,
                "fences": msgspec.Raw(picture.fences),
                "rules": picture.rules,
                "health": console.health(),
            }
        )
    )


@get("/devices", responses={200: ResponseSpec(list[DeviceView])}, sync_to_thread=False)
def devices(console: ConsoleService) -> Response[bytes]:
    """Every device as it was last heard."""
    return _json(console.picture.devices())


@get("/devices/{device:str}", responses={200: ResponseSpec(DeviceView), 404: _PROBLEMS[404]}, sync_to_thread=False)
def device_by_id(console: ConsoleService, device: str) -> Response[bytes]:
    """One device as it was last heard."""
    found = console.picture.device(device)
    if found is None:
        raise NotFoundException(f"no device {device!r} has been heard of")
    return _json(found)


@get("/devices/{device:str}/series", responses={404: _PROBLEMS[404], 422: _PROBLEMS[422]})
async def series(
    console: ConsoleService,
    device: str,
    channel: str,
    from_us: int | None = None,
    to_us: int | None = None,
    max_points: Annotated[int, Parameter(ge=10, le=100_000)] = 2_000,
) -> SeriesView:
    """A channel over time, from a bounded memory of the last hour: `since_us` says how far back that goes.

    Thinned to the least and the greatest value of each stretch where there are more than `max_points`. Values are null
    where a scan had none.
    """
    now_us = console.clock.now_us()
    begin = now_us - HOUR_US if from_us is None else from_us
    end = now_us + HOUR_US if to_us is None else to_us
    found = await asyncio.to_thread(console.history.series, device, channel, begin, end)
    if found is None:
        raise NotFoundException(f"nothing is remembered of channel {channel!r} of device {device!r}")
    ts_us, values = decimate(found.ts_us, found.values, max_points)
    shown = [None if value != value or value in (float("inf"), float("-inf")) else value for value in values.tolist()]
    return SeriesView(device, channel, found.unit, ts_us.tolist(), shown, found.since_us)


@get("/alerts", sync_to_thread=False)
def alerts(
    console: ConsoleService,
    alert_state: Annotated[AlertState | None, Parameter(query="state")] = None,
    device: str | None = None,
) -> list[Alert]:
    """Alerts, the last changed first; only those in a state, or of a device."""
    return list(console.picture.selected(alert_state, device))


@get("/alerts/{alert:str}", responses={404: _PROBLEMS[404]}, sync_to_thread=False)
def alert_by_id(console: ConsoleService, alert: str) -> AlertDetail:
    """One alert with what happened to it, oldest first. The console remembers the log of the last 7 days."""
    found = _alert(console, alert)
    transitions, complete = console.picture.transitions(found)
    return AlertDetail(**msgspec.structs.asdict(found), transitions=transitions, transitions_complete=complete)


@post("/alerts/{alert:str}/commands", status_code=202, responses=_PROBLEMS)
async def command(console: ConsoleService, alert: str, data: CommandBody) -> Accepted:
    """Ask something of an alert. Answered once Kafka has it for good.

    The alert engine decides: what became of it is on the stream, as `alert`, or as `refused` with the reason. `who` is
    taken at its word. Asking again under the same `id` changes nothing.
    """
    found = _alert(console, alert)
    if data.action == "snooze" and data.until_us is None:
        raise HTTPException("until_us: a snooze needs the time until which it lasts", status_code=422)
    if (
        found.state == "resolved"
        and data.action in ("acknowledge", "resolve", "snooze")
        and not console.picture.asked_before(alert, data.id)
    ):
        by = f" by {found.who}" if found.who else ""
        raise HTTPException(f"it is resolved{by} already", status_code=409)
    asked = Command(
        id=data.id, device=found.device, alert=alert, action=data.action, who=data.who, why=data.why,
        until_us=data.until_us, seen_version=data.seen_version,
    )  # fmt: skip
    try:
        await asyncio.to_thread(console.commander.send, asked)
    except NotRecorded as error:
        raise HTTPException(
            f"Kafka did not take it ({error}); asking again under the same id is safe", status_code=503
        ) from None
    return Accepted(data.id)


@get("/status", sync_to_thread=False)
def status(console: ConsoleService) -> Status:
    """The console about itself."""
    states: dict[str, int] = {}
    for found in console.picture.alerts.values():
        states[found.state] = states.get(found.state, 0) + 1
    return Status(
        server_us=console.clock.now_us(),
        health=console.health(),
        clients=console.hub.clients,
        alerts=states,
        history_bytes=console.history.nbytes,
        history_budget_bytes=console.history_budget,
        unreadable_frames=console.tail.unreadable,
    )


@get("/healthz", sync_to_thread=False)
def healthz(console: ConsoleService) -> Response[Health]:
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


HANDLERS = (snapshot, devices, device_by_id, series, alerts, alert_by_id, command, status)


def _field(place: dict[str, Any]) -> str:
    """The name by which the caller knows what is wrong: Litestar calls the body `data`, and a query by its variable."""
    key = str(place.get("key") or "body")
    return {"data": "body", "alert_state": "state"}.get(key, key)


def unreadable(_request: Request[Any, Any, Any], error: Exception) -> Response[Problem]:
    """A body that is not JSON, or not JSON that anybody can mean."""
    return Response(Problem(f"the body cannot be read: {type(error).__name__}"), status_code=422)
