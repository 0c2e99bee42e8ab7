"""The fields of a parsed header, an int64 row, as `bulk.headers` fills it. No numba here.

DEVICE and DEVICE_END, BODY and END are places in the bytes; WRONG is 1 where the header is not one.
"""

from __future__ import annotations

FINGERPRINT, CODEC, FLAGS, DEVICE, DEVICE_END, EPOCH, SEQ, SCANS, BASE_TS, PRIORS, BODY, END, WRONG = range(13)
HEADER_FIELDS = 13
