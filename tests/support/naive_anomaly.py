"""Naive twin of the anomaly operator's kernel: one channel of one device, in the plainest Python. Slow, and right by
reading. It takes the kernels' constants, and local time from `zoneinfo`; all else is its own.
"""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from typing import NamedTuple
from zoneinfo import ZoneInfo

import numpy as np
from tidegate_cloud.operators.anomaly_words import SIGNALS
from tidegate_cloud.operators.kernels import anomaly as k
from tidegate_cloud.operators.kernels import anomaly_checks as checks
from tidegate_cloud.operators.kernels import anomaly_novelty as novel
from tidegate_cloud.operators.kernels import anomaly_tails as tails
from tidegate_cloud.operators.kernels import anomaly_usual as usual

KINDS = ("begin", "settled", "candidate")
NAN = math.nan


class Said(NamedTuple):
    """What the kernel says at a reading: see `kernels.anomaly.watch` for the numbers."""

    scan: int
    kind: str
    signal: str
    numbers: tuple[float, float, float, float, float, float]


def clip(x: float, most: float) -> float:
    return max(-most, min(most, x))


def weight(dt: float, constant: float) -> float:
    """Of a reading after dt seconds in a mean with this time constant: dt / (dt + constant) to the second order."""
    return dt / constant - (dt / constant) ** 2


class Record:
    """The range that a signal has kept to."""

    def __init__(self) -> None:
        self.low = self.high = 0.0

    def margin(self, x: float, known: int, shrink: float) -> float:
        """How far x lies beyond it in units of its extent, 0 before it has `known` 50 values; x then belongs to it."""
        if known == 0:
            self.low = self.high = x
            return 0.0
        extent = self.high - self.low
        beyond = max(x - self.high, self.low - x)
        out = beyond / extent if beyond > 0 and extent > 0 and known >= 50 else 0.0
        self.low = min(x, self.low + extent * shrink / 2)
        self.high = max(x, self.high - extent * shrink / 2)
        return out


class Tail:
    """The threshold of one score, learnt from the peaks of its episodes."""

    def __init__(self, number: int, began: float, budget: float) -> None:
        self.bound = tails.BOUND[number]
        self.wanted = tails.SHARE[number] * budget
        self.prior_weeks, self.prior_heights = tails.PRIOR_WEEKS[number], tails.PRIOR_HEIGHTS[number]
        self.prior_episodes = tails.PRIOR_RATE[number] * self.prior_weeks
        self.prior_sum = tails.PRIOR_HEIGHT[number] * self.prior_heights
        self.began = began
        self.heights: list[float] = []
        self.peak, self.peak_t = 0.0, 0.0

    def ratio(self, score: float, t: float, hold: float) -> float:
        if self.peak > 0 and t - self.peak_t > hold:
            self.heights.append(math.log(self.peak / self.bound))
            self.peak = 0.0
        weeks = (t - self.began) / tails.WEEK_S
        per_week = (len(self.heights) + self.prior_episodes) / (weeks + self.prior_weeks)
        mean_height = (sum(self.heights) + self.prior_sum) / (len(self.heights) + self.prior_heights)
        threshold = self.bound * max(1.0, per_week / self.wanted) ** mean_height
        self.peak = max(self.peak, min(score, tails.MOST * threshold))
        self.peak_t = t
        return score / threshold


class Clock:
    """Half hours of a device's local time."""

    def __init__(self, zone: str) -> None:
        self.zone = ZoneInfo(zone or "UTC")

    def local(self, t: float) -> tuple[int, int, float]:
        """Days since 1970 and seconds into the day by the local clock, and the clock's offset from UTC in seconds."""
        # Offsets change at whole seconds.
        moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=math.floor(t))
        shift = moment.astimezone(self.zone).utcoffset()
        assert shift is not None
        offset = int(shift.total_seconds())
        day = math.floor((t + offset) / 86400)
        return day, offset, t + offset - 86400 * day


