"""Configuration over the air: layers compiled per agent, signed, told in waves, and taken back when they do harm.

`layers` makes a device's file out of what people keep; `keys` and `director` sign it (TUF); `plan` cuts a fleet into
waves; `machine` decides, as a pure function; `server` runs it on Kafka; `cli` is `tidegate config`.
"""
