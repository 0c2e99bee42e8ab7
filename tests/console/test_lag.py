"""What is said of being behind is true: proven by ends that were reached, and never guessed."""

from __future__ import annotations

from tidegate_cloud.console.lag import FRESH_US, Lag
from tidegate_cloud.kafka import Part

S = 1_000_000
A, B = Part("t", 0), Part("t", 1)


def test_what_has_reached_the_ends_is_not_behind():
    lag = Lag(0)
    lag.read(A, 10, 90 * S)
    lag.read(B, 0)
    lag.ends(100 * S, {A: 10, B: 0})
    assert lag.behind_us(101 * S) == 0


def test_what_waits_is_as_old_as_the_last_moment_when_nothing_did_at_most():
    lag = Lag(0)
    lag.read(A, 10, 90 * S)
    lag.ends(100 * S, {A: 10})
    lag.ends(101 * S, {A: 12})
    assert lag.behind_us(103 * S) == 3 * S  # nothing waited at 100
    lag.read(A, 11, 102 * S)
    assert lag.behind_us(103 * S) == 1 * S  # and what is left came after the one of 102
    lag.read(A, 12, 102 * S)
    assert lag.behind_us(103 * S) == 0


def test_the_worst_partition_counts():
    lag = Lag(0)
    lag.read(A, 5, 50 * S)
    lag.read(B, 5, 80 * S)
    lag.ends(100 * S, {A: 6, B: 6})
    assert lag.behind_us(100 * S) == 50 * S


def test_before_anything_was_read_it_is_behind_by_the_whole_of_what_it_wants():
    lag = Lag(40 * S)
    lag.ends(100 * S, {A: 7})
    assert lag.behind_us(100 * S) == 60 * S


def test_markers_of_transactions_at_the_end_are_reached_by_the_end_of_the_partition():
    lag = Lag(0)
    lag.read(A, 5, 50 * S)
    lag.ends(100 * S, {A: 6})
    lag.read(A, 6)
    assert lag.behind_us(100 * S) == 0


def test_a_kafka_that_no_longer_answers_makes_it_older_by_the_second():
    lag = Lag(0)
    lag.read(A, 5, 50 * S)
    lag.ends(100 * S, {A: 5})
    assert lag.behind_us(100 * S + FRESH_US) == 0
    assert lag.behind_us(160 * S) == 60 * S
