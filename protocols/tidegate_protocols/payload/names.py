"""Channel names from what devices call things."""

from __future__ import annotations

import re

from ..errors import BadInput

_OTHER = re.compile(r"[^A-Za-z0-9_]+")


def channel_name(text: str) -> str:
    """`text` as a channel name: every run of other characters becomes one ``_``, and a leading digit gets one.

    "Engine/Oil Pressure" → "Engine_Oil_Pressure", "3v3-rail" → "_3v3_rail". Raises BadInput if nothing is left or it
    is over 64 characters.
    """
    name = _OTHER.sub("_", text)
    if name[:1].isdigit():
        name = "_" + name
    if not name.strip("_") or len(name) > 64:
        raise BadInput(f"{text[:80]!r} cannot name a channel", hint="letters, digits and _, at most 64")
    return name
