"""What both ends must agree on: schemas, batches, frames, topics, events, alerts, and the parsers of device links.

Nothing here does I/O and nothing here imports the edge or the cloud. Parsers take bytes and return values (the
"sans-I/O" style), so the same code serves a serial port, a test and a fuzzer.
"""
