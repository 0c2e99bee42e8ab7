"""`/rollouts`: how changes of configuration reach the agents, and what people ask of them (docs/ota.md)."""

from __future__ import annotations

from typing import Annotated, Any

from litestar import Request, Response, get, post
from litestar.exceptions import HTTPException, NotFoundException
from litestar.openapi.datastructures import ResponseSpec
from litestar.params import FromPath, FromQuery, JSONBody, QueryParameter
from tidegate_protocols.rollouts import Rollout, RolloutCommand

from . import rollout_views
from .rollout_views import AgentPage, RolloutAnswer, RolloutCommandBody, RolloutDetail
from .security.gate import identity, note
from .service import Console, ConsoleService
from .views import Problem, RolloutView, Stand
from .writer import NotSaved

_READ = {"needs": "read"}
_PROBLEMS = {
    404: ResponseSpec(Problem, description="There is no such rollout"),
    409: ResponseSpec(Problem, description="As the rollout stands it makes no sense"),
    422: ResponseSpec(Problem, description="Something in the request is not as it must be"),
    503: ResponseSpec(Problem, description="Kafka does not answer"),
}


@get("/rollouts", opt=_READ, responses={200: ResponseSpec(list[RolloutView])}, sync_to_thread=False)
def rollouts(console: Console) -> Response[bytes]:
    """The last hundred rollouts, the newest first, with their agents counted."""
    return Response(console.picture.rollouts, media_type="application/json", headers={"cache-control": "no-store"})


@get("/rollouts/{rollout:str}", opt=_READ, responses={404: _PROBLEMS[404]}, sync_to_thread=True)
def rollout_by_id(console: Console, rollout: FromPath[str]) -> RolloutDetail:
    """One rollout: gates, what it changes, and every step with who and why."""
    found = _rollout(console, rollout)
    steps, now_us = console.rollouts.steps(rollout), console.clock.now_us()
    return console.rollouts.look(lambda controller: rollout_views.detail(controller, found, steps, now_us))


@get(
    "/rollouts/{rollout:str}/agents", opt=_READ, responses={404: _PROBLEMS[404], 422: _PROBLEMS[422]},
    sync_to_thread=True,
)  # fmt: skip
def rollout_agents(
    console: Console,
    rollout: FromPath[str],
    stand: FromQuery[list[Stand] | None] = None,
    wave: Annotated[int | None, QueryParameter(ge=0, le=100)] = None,
    limit: Annotated[int, QueryParameter(ge=1, le=5000)] = 200,
) -> AgentPage:
    """Agents of a rollout by how they `stand`; without it, those that did not take it. `wave` counts from 0."""
    found = _rollout(console, rollout)
    now_us, wanted = console.clock.now_us(), frozenset(stand or ())
    return console.rollouts.look(
        lambda controller: rollout_views.agents(
            controller, found, console.rollouts.failures, now_us, wanted, wave, limit
        )
    )


@post(
    "/rollouts/{rollout:str}/commands", opt={"needs": "edit"}, status_code=200,
    responses={**_PROBLEMS, 202: ResponseSpec(RolloutAnswer, description="It stands; no server has answered yet")},
)  # fmt: skip
async def rollout_command(
    console: Console,
    request: Request[Any, Any, Any],
    rollout: FromPath[str],
    data: JSONBody[RolloutCommandBody],
) -> Response[RolloutAnswer]:
    """Ask something of a rollout, with why; answered once the rollouts' server has decided, or after 5 s without one.

    Asking again under the same `id` changes nothing.
    """
    _rollout(console, rollout)
    who = identity(request.scope)
    assert who is not None
    note(request.scope, f"{data.action}: {data.why}")
    asked = RolloutCommand(
        id=data.id, rollout=rollout, action=data.action, who=who.who, why=data.why, seen_version=data.seen_version
    )
    try:
        step = await console.rollouts.ask(asked)
    except NotSaved as error:
        raise HTTPException(
            f"Kafka did not take it ({error}); asking again under the same id is safe", status_code=503
        ) from None
    if step is None:
        return Response(RolloutAnswer(data.id, answered=False), status_code=202)
    if step.action == "refused":
        raise HTTPException(step.why, status_code=409)
    return Response(RolloutAnswer(data.id, True, step.to_state, step.version))


HANDLERS = (rollouts, rollout_by_id, rollout_agents, rollout_command)


def _rollout(console: ConsoleService, name: str) -> Rollout:
    found = console.rollouts.look(lambda controller: controller.rollouts.get(name))
    if found is None:
        raise NotFoundException(f"there is no rollout {name!r}")
    return found
