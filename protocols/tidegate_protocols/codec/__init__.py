"""How the columns of a frame become bytes and come back, bit for bit.

`plain` needs numpy and zlib only. The specification is docs/frame.md; the header around the columns is `..frame`.
"""
