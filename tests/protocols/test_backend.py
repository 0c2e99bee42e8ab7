"""The compiler never keeps anybody waiting: plain serves until the kernels are ready, and after they are turned off."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.support.batches import SCRIPT_BATCH
from tests.support.wait import until


def run(script: str, **env: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT_BATCH + script], env={**os.environ, **env}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_auto_is_plain_at_once_and_compiled_when_a_child_has_seen_to_it() -> None:
    out = run("""
import sys
first = encode_frame(batch, codec="auto")
waited = "numba" in sys.modules and peek_header(first).codec != "plain"
assert backend.wait(240), "the kernels did not become ready"
second = encode_frame(batch, codec="auto")
print(peek_header(first).codec, peek_header(second).codec in ("bitpack", "range"), waited)
print(all(decode_frame(frame, known).equals(batch) for frame in (first, second)))
""")
    assert out.splitlines() == ["plain True False", "True"]


def test_kernels_turned_off_leave_plain_and_a_decoder_that_reads_everything(compiled: None) -> None:
    frames = run("""
backend.load()
print(encode_frame(batch, codec="bitpack").hex(), encode_frame(batch, codec="range").hex())
""").split()
    out = run(
        f"""
frames = [bytes.fromhex(text) for text in {frames!r}]
backend.prepare()
print(encode_frame(batch, codec="auto") == encode_frame(batch), backend.wait(), backend.ready())
print(all(decode_frame(frame, known).equals(batch) for frame in frames))
from tidegate_protocols.codec.bulk import decode_many
print(len(decode_many(frames, known).blocks[0].ts_us) == 2 * len(batch))
import sys
print("numba" in sys.modules)
""",
        TIDEGATE_KERNELS="off",
    )
    assert out.splitlines() == ["True False False", "True", "True", "False"]


def test_asking_for_a_compiled_codec_that_is_off_is_misuse() -> None:
    out = run(
        """
from tidegate_protocols.errors import Misuse
try:
    encode_frame(batch, codec="range")
except Misuse as error:
    print("TIDEGATE_KERNELS" in str(error))
""",
        TIDEGATE_KERNELS="off",
    )
    assert out == "True"


def test_the_compiler_ends_with_the_process_that_wanted_it(tmp_path: Path) -> None:
    out = run(
        """
import os
backend.prepare()
while not (children := open(f"/proc/{os.getpid()}/task/{backend._loader.native_id}/children").read().split()):
    pass
print(children[0], flush=True)
os._exit(0)
""",
        NUMBA_CACHE_DIR=str(tmp_path),
    )
    until(lambda: not Path(f"/proc/{out}").exists(), what="the compiler to end")
