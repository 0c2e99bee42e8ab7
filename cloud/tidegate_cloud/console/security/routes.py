"""`/api/v1/session`, `/users`, `/tokens`, `/audit`: logging in, and who may."""

from __future__ import annotations

import re
from collections.abc import Awaitable
from typing import Annotated, Any, Literal

import msgspec
from litestar import Request, Response, delete, get, post, put
from litestar.datastructures import Cookie
from litestar.exceptions import HTTPException, NotAuthorizedException, NotFoundException, PermissionDeniedException
from litestar.params import FromPath, FromQuery, JSONBody, QueryParameter
from msgspec import Meta, Struct
from tidegate_protocols.accounts import ApiToken, AuditLine, Permission, Role, User
from tidegate_protocols.errors import BadInput

from ..service import Console, ConsoleService
from ..writer import NotSaved
from . import passwords
from .accounts import SESSION_US, Identity, csrf_of
from .gate import NOBODY, address_of, cookie_name, identity, note

_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,39}")
_DAY_US = 86_400_000_000
Name = Annotated[str, Meta(pattern="^[a-z0-9][a-z0-9._-]{0,39}$", description="Lower case; what one logs in with")]
Ask = Request[Any, Any, Any]


class LogIn(Struct, forbid_unknown_fields=True):
    """A name and a password; or the secret of a one-time link."""

    name: Annotated[str, Meta(max_length=40)] = ""
    password: Annotated[str, Meta(max_length=passwords.LONGEST)] = ""
    link: Annotated[str, Meta(max_length=100)] = ""


class SessionView(Struct):
    """Who is logged in. `csrf` goes into `x-csrf-token` of every request that is not a GET."""

    user: str
    full_name: str
    who: str
    role: str
    permissions: list[str]
    via: str
    csrf: str
    expires_us: int | None
    password_due: bool


class NewPassword(Struct, forbid_unknown_fields=True):
    """`old` is not needed while there is none."""

    new: Annotated[str, Meta(max_length=passwords.LONGEST)]
    old: Annotated[str, Meta(max_length=passwords.LONGEST)] = ""


class UserView(Struct):
    """A person who may use the console."""

    name: str
    full_name: str
    role: Role
    has_password: bool
    sessions: int
    tokens: int


class UserBody(Struct, forbid_unknown_fields=True):
    """What an admin says of a person. `log_out` ends all sessions, tokens and links of the person."""

    role: Role
    full_name: Annotated[str, Meta(max_length=80)] = ""
    log_out: bool = False


class LinkView(Struct):
    """Where a one-time link leads, under the console's own address; good for an hour."""

    path: str
    expires_us: int


class TokenBody(Struct, forbid_unknown_fields=True):
    """A token for a program: what it may, for how long."""

    name: Annotated[str, Meta(pattern="^[A-Za-z0-9 ._-]{1,40}$")]
    permissions: Annotated[list[Permission], Meta(min_length=1, max_length=4)]
    days: Annotated[int, Meta(ge=1, le=3650)] | None = 90


class TokenView(Struct):
    """A token, without its secret."""

    id: str
    name: str
    user: str
    permissions: list[str]
    created_us: int
    expires_us: int | None


class NewToken(TokenView):
    """`token` is shown this once: ``Authorization: Bearer …``."""

    token: str


@get("/session", opt={"needs": "read"}, sync_to_thread=False)
def session(request: Ask) -> SessionView:
    """Who is asking."""
    return _view(_me(request))


