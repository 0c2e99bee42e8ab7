"""Two kinds of error, so that a caller always knows whose fault it is.

`BadInput` is theirs: bytes, a configuration or a command that cannot be accepted. It names the place and, where
there is one, the remedy; whoever catches it counts the input, keeps or dead-letters it, and goes on.
`Misuse` is ours: a call that breaks a function's contract. It is a bug and is not caught.
"""

from __future__ import annotations


class BadInput(ValueError):
    """Input from outside that cannot be accepted.

    `where` names the place as a person would look for it: "byte 14", "sources[2].baud, line 31",
    "telemetry.frames[3]@1042". `hint` says what to do about it, when there is something to do.
    """

    def __init__(self, what: str, *, where: str = "", hint: str = "") -> None:
        self.what = what
        self.where = where
        self.hint = hint
        text = f"{where}: {what}" if where else what
        super().__init__(f"{text} ({hint})" if hint else text)

    def at(self, where: str) -> BadInput:
        """The same error with an outer place put before the inner one."""
        return BadInput(self.what, where=f"{where}, {self.where}" if self.where else where, hint=self.hint)


class Misuse(TypeError):
    """A call that breaks the contract of the function called: a bug of the caller, never of the input."""
