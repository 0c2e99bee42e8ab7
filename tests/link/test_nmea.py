"""NMEA 0183: golden sentences, exact coordinates, dates, receivers without a fix, and noise."""

from __future__ import annotations

from datetime import UTC, datetime

import pynmea2
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tidegate_protocols.errors import BadInput, Misuse
from tidegate_protocols.link.nmea import NMEA_POSITION, NmeaReader, encode_gga, encode_rmc
from tidegate_protocols.scan import Scan

from tests.link.feeding import bad, byte_by_byte, cut_at, good

# The sentences with which receivers' manuals explain the format.
RMC = b"$GPRMC,123519,A,4807.038,N,01131.000,E,022.4,084.4,230394,003.1,W*6A\r\n"
GGA = b"$GPGGA,123519,4807.038,N,01131.000,E,1,08,0.9,545.4,M,46.9,M,,*47\r\n"


def at(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() * 1_000_000)


MUNICH = Scan(
    "van-1", NMEA_POSITION, at("1994-03-23T12:35:19"),
    (48 + 7.038 / 60, 11 + 31 / 60, 22.4 * 1852 / 3600, 84.4, 0.9 * 3.0, 8),
)  # fmt: skip


def sentence(body: str) -> bytes:
    return f"${body}*{pynmea2.NMEASentence.checksum(body):02X}\r\n".encode()


def read(data: bytes) -> list[Scan | BadInput]:
    reader = NmeaReader("van-1")
    return reader.feed(data) + reader.flush()


@pytest.mark.parametrize("data", [RMC + GGA, GGA + RMC])
def test_both_sentences_of_a_time_make_one_scan_at_once(data: bytes) -> None:
    assert NmeaReader("van-1").feed(data) == [MUNICH]
    assert byte_by_byte(NmeaReader("van-1").feed, data) == [MUNICH]


def test_an_independent_reader_agrees() -> None:
    ours = NmeaReader("van-1").feed(RMC + GGA)[0]
    theirs = pynmea2.parse(RMC.decode())
    assert isinstance(ours, Scan)
    assert ours.ts_us == int(theirs.datetime.timestamp() * 1_000_000)
    assert ours.values[:2] == pytest.approx((theirs.latitude, theirs.longitude), abs=1e-12)


def test_rmc_alone_waits_for_another_time_or_a_flush() -> None:
    later = encode_rmc(at("1994-03-23T12:35:20"), 48.0, 11.0)
    reader = NmeaReader("van-1")
    assert reader.feed(RMC) == []
    [first] = good(reader.feed(later))
    assert first.ts_us == at("1994-03-23T12:35:19")
    assert first.values[4:] == (None, None)
    [second] = good(reader.flush())
    assert second.ts_us == at("1994-03-23T12:35:20")
    assert reader.flush() == []


def test_gga_alone_has_no_time_until_a_date_is_known() -> None:
    [scan] = good(read(GGA))
    assert scan.ts_us is None
    assert scan.values[:2] == MUNICH.values[:2]


def test_gga_takes_the_last_date_over_midnight() -> None:
    reader = NmeaReader("van-1")
    reader.feed(encode_rmc(at("2026-02-28T23:59:59"), 1.0, 2.0) + encode_gga(at("2026-02-28T23:59:59"), 1.0, 2.0))
    reader.feed(encode_gga(at("2026-03-01T00:00:00"), 1.0, 2.0))
    [midnight] = good(reader.feed(encode_gga(at("2026-03-01T00:00:01"), 1.0, 2.0)))
    assert midnight.ts_us == at("2026-03-01T00:00:00")
    [after] = good(reader.flush())
    assert after.ts_us == at("2026-03-01T00:00:01")


@pytest.mark.parametrize(("year", "full"), [("79", 2079), ("80", 1980), ("99", 1999), ("00", 2000), ("26", 2026)])
def test_years_of_two_digits(year: str, full: int) -> None:
    [scan] = good(read(sentence(f"GPRMC,000000,A,0000.0,N,00000.0,E,,,0101{year},,")))
    assert scan.ts_us == at(f"{full}-01-01T00:00:00")


@pytest.mark.parametrize("talker", ["GP", "GN", "GL", "GA", "GB"])
def test_any_constellation(talker: str) -> None:
    ts = at("2026-05-06T07:08:09.250")
    data = encode_rmc(ts, -33.5, -70.25, talker=talker) + encode_gga(ts, -33.5, -70.25, talker=talker)
    [scan] = good(read(data))
    assert (scan.ts_us, scan.values[:2]) == (ts, (-33.5, -70.25))


def test_a_second_talker_of_the_same_time_is_not_a_second_scan() -> None:
    ts = at("2026-05-06T07:08:09")
    both = b"".join(
        encode(ts, 1.0, 2.0, talker=talker) for talker in ("GP", "GN") for encode in (encode_rmc, encode_gga)
    )
    assert len(read(both)) == 1


