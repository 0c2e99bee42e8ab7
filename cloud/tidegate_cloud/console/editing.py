"""`/fences`, `/rules`, `/policies` … and `/devices/{id}`: what people keep about the fleet, read and edited.

One set of handlers for every kind of the registry. Fences are GeoJSON Features, everything else JSON objects with the
fields of its Avro schema. `If-Match: "VERSION"` guards against two people editing at once (`"0"`: it must be new).
"""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

import msgspec
from litestar import Request, Response, delete, get, post, put
from litestar.exceptions import HTTPException, NotFoundException
from litestar.handlers import HTTPRouteHandler
from litestar.openapi.datastructures import ResponseSpec
from litestar.params import FromPath, JSONBody, QueryParameter
from msgspec import Struct
from tidegate_protocols.errors import BadInput
from tidegate_protocols.ids import check_device_id

from tidegate_cloud.admin.registry import KINDS
from tidegate_cloud.admin.repair import mended

from .registry import EDITED, Changed, as_feature, check, fence_fields
from .security.gate import identity, note
from .service import Console
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


class Mended(Struct):
    """A Feature with a valid shape, and what was made of it in words; "" where it was valid before."""

    feature: dict[str, Any]
    words: str


class VersionView(Struct):
    """A fence as it once was. `version` and `feature` are null where it was removed."""

    version: int | None
    at_us: int
    who: str
    why: str
    feature: dict[str, Any] | None


def handlers() -> list[HTTPRouteHandler]:
    """The routes of every kind."""
    made = [check_fence, repair_fence, fence_versions]
    for kind in EDITED:
        made += [_put(kind), _delete(kind)]
        if kind != "devices":  # which are listed with what was heard of them
            made += [_all(kind), _one(kind)]
    return made


@post("/fences/check", opt=_READ, status_code=200, responses={422: _PROBLEMS[422]})
async def check_fence(data: JSONBody[dict[str, Any]]) -> dict[str, Any]:
    """Check a fence without keeping it; gives it back as it would be kept."""
    try:
        fields = fence_fields({"id": "new"} | data)
        return as_feature(await asyncio.to_thread(check, KINDS["fences"], fields))
    except BadInput as error:
        raise _refused(error) from None


@post("/fences/repair", opt=_READ, status_code=200, responses={422: _PROBLEMS[422]})
async def repair_fence(data: JSONBody[dict[str, Any]]) -> Mended:
    """Offer a valid shape for one that is not; nothing is kept. 422 where none can be made of it."""
    try:
        feature, words = await asyncio.to_thread(mended, {"id": "new"} | data, "fences")
    except BadInput as error:
        raise _refused(error) from None
    return Mended(feature, words.partition(": repaired as ")[2])


@get("/fences/{name:str}/versions", opt=_READ, sync_to_thread=False)
def fence_versions(console: Console, name: FromPath[str]) -> list[VersionView]:
    """The versions of a fence that Kafka still has, up to the last 50, the newest first; who made them and why, where
    that is among the last 5,000 lines of the audit log.
    """
    by: dict[str, tuple[str, str]] = {}
    for line in console.audit.newest():
        version, _, why = line.detail.removeprefix("version ").partition(": ")
        if line.action == f"PUT /api/v1/fences/{name}" and line.status == 200:
            by.setdefault(version, (line.who, why))
    found = []
    for at_us, fence in console.registry.past("fences", name):
        who, why = by.get(str(fence.version), ("", "")) if fence is not None else ("", "")
        shown = None if fence is None else _shown("fences", fence)
        found.append(VersionView(None if fence is None else fence.version, at_us, who, why, shown))
    return found


def _all(kind: str) -> HTTPRouteHandler:
    @get(f"/{kind}", opt=_READ, operation_id=f"list_{kind}", summary=f"All {kind}", sync_to_thread=False)
    def listed(console: Console) -> dict[str, Any]:
        records = console.registry.all(kind)
        if kind == "fences":
            return {"type": "FeatureCollection", "features": [_shown(kind, record) for record in records]}
        return {kind: [_shown(kind, record) for record in records]}

    return listed


def _one(kind: str) -> HTTPRouteHandler:
    path = f"/{kind}/{{name:str}}"

    @get(path, opt=_READ, operation_id=f"get_{kind}", responses={404: _PROBLEMS[404]}, sync_to_thread=False)
    def one(console: Console, name: FromPath[str]) -> Response[dict[str, Any]]:
        record = console.registry.get(kind, name)
        if record is None:
            raise NotFoundException(f"there is no {name!r} among the {kind}")
        return _answer(kind, record)

    return one


def _put(kind: str) -> HTTPRouteHandler:
    path = f"/{kind}/{{name:str}}"

    @put(path, opt=_EDIT, operation_id=f"put_{kind}", responses=_PROBLEMS, status_code=200)
    async def keep(
        console: Console,
        request: Ask,
        name: FromPath[str],
        data: JSONBody[dict[str, Any]],
        why: Annotated[str, QueryParameter(max_length=200)] = "",
    ) -> Response[dict[str, Any]]:
        try:
            _check_name(kind, name)
            fields = fence_fields(data | {"id": name}) if kind == "fences" else dict(data)
            if _WHO_FIELD in KINDS[kind].codec.kind.__struct_fields__:
                who = identity(request.scope)
                fields[_WHO_FIELD] = who.who if who else ""
            record = await console.registry.put(kind, name, fields, _seen(request))
            if hasattr(record, "version"):
                note(request.scope, f"version {record.version}: {why}")
        except (BadInput, Changed, NotSaved) as error:
            raise _refused(error) from None
        return _answer(kind, record)

    return keep


def _delete(kind: str) -> HTTPRouteHandler:
    path = f"/{kind}/{{name:str}}"

    @delete(path, opt=_EDIT, operation_id=f"delete_{kind}", responses=_PROBLEMS, status_code=204)
    async def remove(console: Console, request: Ask, name: FromPath[str]) -> None:
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
