"""Kinds of values that several tables have."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

Name = Annotated[str, Meta(pattern=r"^[A-Za-z0-9._:-]{1,64}$")]
Port = Annotated[int, Meta(ge=1, le=65_535)]
Text = Annotated[str, Meta(min_length=1)]
Positive = Annotated[float, Meta(gt=0)]
Priority = Annotated[int, Meta(ge=0, le=9)]  # of a full spool the lowest leave first