class Usual:
    """What is usual at a time of day: means of visits to half hours, on weekdays, at weekends, and on all days."""

    def __init__(self) -> None:
        self.mean = {days: [np.float32(0)] * 48 for days in ("week", "weekend", "all")}
        self.visits = {days: [0] * 48 for days in ("week", "weekend", "all")}

    def learn(self, days: str, half_hour: int, mean: float, limit: float) -> None:
        for which in (days, "all"):
            visits = self.visits[which][half_hour]
            surprise = mean - float(self.mean[which][half_hour])
            if visits >= 2:
                surprise = clip(surprise, limit)
            # The sum is of two 24 bit numbers.
            self.mean[which][half_hour] += np.float32(surprise / min(visits + 1, usual.VISITS))
            self.visits[which][half_hour] = min(visits + 1, 250)

    def known(self, days: str, half_hour: int) -> bool:
        return self.visits[days][half_hour] > 0

    def slope(self, days: str, half_hour: int, into: float) -> float:
        """What to add to the half hour's mean `into` seconds after its middle: on the line to its neighbour."""
        there = (half_hour + (1 if into >= 0 else -1)) % 48
        if not (self.known(days, half_hour) and self.known(days, there)):
            return 0.0
        rise = float(self.mean[days][there]) - float(self.mean[days][half_hour])
        return rise * abs(into) / 1800


class Trend:
    """Drift: the residuals' mean over hours less that over days, by half hours."""

    def __init__(self) -> None:
        self.halves = 0
        self.fast = self.slow = self.size = self.last_t = 0.0
        self.residuals: list[float] = []

    def half_hour_over(self, t: float, residual_size: float) -> bool:
        """Whether the trend may be judged now."""
        if not self.residuals:
            return False
        mean = clip(math.fsum(self.residuals) / len(self.residuals), 4 * residual_size)
        self.residuals = []
        span = min(max(t - self.last_t, 1800.0), 5400.0)
        self.last_t = t
        young = 1 / (self.halves + 1)
        self.fast += max(span / (span + usual.FAST_S), young) * (mean - self.fast)
        self.slow += max(span / (span + usual.TREND_S), young) * (mean - self.slow)
        if self.halves >= 48:
            apart = abs(self.fast - self.slow)
            if self.halves > 100 and self.size > 0:
                apart = min(apart, 3 * self.size)
            self.size += max(span / (span + usual.TREND_SIZE_S), 1 / (self.halves - 47)) * (apart - self.size)
        self.halves += 1
        return self.halves > usual.HALVES_MIN


class Days:
    """Highest and lowest value of the last days."""

    def __init__(self) -> None:
        self.over: list[tuple[float, float]] = []
        self.day: int | None = None
        self.low, self.high = math.inf, -math.inf

    def turn(self, day: int) -> None:
        if day != self.day:
            if self.day is not None:
                self.over.append((float(np.float32(self.low)), float(np.float32(self.high))))
            self.day = day
            self.low, self.high = math.inf, -math.inf

    def add(self, x: float) -> None:
        self.low, self.high = min(self.low, x), max(self.high, x)

    def since(self, x: float) -> int:
        if self.low < x < self.high:
            return 0
        past = self.over[-usual.DAYS :][::-1]
        higher = next((i for i, (_, high) in enumerate(past) if x <= high), len(past))
        lower = next((i for i, (low, _) in enumerate(past) if x >= low), len(past))
        if x >= self.high and higher >= lower:
            return higher
        return -lower if x <= self.low else 0


