"""What becomes of rollouts: the server's decisions against simulated agents, by a clock that the test moves."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tidegate_protocols.rollouts import Gate, Window
from tidegate_sim.agents import SimAgent, make_agents

from .fleet import BROKEN, NOON, WELL, Town

QUICK = Gate(hold_s=10)
PLAN = {"waves": ["1%", "10%", "100%"], "gate": QUICK, "timeout_s": 180.0}


def well(count: int = 10) -> list[SimAgent]:
    return make_agents(count, 1, shares={})


def test_a_good_change_reaches_everybody_in_waves_and_becomes_the_layer() -> None:
    town = Town(well(100))
    name = town.push(WELL, **PLAN)
    assert [wave.size for wave in town.controller.rollouts[name].waves] == [1, 9, 90]
    town.run(30)
    assert sum(agent.running > 0 for agent in town.agents.values()) == 1
    town.run(400)
    assert town.story(name) == ["started", "wave", "wave", "done"]
    assert all(agent.running == 1 for agent in town.agents.values())
    assert town.controller.layers["group/vans"].content == WELL


def test_a_bad_change_stops_at_the_canary_and_all_are_back_within_one_probation() -> None:
    agents = make_agents(1_000, 3, shares={"dead": 0.05, "vanishes": 0.02, "crashes": 0.02, "liar": 0.02})
    town = Town(agents)
    first = town.push(WELL, waves=["100%"], gate=Gate(hold_s=1), timeout_s=180.0)
    town.run(300)
    assert town.controller.rollouts[first].state == "done"
    name = town.push(BROKEN, **PLAN)
    town.run(900)
    assert sum(agent.ever_bad for agent in agents) <= 10
    assert not any(agent.bad for agent in agents)
    assert town.story(name) == ["started", "failed", "rolled-back"]
    assert town.controller.layers["group/vans"].content == WELL
    # What the canaries were told last is what they ran before, under a number above the bad one's.
    reached = [agent for agent in agents if agent.ever_bad]
    assert reached
    assert all(agent.number == 3 and town.content(agent.name) == WELL for agent in reached)


def test_dead_agents_do_not_hold_a_rollout_up() -> None:
    agents = make_agents(200, 5, shares={"dead": 0.05})
    town = Town(agents)
    name = town.push(WELL, **PLAN)
    town.run(600)
    assert town.story(name)[-1] == "done"
    assert "not heard of yet" in town.controller.rollouts[name].reason


def test_a_canary_whose_agents_vanish_stops_the_rollout() -> None:
    agents = make_agents(100, 7, shares={"vanishes": 1.0})
    town = Town(agents)
    name = town.push(BROKEN, **PLAN)
    town.run(400)
    assert town.story(name)[:2] == ["started", "failed"]
    assert sum(agent.ever_bad for agent in agents) == 1


def test_agents_that_lie_are_found_out_by_their_alerts() -> None:
    agents = make_agents(100, 9, shares={"liar": 1.0})
    town = Town(agents)
    name = town.push(BROKEN, waves=["5", "100%"], gate=Gate(hold_s=120), timeout_s=180.0)
    town.run(400)
    assert town.story(name)[:2] == ["started", "failed"]
    assert "new alerts" in next(step.why for step in town.steps if step.action == "failed")
    assert 1 <= sum(agent.ever_bad for agent in agents) <= 5
    assert not any(agent.bad for agent in agents)


def test_an_agent_that_was_away_for_weeks_gets_the_newest_only() -> None:
    agents = well(10)
    agents[0].back_us = NOON + 14 * 86_400 * 1_000_000
    town = Town(agents)
    for round_ in range(3):
        town.push(f"[batch]\nmax_age_ms = {round_}\n", waves=["100%"], gate=Gate(hold_s=1), timeout_s=180.0)
        town.run(400)
    assert agents[0].number == 0
    town.run(15 * 86_400, step_s=3_600)
    assert (agents[0].number, agents[0].running) == (3, 3)


def test_pause_stops_telling_and_resume_goes_on() -> None:
    town = Town(well(20))
    name = town.push(WELL, waves=["100%"], gate=QUICK, pace=6, timeout_s=180.0)
    town.run(20)
    told = len(town.controller.fleet.told)
    assert told == 3
    town.ask("pause", name)
    town.run(60)
    assert len(town.controller.fleet.told) == told
    town.ask("resume", name)
    town.run(600)
    assert town.story(name) == ["started", "paused", "resumed", "done"]


def test_a_wave_that_needs_a_person_waits_for_one() -> None:
    town = Town(well(20))
    name = town.push(WELL, waves=["2", "100%!"], gate=QUICK, timeout_s=180.0)
    town.run(200)
    assert town.controller.rollouts[name].state == "waiting"
    assert len(town.controller.fleet.told) == 2
    town.ask("approve", name)
    town.run(200)
    assert town.story(name) == ["started", "waiting", "approved", "done"]


def test_abort_leaves_it_with_those_that_have_it_and_the_next_push_goes_over_that() -> None:
    town = Town(well(20))
    name = town.push(WELL, waves=["5", "100%!"], gate=QUICK, timeout_s=180.0)
    town.run(200)
    town.ask("abort", name)
    assert town.controller.rollouts[name].state == "aborted"
    follow = town.push("[batch]\nmax_age_ms = 7\n", waves=["100%"], gate=QUICK, timeout_s=180.0)
    town.run(200)
    assert town.story(name)[-1] == "done"
    assert town.story(follow)[-1] == "done"
    assert {town.content(agent) for agent in town.agents} == {"[batch]\nmax_age_ms = 7\n"}


def test_a_rollback_brings_the_old_content_under_a_higher_number() -> None:
    town = Town(well(10))
    town.push(WELL, waves=["100%"], gate=QUICK, timeout_s=180.0)
    town.run(200)
    name = town.push("[batch]\nmax_age_ms = 7\n", waves=["100%"], gate=QUICK, timeout_s=180.0)
    town.run(200)
    town.ask("rollback", name, why="batteries")
    town.run(200)
    assert town.story(name) == ["started", "done", "rolling-back", "rolled-back"]
    assert {(agent.number, town.content(agent.name)) for agent in town.agents.values()} == {(3, WELL)}
    assert town.controller.layers["group/vans"].content == WELL


def test_two_rollouts_on_the_same_agents_are_refused_by_name() -> None:
    town = Town(well(10))
    name = town.push(WELL, **PLAN)
    assert town.push("[batch]\nmax_age_ms = 7\n", **PLAN) == ""
    assert f"{name} is running on 10 of these agents" in town.steps[-1].why


def test_a_push_that_changes_nothing_is_refused() -> None:
    town = Town(well(10))
    town.push(WELL, waves=["100%"], gate=QUICK, timeout_s=180.0)
    town.run(200)
    assert town.push(WELL, **PLAN) == ""
    assert "nothing changes" in town.steps[-1].why


@pytest.mark.parametrize(
    ("content", "said"),
    [("[agent]\nname = 'x'\n", "agent.name cannot be pushed"), ("[batch", "is not TOML"), ("[ota]\na=1", "ota cannot")],
)
def test_a_layer_that_no_agent_could_take_is_refused_with_its_place(content: str, said: str) -> None:
    town = Town(well(3))
    assert town.push(content, **PLAN) == ""
    assert said in town.steps[-1].why


def test_the_loser_of_a_race_is_told() -> None:
    town = Town(well(10))
    name = town.push(WELL, **PLAN)
    seen = town.controller.rollouts[name].version
    town.ask("pause", name, seen_version=seen)
    town.ask("abort", name, seen_version=seen)
    assert town.controller.rollouts[name].state == "paused"
    assert "has changed since you looked" in town.steps[-1].why


def test_nobody_is_told_outside_the_windows() -> None:
    town = Town(well(10))  # NOON is 08:00 UTC on a Friday
    night = Window([4], "22:00", "05:00", "UTC")
    name = town.push(WELL, waves=["100%"], gate=QUICK, windows=[night], timeout_s=180.0)
    town.run(13 * 3_600, step_s=600)
    assert not town.controller.fleet.told
    town.run(2 * 3_600, step_s=10)
    assert town.story(name)[-1] == "done"


def test_failed_agents_are_told_again_on_request() -> None:
    agents = make_agents(40, 11, shares={"vanishes": 0.1})
    town = Town(agents)
    gate = Gate(success=0.5, hold_s=10)
    name = town.push(BROKEN, waves=["100%"], gate=gate, timeout_s=100.0, on_failure="stop")
    town.run(200)
    assert town.controller.rollouts[name].state == "stopped"
    town.ask("retry", name)
    assert town.steps[-1].action == "retried"
    assert town.steps[-1].agents == 40


def test_fresh_signatures_come_before_the_old_ones_end() -> None:
    town = Town(well(5))
    town.push(WELL, waves=["100%"], gate=QUICK, timeout_s=180.0)
    town.run(200)
    from tidegate_cloud.rollouts.controller import Effects

    early, late = Effects(), Effects()
    town.controller.turn(town.now_us + 6 * 86_400 * 1_000_000, early)
    town.controller.turn(town.now_us + 8 * 86_400 * 1_000_000, late)
    assert not early.renew
    assert sorted(late.renew) == sorted(town.agents)


@settings(max_examples=25, deadline=None)
@given(st.sets(st.integers(0, 399), max_size=12), st.integers(0, 3))
def test_kills_of_the_server_change_nothing_of_how_it_ends(turns: set[int], seed: int) -> None:
    shares = {"dead": 0.1, "vanishes": 0.1} if seed % 2 else {"crashes": 0.1}
    ends = []
    for crash_at in (frozenset(), frozenset(turns)):
        town = Town(make_agents(40, seed, shares=shares))
        town.push(WELL, waves=["100%"], gate=Gate(hold_s=1, success=0.5), timeout_s=100.0)
        town.run(200)
        town.push(BROKEN if seed < 2 else "[batch]\nmax_age_ms = 5\n", **PLAN)
        town.run(400, crash_at=crash_at)
        town.run(400)
        states = {name: rollout.state for name, rollout in town.controller.rollouts.items()}
        layers = {name: layer.content for name, layer in town.controller.layers.items()}
        ends.append((states, layers, {name: town.content(name) for name in town.agents}))
    assert ends[0] == ends[1]