@post("/session", opt={"needs": NOBODY}, status_code=201, request_max_body_size=4096)
async def log_in(console: Console, request: Ask, data: JSONBody[LogIn]) -> Response[SessionView]:
    """Log in by name and password, or once by a link. Sets the session's cookie."""
    address, now_s = address_of(request.scope), console.clock.monotonic()
    name = "" if data.link else data.name
    note(request.scope, f"log in {'by link' if data.link else name!r}")
    wait_s = console.failures.wait_s(address, name, now_s)
    if wait_s > 0:
        raise HTTPException(
            f"too many tries; again in {wait_s:.0f} s", status_code=429, headers={"retry-after": str(int(wait_s) + 1)}
        )
    if data.link:
        user = await _saved(console.accounts.use_link(data.link))
        problem = "this link was used before, or is too old"
    else:
        user = console.accounts.user(name)
        if not await console.hashing.matches(user.password if user else "", data.password):
            user = None
        problem = "the name or the password is not right"
    if user is None:
        console.failures.failed(address, name, now_s)
        raise NotAuthorizedException(problem)
    agent = request.headers.get("user-agent", "")
    cookie = await _saved(console.accounts.begin_session(user.name, address, agent))
    who = console.accounts.by_cookie(cookie)
    assert who is not None
    return Response(_view(who), cookies=_cookies(request, cookie, SESSION_US // 1_000_000))


@delete("/session", opt={"needs": "read"}, status_code=204)
async def log_out(console: Console, request: Ask) -> Response[None]:
    """End this session, everywhere."""
    who = _me(request)
    if who.via == "session":
        await _saved(console.accounts.write("session", who.key, None))
    return Response(None, cookies=_cookies(request, "", 0), headers={"clear-site-data": '"cache", "storage"'})


@put("/session/password", opt={"needs": "read"}, status_code=200, request_max_body_size=4096)
async def set_password(console: Console, request: Ask, data: JSONBody[NewPassword]) -> Response[SessionView]:
    """Set one's own password. Every other session of this person ends, and this one goes on under a new cookie."""
    who = _by_session(request)
    address, now_s = address_of(request.scope), console.clock.monotonic()
    if console.failures.wait_s(address, who.user, now_s) > 0:
        raise HTTPException("too many tries; wait five minutes", status_code=429)
    user = console.accounts.user(who.user)
    assert user is not None
    if user.password and not await console.hashing.matches(user.password, data.old):
        console.failures.failed(address, who.user, now_s)
        raise HTTPException("old: it is not right", status_code=422)
    try:
        passwords.check_new(data.new, who.user)
    except BadInput as error:
        raise HTTPException(f"new: {error}", status_code=422) from None
    now_us = console.clock.now_us()
    changed = msgspec.structs.replace(
        user, password=await console.hashing.hashed(data.new), sessions_from_us=now_us, changed_us=now_us
    )
    await _saved(console.accounts.write("user", user.name, changed))
    cookie = await _saved(
        console.accounts.begin_session(user.name, address, request.headers.get("user-agent", ""))
    )  # fmt: skip
    fresh = console.accounts.by_cookie(cookie)
    assert fresh is not None
    return Response(_view(fresh), cookies=_cookies(request, cookie, SESSION_US // 1_000_000))


@get("/users", opt={"needs": "admin"}, sync_to_thread=False)
def users(console: Console) -> list[UserView]:
    """Everyone who may use the console."""
    return [_person(console, user) for user in console.accounts.users()]


@put("/users/{name:str}", opt={"needs": "admin"}, status_code=200)
async def put_user(console: Console, request: Ask, name: FromPath[Name], data: JSONBody[UserBody]) -> UserView:
    """Add a person, or change what one may. A new one gets in by a one-time link."""
    if not _NAME.fullmatch(name):
        raise HTTPException(f"name: {name!r} is not lower-case letters, digits, . _ -", status_code=422)
    note(request.scope, f"role {data.role}")
    now_us, known = console.clock.now_us(), console.accounts.user(name)
    if known is not None and known.role == "admin" and data.role != "admin":
        _not_the_last_admin(console, name)
    user = User(
        name=name, full_name=data.full_name, role=data.role, password=known.password if known else "",
        sessions_from_us=now_us if data.log_out else known.sessions_from_us if known else 0, changed_us=now_us,
    )  # fmt: skip
    await _saved(console.accounts.write("user", name, user))
    return _person(console, user)


@delete("/users/{name:str}", opt={"needs": "admin"}, status_code=204)
async def delete_user(console: Console, name: FromPath[str]) -> None:
    """Remove a person, with sessions and tokens."""
    user = _user(console, name)
    if user.role == "admin":
        _not_the_last_admin(console, name)
    await _saved(console.accounts.write("user", name, None))
    for key, _ in console.accounts.sessions(name):
        await _saved(console.accounts.write("session", key, None))
    for token in console.accounts.tokens(name):
        await _saved(console.accounts.write("token", token.id, None))


@post("/users/{name:str}/link", opt={"needs": "admin"}, status_code=201)
async def new_link(console: Console, name: FromPath[str]) -> LinkView:
    """A link that logs this person in once: for a new one, or one who forgot a password."""
    user = _user(console, name)
    secret = await _saved(console.accounts.begin_link(user.name))
    return LinkView(f"/login#{secret}", console.clock.now_us() + 3_600_000_000)


@get("/tokens", opt={"needs": "read"}, sync_to_thread=False)
def tokens(console: Console, request: Ask) -> list[TokenView]:
    """One's own tokens; an admin sees everyone's."""
    who = _me(request)
    return [_token(token) for token in console.accounts.tokens(None if "admin" in who.permissions else who.user)]


@post("/tokens", opt={"needs": "read"}, status_code=201)
async def new_token(console: Console, request: Ask, data: JSONBody[TokenBody]) -> NewToken:
    """A token for a program. Only people make tokens, and none that may more than they do."""
    who = _by_session(request)
    beyond = sorted(set(data.permissions) - who.permissions)
    if beyond:
        raise HTTPException(f"permissions: you have not {beyond[0]!r} yourself", status_code=422)
    secret, now_us = passwords.secret(), console.clock.now_us()
    token = ApiToken(
        id=passwords.digest(passwords.secret())[:12], name=data.name, user=who.user,
        permissions=sorted(set(data.permissions)), digest=passwords.digest(secret), created_us=now_us,
        expires_us=None if data.days is None else now_us + data.days * _DAY_US,
    )  # fmt: skip
    await _saved(console.accounts.write("token", token.id, token))
    return NewToken(**msgspec.structs.asdict(_token(token)), token=f"tg_{token.id}_{secret}")


@delete("/tokens/{token:str}", opt={"needs": "read"}, status_code=204)
async def delete_token(console: Console, request: Ask, token: FromPath[str]) -> None:
    """Revoke a token: one's own, or as an admin anyone's."""
    who = _me(request)
    mine = console.accounts.tokens(None if "admin" in who.permissions else who.user)
    if not any(known.id == token for known in mine):
        raise NotFoundException(f"there is no token {token!r}")
    await _saved(console.accounts.write("token", token, None))


@get("/audit", opt={"needs": "admin"}, sync_to_thread=False)
def audit(
    console: Console,
    user: FromQuery[str | None] = None,
    limit: Annotated[int, QueryParameter(ge=1, le=1000)] = 200,
) -> list[AuditLine]:
    """What was asked of all consoles, the newest first: of the last 5,000 lines."""
    found = (line for line in console.audit.newest() if user is None or line.who == user)
    return [line for line, _ in zip(found, range(limit), strict=False)]


HANDLERS = (
    session, log_in, log_out, set_password, users, put_user, delete_user, new_link, tokens, new_token, delete_token,
    audit,
)  # fmt: skip


async def _saved(work: Awaitable[Any]) -> Any:
    try:
        return await work
    except NotSaved as error:
        raise HTTPException(f"Kafka did not take it ({error})", status_code=503) from None


def _me(request: Ask) -> Identity:
    who = identity(request.scope)
    if who is None:
        raise NotAuthorizedException("log in first")
    return who


def _by_session(request: Ask) -> Identity:
    who = _me(request)
    if who.via != "session":
        raise PermissionDeniedException("a token may not do this: log in")
    return who


def _user(console: ConsoleService, name: str) -> User:
    found = console.accounts.user(name)
    if found is None:
        raise NotFoundException(f"there is no user {name!r}")
    return found


def _not_the_last_admin(console: ConsoleService, name: str) -> None:
    if not any(user.role == "admin" and user.name != name for user in console.accounts.users()):
        raise HTTPException(f"{name} is the last admin", status_code=409)


def _person(console: ConsoleService, user: User) -> UserView:
    return UserView(
        user.name, user.full_name, user.role, bool(user.password), len(console.accounts.sessions(user.name)),
        len(console.accounts.tokens(user.name)),
    )  # fmt: skip


def _token(token: ApiToken) -> TokenView:
    return TokenView(token.id, token.name, token.user, list(token.permissions), token.created_us, token.expires_us)


def _view(who: Identity) -> SessionView:
    return SessionView(
        who.user, who.full_name, who.who, who.role, sorted(who.permissions), who.via, who.csrf, who.expires_us,
        who.password_due,
    )  # fmt: skip


def _cookies(request: Ask, cookie: str, seconds: int) -> list[Cookie]:
    same: Literal["strict"] = "strict"
    secure = request.scope["scheme"] == "https"
    name = cookie_name(request.scope)
    return [
        Cookie(key=name, value=cookie, path="/", max_age=seconds, httponly=True, secure=secure, samesite=same),
        Cookie(
            key=name.removeprefix("__Host-") + "-csrf", value=csrf_of(cookie) if cookie else "", path="/",
            max_age=seconds, httponly=False, secure=secure, samesite=same,
        ),
    ]  # fmt: skip