@pytest.mark.parametrize(
    "data",
    [
        sentence("GPRMC,123519,V,,,,,,,230394,,"),
        sentence("GPRMC,123519,V,4807.038,N,01131.000,E,0,0,230394,,"),
        sentence("GNRMC,123519,A,4807.038,N,01131.000,E,0,0,230394,,,N"),
        sentence("GPGGA,123519,,,,,0,00,,,M,,M,,"),
        sentence("GPRMC,,V,,,,,,,,,"),
        RMC + sentence("GPGGA,123519,,,,,0,00,,,M,,M,,"),
    ],
)
def test_without_a_fix_there_is_no_scan(data: bytes) -> None:
    reader = NmeaReader("van-1")
    assert reader.feed(data) + reader.flush() == []
    assert reader.no_fix == 1


def test_other_sentences_are_passed_over() -> None:
    reader = NmeaReader("van-1")
    others = [
        sentence("GPGSV,1,1,01,21,00,000,"), sentence("GPVTG,054.7,T,034.4,M,005.5,N,010.2,K"),
        sentence("GPXYZ,1"), b"$PUBX,41,1,0007,0003,19200,0*25\r\n",
        b"!AIVDM,1,1,,B,177KQJ5000G?tO`K>RA1wUbN0TKH,0*5C\r\n",
    ]  # fmt: skip
    assert reader.feed(b"".join(others)) == []
    assert reader.skipped == len(others)


@given(st.integers(-90_000_000, 90_000_000), st.integers(-180_000_000, 180_000_000), st.integers(0, 10**9))
def test_millionths_of_a_degree_survive_unchanged(lat_e6: int, lon_e6: int, seconds: int) -> None:
    ts, lat, lon = (10**9 + seconds) * 1_000_000, lat_e6 / 1e6, lon_e6 / 1e6
    [scan] = good(
        NmeaReader("van-1").feed(encode_rmc(ts, lat, lon, speed=3.0, heading=359.99) + encode_gga(ts, lat, lon))
    )
    assert (scan.ts_us, *scan.values[:2]) == (ts, lat, lon)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (RMC.replace(b"022.4", b"022.5"), "checksum does not match"),
        (b"$GPRMC,123519,A,4807.038,N,01131.000,E,022.4,084.4,230394,003.1,W\r\n", "checksum"),
        (sentence("GPRMC,123519,X,4807.038,N,01131.000,E,,,230394,,"), "status 'X'"),
        (sentence("GPRMC,123519,A,4807.038,N,01131.000,,,,230394,,"), "is not an angle"),
        (sentence("GPRMC,123519,A,4867.038,N,01131.000,E,,,230394,,"), "is not an angle"),
        (sentence("GPRMC,123519,A,9000.001,N,01131.000,E,,,230394,,"), "over 90 degrees"),
        (sentence("GPRMC,243519,A,4807.038,N,01131.000,E,,,230394,,"), "not hhmmss"),
        (sentence("GPRMC,123519,A,4807.038,N,01131.000,E,,,310294,,"), "not ddmmyy"),
        (sentence("GPRMC,123519,A,4807.038,N,01131.000,E,nan,,230394,,"), "speed 'nan' is not a number"),
        (sentence("GPRMC,123519,A,4807.038,N,01131.000,E,,400,230394,,"), "course 400"),
        (sentence("GPGGA,123519,4807.038,N,01131.000,E,x,08,0.9,545.4,M,46.9,M,,"), "fix quality 'x'"),
        (sentence("GPRMC,123519,A"), "RMC with 2 fields"),
        (b"$GPRMC,1235\xff19\r\n", "not ASCII"),
        (b"$" + b"G" * 300 + b"\r\n", "no end within 256 bytes"),
        (b"$GPRMC,123519,A,4807" + RMC, "cut off by the next one"),
    ],
)
def test_a_damaged_sentence_is_named_and_the_next_one_read(data: bytes, said: str) -> None:
    items = byte_by_byte(NmeaReader("van-1").feed, data + GGA + RMC + GGA)
    [error] = bad(items)
    assert said in str(error)
    assert MUNICH in items


@given(st.lists(st.binary(max_size=60), max_size=6), st.lists(st.integers(0, 2000), max_size=8))
def test_noise_between_sentences_costs_no_scan(noise: list[bytes], cuts: list[int]) -> None:
    stream, times = b"", []
    for i, piece in enumerate(noise):
        ts = at("2026-05-06T07:08:09") + i * 1_000_000
        times.append(ts)
        stream += piece + encode_rmc(ts, 1.0, 2.0) + encode_gga(ts, 1.0, 2.0)
    reader = NmeaReader("van-1")
    assert [scan.ts_us for scan in good(cut_at(reader.feed, stream, cuts))] == times


@given(st.text(alphabet="$GPRMCA,0123456789.NEWV*-\r\n", max_size=200))
def test_garbage_never_raises(text: str) -> None:
    read(text.encode())


def test_a_place_off_the_earth_is_misuse() -> None:
    with pytest.raises(Misuse):
        encode_rmc(at("2026-01-01T00:00:00"), 91.0, 0.0)
    with pytest.raises(Misuse):
        encode_gga(at("2026-01-01T00:00:00"), float("nan"), 0.0)
    with pytest.raises(Misuse):
        encode_rmc(at("1970-01-01T00:00:00"), 0.0, 0.0)
