"""`/fences`, `/rules`, `/policies` … and `/devices/{id}`: what people keep about the fleet, read and edited.

One set of handlers for every kind of the registry. Fences are GeoJSON Features, everything else JSON objects with the
fields of its Avro schema. `If-Match: "VERSION"` guards against two people editing at once (`"0"`: it must be new).
"""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
from litestar import Request, Response, delete, get, post, put
from litestar.exceptions import HTTPException, NotFoundException
from litestar.handlers import HTTPRouteHandler
from litestar.openapi.datastructures import ResponseSpec
from tidegate_protocols.errors import BadInput
from tidegate_protocols.ids import check_device_id

from tidegate_cloud.admin.registry import KINDS

from .registry import EDITED, Changed, as_feature, check, fence_fields
from .security.gate import identity
from .service import ConsoleService
from .views import Problem
from .writer import NotSaved

_NAME_MAX = 128
_READ, _EDIT = {"needs": "read"}, {"needs": "edit"}
_WHO_FIELD = "who"  # of a silence: whoever is logged in
_PROBLEMS = {
    404: ResponseSpec(Problem, description="There is no such thing"),
    412: ResponseSpec(Problem, description="Somebody changed it meanwhile"),
    422: ResponseSpec(Problem, description="Something in it is not as it must be"),
    503: ResponseSpec(Problem, description="Kafka does not answer"),
}
Ask = Request[Any, Any, Any]


def handlers() -> list[HTTPRouteHandler]:
    """The routes of every kind."""
    made = [check_fence]
    for kind in EDITED:
        made += [_put(kind), _delete(kind)]
        if kind != "devices":  # which are listed with what was heard of them
            made += [_all(kind), _one(kind)]
    return made


@post("/fences/check", opt=_READ, status_code=200, responses={422: _PROBLEMS[422]})
async def check_fence(data: dict[str, Any]) -> dict[str, Any]:
    """Check a fence without keeping it; gives it back as it would be kept."""
    try:
        fields = fence_fields({"id": "new"} | data)
        return as_feature(await asyncio.to_thread(check, KINDS["fences"], fields))
    except BadInput as error:
        raise _refused(error) from None


def _all(kind: str) -> HTTPRouteHandler:
    @get(f"/{kind}", opt=_READ, operation_id=f"list_{kind}", summary=f"All {kind}", sync_to_thread=False)
    def listed(console: ConsoleService) -> dict[str, Any]:
        records = console.registry.all(kind)
        if kind == "fences":
            return {"type": "FeatureCollection", "features": [_shown(kind, record) for record in records]}
        return {kind: [_shown(kind, record) for record in records]}

    return listed


def _one(kind: str) -> HTTPRouteHandler:
    path = f"/{kind}/{{name:str}}"

    @get(path, opt=_READ, operation_id=f"get_{kind}", responses={404: _PROBLEMS[404]}, sync_to_thread=False)
    def one(console: ConsoleService, name: str) -> Response[dict[str, Any]]:
        record = console.registry.get(kind, name)
        if record is None:
            raise NotFoundException(f"there is no {name!r} among the {kind}")
        return _answer(kind, record)

    return one


def _put(kind: str) -> HTTPRouteHandler:
    path = f"/{kind}/{{name:str}}"

    @put(path, opt=_EDIT, operation_id=f"put_{kind}", responses=_PROBLEMS, status_code=200)
    async def keep(console: ConsoleService, request: Ask, name: str, data: dict[str, Any]) -> Response[dict[str, Any]]:
        try:
            _check_name(kind, name)
            fields = fence_fields(data | {"id": name}) if kind == "fences" else dict(data)
            if _WHO_FIELD in KINDS[kind].codec.kind.__struct_fields__:
                who = identity(request.scope)
                fields[_WHO_FIELD] = who.who if who else ""
            record = await console.registry.put(kind, name, fields, _seen(request))
        except (BadInput, Changed, NotSaved) as error:
            raise _refused(error) from None
        return _answer(kind, record)

    return keep


def _delete(kind: str) -> HTTPRouteHandler:
    path = f"/{kind}/{{name:str}}"

    @delete(path, opt=_EDIT, operation_id=f"delete_{kind}", responses=_PROBLEMS, status_code=204)
    async def remove(console: ConsoleService, request: Ask, name: str) -> None:
        try:
            found = await console.registry.remove(kind, name, _seen(request))
        except (BadInput, Changed, NotSaved) as error:
            raise _refused(error) from None
        if not found:
            raise NotFoundException(f"there is no {name!r} among the {kind}")

    return remove


def _check_name(kind: str, name: str) -> None:
    if kind == "devices":
        check_device_id(name)
    elif not 0 < len(name) <= _NAME_MAX or not name.isprintable():
        raise BadInput(f"an id has 1 to {_NAME_MAX} printable characters", where="id")


def _shown(kind: str, record: Any) -> dict[str, Any]:
    shown = as_feature(record) if kind == "fences" else msgspec.to_builtins(record)
    assert isinstance(shown, dict)
    return shown


def _answer(kind: str, record: Any) -> Response[dict[str, Any]]:
    version = getattr(record, "version", None)
    return Response(_shown(kind, record), headers={} if version is None else {"etag": f'"{version}"'})


def _seen(request: Ask) -> int | None:
    """The version that If-Match names. Raises BadInput."""
    text = request.headers.get("if-match")
    if text is None or text == "*":
        return None
    digits = text.removeprefix("W/").strip('"')
    if not (digits.isascii() and digits.isdigit() and len(digits) < 16):
        raise BadInput(f"{text[:40]!r} is not a version", where="If-Match", hint='as the ETag says it, like "3"')
    return int(digits)


def _refused(error: BadInput | Changed | NotSaved) -> HTTPException:
    if isinstance(error, Changed):
        return HTTPException(str(error), status_code=412)
    if isinstance(error, NotSaved):
        return HTTPException(f"Kafka did not take it ({error}); trying again is safe", status_code=503)
    return HTTPException(str(error), status_code=422)
