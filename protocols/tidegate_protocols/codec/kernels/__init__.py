"""The compiled half of the codec, in numba: loops that write into arrays they are given.

bits        small integers: lengths, zigzag, float bits in order, varints
models      float64 values as integers: decimals, binary fractions, single precision, ordered words, split words
predict     integers as small residuals: offset, delta, line, exponential average
packing     residuals as bits of equal width, in blocks of 64
ranging     residuals as adaptive binary decisions through a range coder
plans       how a column is written: the best model, transform and predictor
packed      whole frames of the bit-packed codec
ranged      whole frames of the range coder
fields      the fields of a parsed header
bulk        the headers and columns of many frames in one call

Nothing in here checks its callers: `..compiled` does.
"""
