"""NMEA 0183: positions from a GNSS receiver. Sentences RMC and GGA of one time make one scan.

- Any talker (GP, GN, GL, GA, GB …) is read; the checksum is required; other sentences are skipped and counted.
- The time of day is in both sentences, the date only in RMC. A GGA alone takes the date of the last RMC, carried over
  midnight; before the first RMC its scan has no time. RMC's year has two digits: 80 to 99 are 1980 to 1999.
- A receiver without a fix (RMC status V or mode N, GGA quality 0) has no position: no scan, `no_fix` counts.
- Coordinates are degrees and decimal minutes in decimal digits. They become the double nearest to exactly that
  number; a position in whole millionths of a degree survives five decimals of a minute unchanged.
- Accuracy is HDOP × `uere_m`: the distance that holds 63 to 68 % of fixes (DRMS), for a user range error of 3 m
  unless said otherwise.

A sentence is at most 82 characters by the standard; receivers exceed it, so 256 are read.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

import pynmea2

from ..errors import BadInput, Misuse
from ..scan import Scan
from ..schema import Channel, Schema

LINE_MAX = 256
UERE_M = 3.0
NMEA_POSITION = Schema(
    "nmea_position",
    (
        Channel("lat", "float64", "deg", low=-90.0, high=90.0),
        Channel("lon", "float64", "deg", low=-180.0, high=180.0),
        Channel("speed", "float64", "m/s", low=0.0),
        Channel("heading", "float64", "deg", low=0.0, high=360.0),
        Channel("accuracy", "float64", "m", low=0.0),
        Channel("satellites", "int64", "", low=0.0),
    ),
)
_DAY_US = 86_400_000_000
_TIME = re.compile(r"([01]\d|2[0-3])([0-5]\d)([0-5]\d|60)(?:\.(\d{1,9}))?", re.ASCII)
_DATE = re.compile(r"(\d\d)(\d\d)(\d\d)", re.ASCII)
_ANGLE = re.compile(r"(\d{2,3})([0-5]\d)(?:\.(\d{0,9}))?", re.ASCII)
_NUMBER = re.compile(r"\d{1,9}(?:\.\d{0,9})?", re.ASCII)


@dataclass(slots=True)
class _Epoch:
    """What is known of one time so far."""

    time_us: int | None
    date: date | None = None
    lat: float | None = None
    lon: float | None = None
    speed: float | None = None
    heading: float | None = None
    accuracy: float | None = None
    satellites: int | None = None
    rmc: bool = False
    gga: bool = False
    fix: bool = True


class NmeaReader:
    """Bytes of one receiver in, scans out. `device` is put on every scan.

    A scan is given out when both of its sentences have come, when a sentence of another time comes, or by `flush`,
    which is to be called when the line has been silent for a moment.
    """

    def __init__(self, device: str | None = None, *, uere_m: float = UERE_M) -> None:
        self.no_fix = 0
        self.skipped = 0
        self._device = device
        self._uere_m = uere_m
        self._buffer = bytearray()
        self._in_line = False
        self._pending: _Epoch | None = None
        self._last_time_us: int | None = None
        self._date: date | None = None
        self._date_time_us = 0

    def feed(self, data: bytes) -> list[Scan | BadInput]:
        """Take the bytes that came and return what they completed, in order; BadInput stands for a damaged sentence."""
        out: list[Scan | BadInput] = []
        for item in self._lines(data):
            if isinstance(item, BadInput):
                out.append(item)
                continue
            try:
                out.extend(self._sentence(item))
            except BadInput as error:
                out.append(error.at(f"sentence {item[:LINE_MAX]!r}"))
        return out

    def flush(self) -> list[Scan | BadInput]:
        """Give out the scan that still waits for its second sentence."""
        return list(self._finish())

    def _lines(self, data: bytes) -> Iterator[str | BadInput]:
        """Cut the stream at ``$`` and at line ends. What stands between sentences is noise and is passed over."""
        for part in re.split(rb"([$!\r\n])", data):
            if part in (b"$", b"!"):
                if self._in_line and self._buffer:
                    yield BadInput("cut off by the next one", where=f"sentence {bytes(self._buffer[:80])!r}")
                self._buffer[:] = part
                self._in_line = True
            elif part in (b"\r", b"\n"):
                if self._in_line:
                    line, self._in_line = bytes(self._buffer), False
                    self._buffer.clear()
                    if line.isascii():
                        yield line.decode("ascii")
                    else:
                        yield BadInput("has bytes that are not ASCII", where=f"sentence {line[:80]!r}")
            elif self._in_line:
                self._buffer += part
                if len(self._buffer) > LINE_MAX:
                    yield BadInput(f"no end within {LINE_MAX} bytes", where=f"sentence {bytes(self._buffer[:80])!r}")
                    self._in_line = False
                    self._buffer.clear()

    def _sentence(self, line: str) -> Iterator[Scan]:
        if line.startswith(("!", "$P")):  # AIS, and what manufacturers made up
            self.skipped += 1
            return
        try:
            message = pynmea2.parse(line, check=True)
        except pynmea2.SentenceTypeError:
            self.skipped += 1
            return
        except pynmea2.ParseError as error:
            raise BadInput(str(error.args[0][0] if error.args else error)) from None
        kind = message.sentence_type if isinstance(message, pynmea2.TalkerSentence) else ""
        if kind not in ("RMC", "GGA"):
            self.skipped += 1
            return
        fields: list[str] = message.data
        if len(fields) < (9 if kind == "RMC" else 8):
            raise BadInput(f"{kind} with {len(fields)} fields")
        time_us = _time_us(fields[0])
        pending = self._pending
        if pending is None or pending.time_us != time_us or (pending.rmc if kind == "RMC" else pending.gga):
            if pending is None and time_us is not None and time_us == self._last_time_us:
                self.skipped += 1  # a second talker tells a time that has been given out
                return
            yield from self._finish()
            pending = _Epoch(time_us)
        if kind == "RMC":
            self._rmc(fields, pending)
        else:
            self._gga(fields, pending)
        self._pending = pending
        if pending.rmc and pending.gga:
            yield from self._finish()

    def _rmc(self, fields: list[str], epoch: _Epoch) -> None:
        if fields[1] not in ("A", "V"):
            raise BadInput(f"status {fields[1]!r}, neither A nor V")
        if fields[1] == "V" or (len(fields) > 11 and fields[11] == "N"):
            epoch.rmc, epoch.fix = True, False
            return
        lat, lon = _position(fields[2:6])
        knots, heading, day = _number(fields[6], "speed"), _number(fields[7], "course"), _date(fields[8])
        if heading is not None and heading > 360:
            raise BadInput(f"course {heading} is over 360")
        epoch.rmc = True
        epoch.lat, epoch.lon, epoch.date, epoch.heading = lat, lon, day, heading
        epoch.speed = None if knots is None else knots * 1852 / 3600

    def _gga(self, fields: list[str], epoch: _Epoch) -> None:
        if not fields[5].isdigit() or len(fields[5]) != 1:
            raise BadInput(f"fix quality {fields[5]!r} is not a digit")
        if fields[5] == "0":
            epoch.gga, epoch.fix = True, False
            return
        lat, lon = _position(fields[1:5])
        satellites, hdop = _number(fields[6], "satellites"), _number(fields[7], "HDOP")
        epoch.gga = True
        if not epoch.rmc:
            epoch.lat, epoch.lon = lat, lon
        epoch.satellites = None if satellites is None else int(satellites)
        epoch.accuracy = None if hdop is None else hdop * self._uere_m

    def _finish(self) -> Iterator[Scan]:
        epoch, self._pending = self._pending, None
        if epoch is None:
            return
        self._last_time_us = epoch.time_us
        if not epoch.fix or epoch.lat is None:
            self.no_fix += 1
            return
        values = (epoch.lat, epoch.lon, epoch.speed, epoch.heading, epoch.accuracy, epoch.satellites)
        yield Scan(self._device, NMEA_POSITION, self._ts_us(epoch), values)

    def _ts_us(self, epoch: _Epoch) -> int | None:
        if epoch.time_us is None:
            return None
        if epoch.date is not None:
            self._date = epoch.date
        elif self._date is not None and epoch.time_us < self._date_time_us - _DAY_US // 2:
            self._date += timedelta(days=1)  # past midnight since the last date that was told
        if self._date is None:
            return None
        self._date_time_us = epoch.time_us
        midnight = datetime(self._date.year, self._date.month, self._date.day, tzinfo=UTC)
        return int(midnight.timestamp()) * 1_000_000 + epoch.time_us


def _time_us(text: str) -> int | None:
    if not text:
        return None
    found = _TIME.fullmatch(text)
    if found is None:
        raise BadInput(f"time {text!r} is not hhmmss.sss")
    hour, minute, second, fraction = found.groups()
    micros = int((fraction or "0").ljust(6, "0")[:6])
    return (int(hour) * 3600 + int(minute) * 60 + int(second)) * 1_000_000 + micros


def _date(text: str) -> date | None:
    if not text:
        return None
    found = _DATE.fullmatch(text)
    try:
        if found is None:
            raise ValueError
        day, month, year = (int(part) for part in found.groups())
        return date(year + (1900 if year >= 80 else 2000), month, day)
    except ValueError:
        raise BadInput(f"date {text!r} is not ddmmyy") from None


def _position(fields: list[str]) -> tuple[float, float]:
    return _angle(fields[0], fields[1], "NS", 90), _angle(fields[2], fields[3], "EW", 180)


def _angle(text: str, side: str, sides: str, limit: int) -> float:
    """Degrees from ``[d]ddmm.mmmm``: whole numbers divided once, so the result is the nearest double."""
    found = _ANGLE.fullmatch(text)
    if found is None or len(side) != 1 or side not in sides:
        raise BadInput(f"{text!r},{side!r} is not an angle of degrees and minutes with {sides[0]} or {sides[1]}")
    degrees, minutes, fraction = found.groups()
    unit = int("1".ljust(len(fraction or "") + 1, "0"))
    parts = (int(degrees) * 60 + int(minutes)) * unit + int(fraction or "0")
    if parts > limit * 60 * unit:
        raise BadInput(f"{text!r} is over {limit} degrees")
    angle = parts / (60 * unit)
    return -angle if side == sides[1] and parts else angle


def _number(text: str, name: str) -> float | None:
    if not text:
        return None
    if _NUMBER.fullmatch(text) is None:
        raise BadInput(f"{name} {text!r} is not a number")
    return float(text)


def encode_rmc(
    ts_us: int,
    lat: float,
    lon: float,
    *,
    speed: float | None = None,
    heading: float | None = None,
    talker: str = "GP",
) -> bytes:
    """An RMC sentence with its line end. Units: µs since 1970 UTC, degrees, m/s, degrees."""
    clock, day = _stamp(ts_us)
    knots = "" if speed is None else f"{speed * 3600 / 1852:.3f}"
    course = "" if heading is None else f"{heading:.2f}"
    return _seal(f"{talker}RMC,{clock},A,{_place(lat, lon)},{knots},{course},{day},,,A")


def encode_gga(
    ts_us: int,
    lat: float,
    lon: float,
    *,
    satellites: int | None = 8,
    hdop: float | None = 1.0,
    talker: str = "GP",
) -> bytes:
    """A GGA sentence with its line end; None leaves a field empty. Units: µs since 1970 UTC, degrees."""
    clock, _ = _stamp(ts_us)
    count = "" if satellites is None else f"{satellites:02d}"
    dilution = "" if hdop is None else f"{hdop:.2f}"
    return _seal(f"{talker}GGA,{clock},{_place(lat, lon)},1,{count},{dilution},,M,,M,,")


def _seal(body: str) -> bytes:
    return f"${body}*{pynmea2.NMEASentence.checksum(body):02X}\r\n".encode("ascii")


def _stamp(ts_us: int) -> tuple[str, str]:
    seconds, micros = divmod(ts_us, 1_000_000)
    moment = datetime.fromtimestamp(seconds, UTC)
    if not 1980 <= moment.year < 2080:
        raise Misuse(f"the year {moment.year} does not fit two digits")
    fraction = f"{micros:06d}" if micros % 1000 else f"{micros // 1000:03d}"
    return f"{moment:%H%M%S}.{fraction}", f"{moment:%d%m%y}"


def _place(lat: float, lon: float) -> str:
    if not (abs(lat) <= 90 and abs(lon) <= 180):
        raise Misuse(f"{lat}, {lon} is no place on earth")
    parts = []
    for angle, width, sides in ((lat, 2, "NS"), (lon, 3, "EW")):
        degrees, rest = divmod(round(abs(angle) * 6_000_000), 6_000_000)
        parts.append(f"{degrees:0{width}d}{rest // 100_000:02d}.{rest % 100_000:05d},{sides[angle < 0]}")
    return ",".join(parts)
