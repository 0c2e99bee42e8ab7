"""Loops that numba compiles. Each takes arrays whose shapes and types its caller has checked, and writes into arrays
that its caller made. A naive twin in tests/support/naive.py says what is right.
"""
