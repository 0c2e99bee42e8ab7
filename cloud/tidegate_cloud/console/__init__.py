"""The console: the page that operators live in, and the HTTP interface and stream behind it (docs/api.md).

`tail` reads Kafka in a thread; `picture` is what is known, `hub` tells clients of the stream, `api` answers requests,
`service` holds them together. `static/` holds the pages, `assets` brings their libraries from npm.
"""
