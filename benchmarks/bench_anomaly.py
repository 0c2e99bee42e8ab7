"""Anomaly: readings per second at 10,000 channels, a simulated fleet with known faults, and the NAB corpus. Rules:
conditions per second.

The fleet (anomaly_fleet.py): 200 channels for 8 weeks, a reading each 5 minutes; fewer channels at 1 minute and 1 s.
Seeds 2 and 3 were used for tuning; the figures are for seeds that were not.

NAB is scored with ../shared/tools/nab_score.py where that and pandas are at hand, with one parameter set: at the best
threshold per profile, and with the threshold picked on three quarters of the files and applied to the fourth.

Rules: eight expressions over four channels, each `for` a while, on the scans of 1,000 devices; beside them the same
conditions as compiled Python expressions, evaluated scan by scan with a dict for what is pending. The peer of
`channels` is river's HalfSpaceTrees with its defaults on one channel, where river is installed.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numba
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tidegate_cloud.operators import Block, Control
from tidegate_cloud.operators.anomaly import ROW, Anomaly
from tidegate_cloud.operators.condition import Condition
from tidegate_protocols.registry import Rule
from tidegate_protocols.schema import Channel, Schema

from benchmarks.anomaly_fleet import KINDS, Judged, fleet
from benchmarks.common import Row, run
from tests.support.data import data_dir

SCHEMA = Schema("one", (Channel("v"),))
JUDGE_SEEDS = (101, 102, 103, 104)


def block_of(seconds: np.ndarray, values: np.ndarray, device: np.ndarray | None = None, devices: int = 1) -> Block:
    n = len(values)
    zero = np.zeros(n, np.int64)
    place = np.zeros(n, np.int32) if device is None else device
    return Block(
        SCHEMA, [f"d{i}" for i in range(devices)], place, np.round(seconds * 1e6).astype(np.int64),
        (values.astype(np.float64),), (None,), zero, zero, zero.astype(np.int32), np.zeros(n, np.bool_),
    )  # fmt: skip


def budget_rows(quick: bool) -> Iterator[Row]:
    operator, nothing = Anomaly(), Control()
    for interval_s, channels, seeds in ((300.0, 200, JUDGE_SEEDS), (60.0, 100, JUDGE_SEEDS[:1]), (1.0, 8, (101,))):
        if quick and interval_s != 300.0:
            continue
        judged = Judged()
        for seed in seeds[: 1 if quick else None]:
            for made in fleet(seed, channels, 8, interval_s):
                # The device speaks on when the channel does not.
                block = block_of(made.seconds, np.where(made.lost, np.nan, made.values))
                state = operator.new_state()
                found = operator.watch(block, SCHEMA.channels[0], state.numbers(block.devices), state, nothing)
                judged.add(made, made.seconds[found[0][found[1] == 0]])
        end = "" if interval_s == 300.0 else f"/{interval_s:g}s"
        yield Row(f"budget{end}", "false_episodes_per_channel_week", judged.false_per_week, "1")
        yield Row(f"budget{end}", "channels_above_0.3_per_week", judged.noisy(0.3), "1")
        yield Row(f"budget{end}", "event_recall", judged.recall(), "1")
        yield Row(f"budget{end}", "median_delay_s", judged.median_delay_s(), "s")
        for fault in KINDS:
            yield Row(f"fault/{fault}{end}", "recall", judged.recall(fault), "1")
            yield Row(f"fault/{fault}{end}", "median_delay_s", judged.median_delay_s(fault), "s")


def speed_rows(quick: bool) -> Iterator[Row]:
    channels, each = 10_000, 100 if quick else 400
    operator = Anomaly()
    rng = np.random.default_rng(0)
    state = operator.new_state()
    best = np.inf
    for turn in range(4):
        # Readings arrive in runs of 16 a channel, as frames carry them.
        device = np.tile(np.repeat(np.arange(channels, dtype=np.int32), 16), each // 16)
        order = np.arange(len(device)) // (channels * 16) * 16 + np.arange(len(device)) % 16
        block = block_of(1.7e9 + (turn * each + order) * 300.0, rng.normal(size=len(device)), device, channels)
        numbers = state.numbers(block.devices)
        start = time.process_time()
        operator.watch(block, SCHEMA.channels[0], numbers, state, Control())
        if turn:
            best = min(best, (time.process_time() - start) / len(device))
    peer = _half_space_trees(quick)
    against = "" if peer is None else "river HalfSpaceTrees"
    yield Row(f"channels/{channels}", "readings_per_s", 1 / best, "1/s", against or None, peer)
    yield Row(f"channels/{channels}", "bytes_per_channel", ROW.itemsize, "B")


def _half_space_trees(quick: bool) -> float | None:
    """Readings per second of river's HalfSpaceTrees: score, then learn, one channel; None without river."""
    if importlib.util.find_spec("river") is None:
        print("HalfSpaceTrees are left out: they need river", file=sys.stderr)
        return None
    trees = importlib.import_module("river.anomaly").HalfSpaceTrees(seed=1)
    readings = [{"v": x} for x in np.random.default_rng(0).uniform(size=2_000 if quick else 20_000).tolist()]
    start = time.process_time()
    for reading in readings:
        trees.score_one(reading)
        trees.learn_one(reading)
    return len(readings) / (time.process_time() - start)


RULES = (
    "temp > 95 and speed < 2 for 30s", "rpm > 3000 or temp > 110 for 10s", "temp - oil > 20 for 1min", "oil < 1 for 5s",
    "not (speed > 0) and rpm > 2500 for 20s", "max(temp, oil) > 105 for 30s", "abs(temp - oil) < 0.1 for 1min",
    "speed * rpm > 90000 for 30s",
)  # fmt: skip