class Channel:
    """One channel of one device; `reading` takes its readings one by one."""

    def __init__(
        self, budget: float = 0.1, zone: str = "", wide: float = 1.0, keep: tuple[float, float] = (math.inf, -math.inf),
        low: float = -math.inf, high: float = math.inf,
    ) -> None:  # fmt: skip
        self.budget, self.wide, self.keep, self.low, self.high = budget, wide, keep, low, high
        self.clock, self.usual, self.trend, self.days = Clock(zone), Usual(), Trend(), Days()
        self.seen = 0  # values within the range
        self.t = self.first = 0.0
        self.tails: list[Tail] = []
        self.open: dict[str, float] | None = None
        self.signal = ""
        self.over_t = self.hold = self.apart = 0.0
        # Intervals.
        self.dt_mean = self.dt_longest = self.age_s = 0.0
        self.gap_told = False
        # Time of day.
        self.half: tuple[int, int, int] | None = None
        self.visit: list[float] = []
        # Novelty.
        self.records = {name: Record() for name in ("value", "surprise", "signed", "daily", "class")}
        self.slow = self.size = self.surprise = self.signed = self.recent = 0.0
        self.daily_residuals = self.residuals = 0
        self.residual_size = 0.0
        self.step = self.step_mean = self.ratio = self.ratio_record = 0.0
        # Checks.
        self.x = self.level = self.base = self.c = 0.0
        self.base_kind = 0
        self.c0 = self.c1 = self.c_size = self.phi = 0.0
        self.e_size = self.e_quick = self.e_moved = 0.0
        self.last_u = [0.0, 0.0, 0.0]
        self.shift = self.shift_size = self.rough = 0.0
        self.repeats, self.run, self.run_longest, self.run_told = 0.0, 0, 0.0, False

    def reading(self, scan: int, us: int, v: float) -> tuple[list[Said], float]:
        """What is said at this reading, and its novelty."""
        t = us * 1e-6
        if self.seen and t <= self.t:
            return [], 0.0
        said: list[Said] = []
        if self.open and t > self.over_t:
            o, self.open = self.open, None
            numbers = (o["highest"], NAN, NAN, o["peak"], o["peak_us"], o["since_us"])
            said.append(Said(scan, "settled", self.signal, numbers))
        if not abs(v) <= k.MOST_VALUE:
            if self.seen > k.ANCHOR + 20 and not self.gap_told and self._overdue(t - self.t):
                self.gap_told = True
                said += self._alarm(scan, us, NAN, "gap", 1.0, NAN, NAN, 0, self.hold)
            return said, 0.0
        if not self.low <= v <= self.high:
            said += self._alarm(
                scan, us, v, "range", 1.0, self.low, self.high, self.days.since(v - self.first),
                max(self.hold, k.EPISODE_S_LEAST),
            )  # fmt: skip
            if self.seen:
                self.t = t
            return said, 0.0
        self.seen += 1
        if self.seen == 1:
            self.tails = [Tail(i, t, self.budget) for i in range(tails.JOINT)]
        if self.seen <= k.ANCHOR:
            self.first = v
            if self.seen > 1:
                dt = t - self.t
                self.dt_mean += (dt - self.dt_mean) / (self.seen - 1)
                self.dt_longest = max(self.dt_longest, dt)
            self.t = t
            return said, 0.0
        novelty = self._learn(scan, us, t, v, said)
        return said, novelty

    def _overdue(self, dt: float) -> bool:
        return dt > k.GAP_MISSED * self.dt_mean and dt > 1.5 * self.dt_longest

    def _alarm(
        self, scan: int, us: int, v: float, signal: str, ratio: float, low: float, high: float, days: int, hold: float
    ) -> list[Said]:
        said = []
        if self.open is None:
            self.open = {"highest": 0.0, "since_us": us}
            self.signal = signal
            said = [Said(scan, "begin", signal, (ratio, low, high, v, days, self.seen))]
        if ratio > self.open["highest"]:
            self.open |= {"highest": ratio, "peak": v, "peak_us": us}
        self.over_t = max(self.over_t, us * 1e-6 + (k.EPISODE_S_MOST if signal == "drift" else hold))
        return said

    def _learn(self, scan: int, us: int, t: float, v: float, said: list[Said]) -> float:
        n = self.seen - 1 - k.ANCHOR
        young = 1 / (n + 1) if n < 2000 else 0.0
        x = v - self.first
        alarms: list[tuple[float, str]] = []
        if self._interval(n, t):
            alarms.append((1.0, "gap"))
        paused, dt = self.paused, self.dt
        shrink = dt / novel.RECORD_S
        self._time_of_day(t, x)
        expected, base_kind, low, high, margin, signal = self._signals(n, t, x, dt, young, shrink)
        novelty = self._refractory(n, dt, margin)
        if novelty > tails.BOUND[tails.NOVELTY]:
            alarms.append((self.tails[tails.NOVELTY].ratio(novelty, t, self.apart) / self.wide, signal))
        alarms += self._checks(n, t, x, dt, young, expected, base_kind, paused)
        if self._stuck(n, x, young):
            alarms.append((1.0, "stuck"))
        if self.judge_trend:
            apart = abs(self.trend.fast - self.trend.slow)
            still = checks.STILL_WEIGHT * self.e_moved
            size = max(self.trend.size, still if self.e_size < still else 0.0)
            if size > 0 and apart > tails.BOUND[tails.DRIFT] * size:
                alarms.append((self.tails[tails.DRIFT].ratio(apart / size, t, k.EPISODE_S_MOST) / self.wide, "drift"))
        self.x = x
        self._episode(scan, us, v, x, alarms, low, high, said)
        return novelty

    def _interval(self, n: int, t: float) -> bool:
        """Learn the interval before this reading; whether it was a gap that was not told yet."""
        dt = t - self.t
        self.t = t
        self.paused = gap = False
        if n < 20:
            self.dt_mean += (dt - self.dt_mean) / (n + k.ANCHOR)
            self.dt_longest = max(self.dt_longest, dt)
        else:
            usual_dt = 3 * self.dt_mean
            self.paused = dt > usual_dt
            if self.paused and self._overdue(dt):
                gap = not self.gap_told
                if self.gap_told:
                    self.over_t = max(self.over_t, t + self.hold)
            self.dt_longest *= 1 - 1e-4
            if dt > self.dt_longest:
                self.dt_longest = min(dt, max(1.5 * self.dt_longest, usual_dt))
            dt = min(dt, usual_dt)
            self.dt_mean += 0.02 * (dt - self.dt_mean)
        self.gap_told = False
        # Peaks of a score are told apart by readings, alarms not below an hour.
        self.apart = min(k.EPISODE_INTERVALS * self.dt_mean, k.EPISODE_S_MOST)
        self.hold = max(self.apart, k.EPISODE_S_LEAST)
        # Long intervals count as SPARSE_S each.
        self.dt = dt * min(1.0, k.SPARSE_S / self.dt_mean)
        self.age_s += self.dt
        return gap

    def _time_of_day(self, t: float, x: float) -> None:
        day, offset, second = self.clock.local(t)
        half = min(int(second / 1800), 47)
        self.judge_trend = False
        if self.half != (day, half, offset):
            self.judge_trend = self.trend.half_hour_over(t, self.residual_size)
            if self.visit and self.half is not None:
                limit = usual.ROBUST * self.residual_size if self.residuals >= 200 else math.inf
                self.usual.learn(self.kind_of_day, self.half[1], math.fsum(self.visit) / len(self.visit), limit)
            self.visit = []
            self.half = (day, half, offset)
            # 1 January 1970 was a Thursday.
            self.kind_of_day = "weekend" if (day + 3) % 7 >= 5 else "week"
            self.days.turn(day)
        self.into = second - 1800 * half - 900
        self.visit.append(x)
        self.days.add(x)

    def _signals(
        self, n: int, t: float, x: float, dt: float, young: float, shrink: float
    ) -> tuple[float, int, float, float, float, str]:
        """What was expected, by what (0 nothing, 1 all days, 2 this kind of day), the band, the novelty, its signal."""
        record = self.records
        half = self.half[1] if self.half else 0
        low, high = record["value"].low, record["value"].high
        found = [(record["value"].margin(x, n, shrink), "value")]
        r = x - self.slow
        self.slow += max(weight(dt, novel.SLOW_S), young) * r
        self.size += max(weight(dt, novel.SIZE_S), young) * (abs(r) - self.size)
        z = clip(r / self.size, novel.CLIP) if self.size > 0 else clip(r * math.inf, novel.CLIP) if r else 0.0
        self.surprise += weight(dt, novel.SURPRISE_S) * (abs(z) - self.surprise)
        self.signed += weight(dt, novel.SURPRISE_S) * (z - self.signed)
        found.append((record["surprise"].margin(self.surprise, n, shrink), "surprise"))
        found.append((record["signed"].margin(self.signed, n, shrink), "one-sided"))
        expected, base_kind = 0.0, 0
        this_kind = self.usual.known(self.kind_of_day, half)
        slope = self.usual.slope(self.kind_of_day if this_kind else "all", half, self.into)
        if self.usual.known("all", half):
            base_kind = 1
            expected = float(self.usual.mean["all"][half]) + slope
            margin = record["daily"].margin(x - expected, self.daily_residuals, shrink)
            found.append((margin, "time of day, all days"))
            self.daily_residuals += 1
        if this_kind:
            base_kind = 2
            expected = float(self.usual.mean[self.kind_of_day][half]) + slope
            e = x - expected
            if self.residuals >= 50:
                low, high = expected + record["class"].low, expected + record["class"].high
            found.append((record["class"].margin(e, self.residuals, shrink), "time of day"))
            self.residuals += 1
            size, a = abs(e), weight(dt, novel.RESIDUAL_S)
            if self.residuals < 200:
                a = max(a, 1 / self.residuals)
            elif self.residual_size > 0:
                size = min(size, usual.ROBUST * self.residual_size)
            self.residual_size += a * (size - self.residual_size)
            self.trend.residuals.append(e)
        found += self._steps(n, abs(x - self.x), dt, young, shrink)
        # Of equals the first.
        margin, signal = max(found, key=lambda pair: pair[0])
        return expected, base_kind, self.first + low, self.first + high, margin, signal

    def _steps(self, n: int, change: float, dt: float, young: float, shrink: float) -> list[tuple[float, str]]:
        found = []
        before = self.step
        self.step *= 1 - shrink
        if change > self.step:
            if n >= 50 and before > 0:
                found.append((novel.STEP_WEIGHT * (change / before - 1), "step"))
            self.step = change
        if self.step_mean > 0:
            self.ratio += weight(dt, novel.NOISE_S) * (min(change / self.step_mean, 8.0) - self.ratio)
            before = self.ratio_record
            self.ratio_record *= 1 - dt / novel.NOISE_RECORD_S
            if self.ratio > self.ratio_record:
                if n >= 50 and before > 0:
                    found.append((novel.NOISE_WEIGHT * (self.ratio / before - 1), "noise"))
                self.ratio_record = self.ratio
        self.step_mean += max(weight(dt, novel.STEP_S), young) * (change - self.step_mean)
        return found

    def _refractory(self, n: int, dt: float, s: float) -> float:
        """Novelty: less while the channel is young, and none unless it has grown since it last was."""
        self.recent *= 1 - weight(dt, novel.HOLD_S)
        if s <= 0:
            return 0.0
        age = min(float(n), self.age_s * novel.WARM_READINGS / novel.WARM_S)
        s *= age / (age + novel.WARM_READINGS)
        new = s > novel.REFRACTORY * self.recent
        self.recent = max(self.recent, s)
        return s if new else 0.0

    def _checks(
        self, n: int, t: float, x: float, dt: float, young: float, expected: float, base_kind: int, paused: bool
    ) -> list[tuple[float, str]]:
        found = []
        change = abs(x - self.x)
        if base_kind != self.base_kind:
            self.level += self.base - expected
        c = x - expected - self.level
        e = c - self.phi * self.c
        calm = max(self.e_size, checks.STILL_WEIGHT * self.e_moved)
        size = max(calm, checks.QUICK_WEIGHT * self.e_quick)
        if size == 0 and change > 0 and self.age_s > checks.STILL_S:
            calm = size = 1e-3 * change
        if size > 0:
            u = e / size
            pair = min(abs(u), max(self.last_u))
            self.last_u = [abs(u), *self.last_u[:2]]
            self.shift += checks.SHIFT_WEIGHT * (clip(u, checks.SHIFT_CLIP) - self.shift)
            self.rough += checks.ROUGH_WEIGHT * (min(abs(e) / calm, checks.ROUGH_CLIP) - self.rough)
            scores = (
                ("spike", tails.SPIKE, abs(u)), ("pair", tails.PAIR, pair),
                ("shift", tails.SHIFT, abs(self.shift) / max(self.shift_size, checks.SHIFT_LEAST)),
                ("rough", tails.ROUGH, self.rough),
            )  # fmt: skip
            if n >= checks.CHECKS_FROM and not paused:
                factor = self.wide * (1 + checks.YOUNG_READINGS / (n + 1) + checks.YOUNG_S / (self.age_s + 600))
                found = [
                    (self.tails[tail].ratio(score, t, self.apart) / factor, name)
                    for name, tail, score in scores
                    if score > tails.BOUND[tail]
                ]
            clipped = abs(self.shift)
            if n > 50 and self.shift_size > 0:
                clipped = min(clipped, 4 * self.shift_size)
            self.shift_size += max(checks.MEMORY, young) * (clipped - self.shift_size)
        self._learn_sizes(n, c, e, change, size, dt, young, paused)
        self.c = x - expected - self.level
        self.base, self.base_kind = expected, base_kind
        return found

    def _learn_sizes(
        self, n: int, c: float, e: float, change: float, size: float, dt: float, young: float, paused: bool
    ) -> None:
        a = max(checks.MEMORY, young)
        e_clipped = min(abs(e), 3 * size) if n > 20 and size > 0 else abs(e)
        self.e_size += a * (e_clipped - self.e_size)
        self.e_quick += max(checks.QUICK, young) * (e_clipped - self.e_quick)
        if change > 0:
            if self.e_moved > 0:
                self.e_moved += max(a, 0.002) * (min(abs(e), 3 * self.e_moved) - self.e_moved)
            else:
                self.e_moved = abs(e)
        bounded = n > 20 and self.c_size > 0
        most = 4 * self.c_size if bounded else math.inf
        learnt = clip(c, most)
        if not paused:
            last = clip(self.c, most)
            self.c0 += a * (last * last - self.c0)
            self.c1 += a * (learnt * last - self.c1)
            if self.c0 > 0:
                self.phi = min(max(self.c1 / self.c0, 0.0), 0.99)
        self.c_size += a * ((min(abs(c), 3 * self.c_size) if bounded else abs(c)) - self.c_size)
        self.level += max(weight(dt, checks.LEVEL_S), young) * learnt

    def _stuck(self, n: int, x: float, young: float) -> bool:
        equal = x == self.x
        told = False
        if equal:
            self.run += 1
            enough = self.run >= 2 * max(1.5 * self.run_longest, 2.5)
            if n >= checks.STUCK_FROM and not self.run_told and enough and self.repeats < 0.998:
                told = self.run * math.log(self.repeats * 0.999 + 1 / (n + 1)) < -18
                self.run_told = told
        else:
            if not self.run_told:
                self.run_longest = max(self.run_longest, self.run)
            self.run, self.run_told = 0, False
        self.repeats += max(0.001, young) * (equal - self.repeats)
        self.run_longest *= 1 - 2e-5
        return told

    def _episode(
        self, scan: int, us: int, v: float, x: float, alarms: list[tuple[float, str]], low: float, high: float,
        said: list[Said],
    ) -> None:  # fmt: skip
        if not alarms:
            return
        ratio = max(ratio for ratio, _ in alarms)
        # Of equals the first.
        signal = next(name for r, name in alarms if r == ratio)
        if ratio <= k.CANDIDATE_RATIO:
            return
        usual_by_people = (
            self.keep[0] <= self.keep[1]
            and signal in ("value", "time of day", "time of day, all days", "step", "spike", "pair")
            and min(self.keep[0], low) <= v <= max(self.keep[1], high)
        )
        if ratio >= 1.0 and not usual_by_people:
            said += self._alarm(scan, us, v, signal, ratio, low, high, self.days.since(x), self.hold)
        elif ratio < 1.0 and self.open is None:
            said.append(Said(scan, "candidate", signal, (ratio, low, high, v, 0.0, self.seen - 1 - k.ANCHOR)))


def watch(us: np.ndarray, values: np.ndarray, channel: Channel) -> tuple[list[Said], np.ndarray]:
    """All that is said about these readings, and their novelty."""
    said: list[Said] = []
    novelty = np.zeros(len(values))
    for i, (at, v) in enumerate(zip(us.tolist(), values.tolist(), strict=True)):
        found, novelty[i] = channel.reading(i, at, v)
        said += found
    return said, novelty


__all__ = ["KINDS", "SIGNALS", "Channel", "Said", "watch"]
