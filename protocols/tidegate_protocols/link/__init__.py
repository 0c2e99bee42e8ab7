"""Parsers of what comes over a wire, byte by byte: firmware packets and NMEA 0183.

A reader is fed bytes as they arrive, in pieces of any size, and returns what they completed: values, or `BadInput`
for a damaged piece, after which it has already found its way back. Import the module you need: `link.packets` wants
the cobs package and `link.nmea` wants pynmea2.
"""