def rule_rows(quick: bool) -> Iterator[Row]:
    devices, each = 1_000, 120 if quick else 400
    rng = np.random.default_rng(0)
    names = ("temp", "speed", "rpm", "oil")
    n = devices * each
    # A device's values stay for 40 s each, so that conditions come to hold.
    columns = tuple(
        np.repeat(rng.uniform(0, high, (each // 40, devices)), 40, axis=0).ravel()
        for high in (120.0, 8.0, 4000.0, 110.0)
    )
    zero = np.zeros(n, np.int64)
    block = Block(
        Schema("engine", tuple(Channel(name) for name in names)), [f"d{i}" for i in range(devices)],
        np.tile(np.arange(devices, dtype=np.int32), each), np.repeat(np.arange(each) * 1_000_000, devices), columns,
        (None,) * 4, zero, zero, zero.astype(np.int32), np.zeros(n, np.bool_),
    )  # fmt: skip
    control = Control()
    for i, expression in enumerate(RULES):
        control.put_rule(Rule(id=f"r{i}", name="", expression=expression))
    operator = Condition()
    best, found = np.inf, 0
    for _ in range(3):
        state = operator.new_state()
        start = time.process_time()
        found = len(operator.process(block, state, control))
        best = min(best, time.process_time() - start)
    peer, told = _rules_in_python(block.take(np.arange(n // 3)), names)
    assert told == len(operator.process(block.take(np.arange(n // 3)), operator.new_state(), control))
    yield Row(
        f"rules/{len(RULES)}", "conditions_per_s", n * len(RULES) / best, "1/s", "compiled Python, scan by scan", peer
    )
    yield Row(f"rules/{len(RULES)}", "events", found, "1")


def _rules_in_python(block: Block, names: tuple[str, ...]) -> tuple[float, int]:
    """Conditions per second, and how many events, of what anybody would write first. There are no gaps or holes."""
    unit = {"s": 1_000_000, "min": 60_000_000}
    rules = []
    for rule in RULES:
        condition, _, lasts = rule.rpartition(" for ")
        number = lasts.rstrip("smin")
        rules.append((compile(condition, "rule", "eval"), int(number) * unit[lasts[len(number) :]]))
    rows = list(zip(block.device.tolist(), block.ts_us.tolist(), *(c.tolist() for c in block.columns), strict=True))
    stage: dict[tuple[int, int], int] = {}
    holding: set[tuple[int, int]] = set()
    told = 0
    start = time.process_time()
    for device, ts_us, *values in rows:
        scan = dict(zip(names, values, strict=True))
        for i, (condition, for_us) in enumerate(rules):
            key = device, i
            if not eval(condition, scan):
                stage.pop(key, None)
                if key in holding:
                    holding.remove(key)
                    told += 1
            elif key not in holding and ts_us - stage.setdefault(key, ts_us) >= for_us:
                holding.add(key)
                told += 1
    return len(rows) * len(rules) / (time.process_time() - start), told


def nab_rows() -> Iterator[Row]:
    scorer = _nab_scorer()
    if scorer is None:
        return
    operator = Anomaly()
    scores = []
    for file in scorer.files:
        seconds = file["ts"].astype("datetime64[s]").astype(np.float64)
        block = block_of(seconds, file["v"])
        score = np.empty(len(seconds))
        state = operator.new_state()
        operator.watch(block, SCHEMA.channels[0], state.numbers(block.devices), state, Control(), score)
        scores.append(score)
    best = scorer.score(scores)
    for metric, profile in (("standard", "standard"), ("low_fp", "low_FP"), ("low_fn", "low_FN")):
        yield Row("nab", metric, float(best[profile][0]), "points")
    yield Row("nab", "cross_validated", _cross_validated(scorer, scores), "points")


def _cross_validated(scorer: Any, scores: list[np.ndarray]) -> float:
    """Standard profile; threshold from three folds of the files, applied to the fourth; mean over ten shuffles."""
    thresholds = np.geomspace(0.02, 0.2, 60)
    by_threshold = [scorer.perfile(scores, threshold) for threshold in thresholds]
    hits = np.array([[found[file["rel"]][0] for found in by_threshold] for file in scorer.files])
    points = []
    for seed in range(10):
        order = np.random.default_rng(seed).permutation(len(hits))
        total = 0.0
        for fold in (order[i::4] for i in range(4)):
            chosen = int(np.argmax(hits.sum(axis=0) - hits[fold].sum(axis=0)))
            total += hits[fold, chosen].sum()
        points.append(scorer.norm(total, "standard"))
    return float(np.mean(points))


def _nab_scorer() -> Any | None:
    path = data_dir().parent / "tools" / "nab_score.py"
    if not path.exists() or importlib.util.find_spec("pandas") is None:
        print("NAB is left out: it needs pandas and nab_score.py", file=sys.stderr)
        return None
    # The folder is somebody's data: neither Python nor numba may leave anything in it.
    sys.dont_write_bytecode = True
    before = numba.config.CACHE_DIR  # type: ignore[attr-defined]
    numba.config.CACHE_DIR = tempfile.mkdtemp(prefix="nab-score-")  # type: ignore[attr-defined]
    try:
        sys.path.insert(0, str(path.parent))
        return importlib.import_module("nab_score").Scorer()
    finally:
        numba.config.CACHE_DIR = before  # type: ignore[attr-defined]


def measure(quick: bool) -> list[Row]:
    return [*speed_rows(quick), *budget_rows(quick), *nab_rows(), *rule_rows(quick)]


if __name__ == "__main__":
    run("anomaly", measure, packages=["numpy", "numba", "river"])
