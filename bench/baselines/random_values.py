# SPDX-License-Identifier: Apache-2.0
"""The values of isobar::bench::random_values(), in numpy."""
import numpy

MASK = 2**64 - 1
STEP = 0x9E3779B97F4A7C15


def fnv1a(text):
    value = 0xCBF29CE484222325
    for byte in text.encode():
        value = (value ^ byte) * 0x100000001B3 & MASK
    return value


def splitmix64(state):
    """Of an array of uint64, whose products wrap around."""
    state = (state ^ (state >> numpy.uint64(30))) * numpy.uint64(0xBF58476D1CE4E5B9)
    state = (state ^ (state >> numpy.uint64(27))) * numpy.uint64(0x94D049BB133111EB)
    return state ^ (state >> numpy.uint64(31))


def random_values(shape, bound, seed, name):
    """float32 in [-bound, bound), by seed, name and position alone."""
    start = splitmix64(numpy.array([(seed + STEP) & MASK], dtype=numpy.uint64)) ^ numpy.uint64(fnv1a(name))
    places = numpy.arange(1, int(numpy.prod(shape)) + 1, dtype=numpy.uint64)
    bits = splitmix64(start + places * numpy.uint64(STEP)) >> numpy.uint64(11)
    values = bound * (bits.astype(numpy.float64) * 2.0**-52 - 1.0)
    return values.astype(numpy.float32).reshape(shape)
