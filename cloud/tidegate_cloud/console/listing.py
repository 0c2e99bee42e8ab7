"""Alerts in order, filtered and cut into pages: a hundred thousand of them, and the first page at once."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from tidegate_protocols.alerts import Alert
from tidegate_protocols.errors import BadInput

Key = tuple[int, str]
"""When an alert changed, and its id: the order of the list."""


@dataclass(frozen=True, slots=True)
class Filter:
    """What to list; what is empty does not matter. `text` is looked for in title, device, subject and rule."""

    states: frozenset[str] = frozenset()
    severities: frozenset[str] = frozenset()
    device: str = ""
    rule: str = ""
    kind: str = ""
    group: str = ""
    text: str = ""
    since_us: int | None = None
    until_us: int | None = None

    @property
    def is_counted(self) -> bool:
        """Whether how many there are is known without looking at each."""
        return self == Filter(states=self.states, severities=self.severities)

    def __call__(self, alert: Alert) -> bool:
        """Whether an alert is wanted. `since_us` and `until_us`: when it was opened."""
        return (
            (not self.states or alert.state in self.states)
            and (not self.severities or alert.severity in self.severities)
            and (not self.device or alert.device == self.device)
            and (not self.rule or alert.rule == self.rule)
            and (not self.kind or alert.kind == self.kind)
            and (not self.group or getattr(alert, "group", "") == self.group)
            and (self.since_us is None or alert.opened_us >= self.since_us)
            and (self.until_us is None or alert.opened_us < self.until_us)
            and (not self.text or self._says(alert))
        )

    def _says(self, alert: Alert) -> bool:
        text = self.text.casefold()
        return any(text in part.casefold() for part in (alert.title, alert.device, alert.subject, alert.rule, alert.id))


@dataclass(frozen=True, slots=True)
class Page:
    """Some alerts, the last changed first; `next` goes on after them, "" where there are no more."""

    alerts: list[Alert]
    next: str
    total: int


class Listing(Mapping[str, Alert]):
    """Alerts by id, and in the order in which they changed."""

    def __init__(self) -> None:
        self._alerts: dict[str, Alert] = {}
        self._order: list[Key] = []
        self._counts: Counter[tuple[str, str]] = Counter()

    def __getitem__(self, name: str) -> Alert:
        return self._alerts[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._alerts)

    def __len__(self) -> int:
        return len(self._alerts)

    def put(self, alert: Alert) -> None:
        """Take in an alert as it stands now."""
        self.remove(alert.id)
        self._alerts[alert.id] = alert
        self._counts[alert.state, alert.severity] += 1
        insort(self._order, (alert.changed_us, alert.id))

    def remove(self, name: str) -> None:
        """Forget an alert, if it is there."""
        known = self._alerts.pop(name, None)
        if known is not None:
            self._counts[known.state, known.severity] -= 1
            del self._order[bisect_left(self._order, (known.changed_us, name))]

    def newest(self, before: Key | None = None) -> Iterator[Alert]:
        """Alerts, the last changed first; only those after a place in that order."""
        end = len(self._order) if before is None else bisect_left(self._order, before)
        for place in range(end - 1, -1, -1):
            yield self._alerts[self._order[place][1]]

    def counts(self) -> dict[str, dict[str, int]]:
        """How many there are, by state and severity."""
        found: dict[str, dict[str, int]] = {}
        for (state, severity), count in self._counts.items():
            if count:
                found.setdefault(state, {})[severity] = count
        return found

    def page(self, wanted: Filter, limit: int, after: str = "") -> Page:
        """A page of what is wanted. Raises BadInput where `after` is not a page's `next`."""
        found: list[Alert] = []
        more = ""
        for alert in filter(wanted, self.newest(_place(after))):
            if len(found) == limit:
                more = f"{found[-1].changed_us}-{found[-1].id}"
                break
            found.append(alert)
        return Page(found, more, self._total(wanted))

    def _total(self, wanted: Filter) -> int:
        if wanted.is_counted:
            return sum(
                count
                for (state, severity), count in self._counts.items()
                if (not wanted.states or state in wanted.states)
                and (not wanted.severities or severity in wanted.severities)
            )
        return sum(map(wanted, self._alerts.values()))


def _place(text: str) -> Key | None:
    if not text:
        return None
    changed_us, mark, name = text.partition("-")
    if not mark or not (changed_us.isascii() and changed_us.isdigit() and len(changed_us) < 20) or len(name) > 64:
        raise BadInput("not what a page before said", where="after")
    return int(changed_us), name
