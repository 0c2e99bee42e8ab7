"""Pages of alerts: every one exactly once, in order, however they are filtered and whatever changes meanwhile."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tidegate_cloud.console.listing import Filter, Listing
from tidegate_protocols.alerts import Alert
from tidegate_protocols.errors import BadInput

STATES = ("open", "acknowledged", "snoozed", "resolved")


def an_alert(number: int, state: str, severity: str, changed_us: int, title: str = "t") -> Alert:
    return Alert(
        id=f"a{number}", device=f"van-{number % 3}", rule="limit", subject="s", state=state, severity=severity,
        kind="limit", title=title, started_us=1, opened_us=number, changed_us=changed_us, version=1, event="e",
        events=1,
    )  # fmt: skip


ALERTS = st.lists(
    st.tuples(
        st.integers(0, 9), st.sampled_from(STATES), st.sampled_from(["notice", "critical"]), st.integers(0, 5),
        st.sampled_from(["Entered", "LEFT"]),
    ),
    max_size=30,
)  # fmt: skip


@given(
    changes=ALERTS, removed=st.sets(st.integers(0, 9), max_size=3), states=st.sets(st.sampled_from(STATES)),
    device=st.sampled_from(["", "van-1"]), text=st.sampled_from(["", "enter", "left", "AN-2"]), limit=st.integers(1, 4),
)  # fmt: skip
def test_pages_hold_what_a_plain_sort_and_filter_would(
    changes: list[tuple[int, str, str, int, str]],
    removed: set[int],
    states: set[str],
    device: str,
    text: str,
    limit: int,
):
    listing, plain = Listing(), {}
    for change in changes:
        alert = an_alert(*change)
        listing.put(alert)
        plain[alert.id] = alert
    for number in removed:
        listing.remove(f"a{number}")
        plain.pop(f"a{number}", None)
    wanted = Filter(states=frozenset(states), device=device, text=text)
    expected = [
        alert
        for alert in sorted(plain.values(), key=lambda a: (a.changed_us, a.id), reverse=True)
        if (not states or alert.state in states)
        and device in ("", alert.device)
        and any(
            text.lower() in part.lower() for part in (alert.title, alert.device, alert.subject, alert.rule, alert.id)
        )
    ]
    found, after = [], ""
    while True:
        page = listing.page(wanted, limit, after)
        assert page.total == len(expected)
        assert len(page.alerts) <= limit
        found += page.alerts
        after = page.next
        if not after:
            break
    assert found == expected
    assert sum(sum(by.values()) for by in listing.counts().values()) == len(plain) == len(listing)


def test_a_page_goes_on_where_the_last_ended_whatever_came_meanwhile():
    listing = Listing()
    for number in range(6):
        listing.put(an_alert(number, "open", "notice", number))
    first = listing.page(Filter(), 2)
    listing.put(an_alert(9, "open", "notice", 9))
    listing.put(msgspec.structs.replace(listing["a3"], changed_us=10))
    assert [alert.id for alert in listing.page(Filter(), 9, first.next).alerts] == ["a2", "a1", "a0"]


@pytest.mark.parametrize("after", ["x", "1", "-a", "²-a", "9" * 30 + "-a", "1-" + "a" * 99])
def test_a_place_that_no_page_named_is_refused(after: str):
    with pytest.raises(BadInput, match="after"):
        Listing().page(Filter(), 1, after)
