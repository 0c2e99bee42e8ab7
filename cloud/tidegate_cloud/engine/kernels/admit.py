"""Which scans of each frame are new: cursors compared and moved, frame by frame, in one pass."""

from __future__ import annotations

import numba as nb

# What `counts` holds.
DUPLICATES, GAPS, SCANS, PREVIEWS, STALE = 0, 1, 2, 3, 4
COUNTS = 5

USUAL_MAX_US = 3_600_000_000


@nb.njit(cache=True, inline="always")
def _reaches(epoch, end, other_epoch, other_end):
    """Whether the name (epoch, end) is at or past the other one."""
    return epoch > other_epoch or (epoch == other_epoch and end >= other_end)


@nb.njit(cache=True)
def admit(
    turn, device, stream, group, epoch, seq, n, preview, live, estimated, append_us, devices, streams,
    start, gap, round_of, forks, joins, until_epoch, until, heard, counts,
):  # fmt: skip
    """Frame i = 0 … k-1, in the order of the log.

    turn               number of this pass: what `devices` holds of an earlier one is void
    device             whose it is, -1 = nobody's: passed over
    stream             which stream it continues, -1 = none: its device was heard, nothing more
    group              frames with the same number may share a block
    epoch, seq, n      name of its first scan, and how many there are
    preview, live      whether it is a preview copy; whether it travelled live
    estimated          whether its times are estimates
    append_us          when it was appended
    devices, streams   records of streams.DEVICE and streams.STREAM; move on
    start       out    first scan that is new, -1 = none is
    gap         out    whether scans are missing before it
    round_of    out    a device's frames of one round may be processed together, the rounds one after the other
    forks       out    whether it opens a preview
    joins       out    whether the stream has caught up with its preview by its end
    until       out    (until_epoch, until): what a preview has shown already ends before this name; -1 = no preview
    heard       out    whether its device was silent before
    counts      out    see above
    """
    for i in range(stream.shape[0]):
        start[i] = -1
        gap[i] = forks[i] = joins[i] = heard[i] = False
        until_epoch[i] = until[i] = -1
        round_of[i] = 0
        if device[i] < 0:
            continue
        dev = devices[device[i]]
        if live[i] and dev.heard_us > 0:
            # Pauses are learnt quickly and forgotten slowly; a backlog says nothing about them.
            passed = min(append_us[i] - dev.heard_us, USUAL_MAX_US)
            dev.usual_us += (passed - dev.usual_us) // (2 if passed > dev.usual_us else 64)
        dev.heard_us = max(dev.heard_us, append_us[i])
        if dev.silent:
            dev.silent = 0
            heard[i] = True
        if stream[i] < 0:
            continue
        st = streams[stream[i]]
        end = seq[i] + n[i]
        if preview[i]:
            if _reaches(st.epoch, st.next, epoch[i], end) or (
                st.open and _reaches(st.shown_epoch, st.shown_next, epoch[i], end)
            ):
                counts[STALE] += 1
                continue
            counts[PREVIEWS] += 1
            if not st.open:
                st.open = 1
                st.shown_epoch = st.epoch
                st.shown_next = st.next
                st.shown_broken = st.broken
                st.shown_estimated = st.estimated
                forks[i] = True
            skip = max(0, st.shown_next - seq[i]) if epoch[i] == st.shown_epoch else 0
            gap[i] = (
                epoch[i] != st.shown_epoch
                or seq[i] > st.shown_next
                or st.shown_broken != 0
                or (st.shown_estimated != 0) != estimated[i]
            )
            st.shown_epoch = epoch[i]
            st.shown_next = end
            st.shown_broken = 0
            st.shown_estimated = estimated[i]
        else:
            if _reaches(st.epoch, st.next, epoch[i], end):
                counts[DUPLICATES] += n[i]
                continue
            skip = max(0, st.next - seq[i]) if epoch[i] == st.epoch else 0
            # A stream's beginning, in a new epoch too, is a gap but nothing that is known to be missing.
            hole = epoch[i] == st.epoch and seq[i] > st.next
            gap[i] = hole or epoch[i] != st.epoch or st.broken != 0 or (st.estimated != 0) != estimated[i]
            st.epoch = epoch[i]
            st.next = end
            st.broken = 0
            st.estimated = estimated[i]
            counts[GAPS] += hole
            counts[DUPLICATES] += skip
            counts[SCANS] += n[i] - skip
            if st.open:
                until_epoch[i] = st.shown_epoch
                until[i] = st.shown_next
                if _reaches(st.epoch, st.next, st.shown_epoch, st.shown_next):
                    st.open = 0
                    joins[i] = True
        start[i] = skip
        key = group[i] * 2 + preview[i]
        if dev.turn != turn:
            dev.turn = turn
            dev.round = 0
        elif dev.group != key:
            dev.round += 1
        # A join is made between two rounds.
        dev.group = -1 if joins[i] else key
        round_of[i] = dev.round
