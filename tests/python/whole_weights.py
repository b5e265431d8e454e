"""The oracle of sample: the documented whole-number weights, in Python integers and fractions.

Lives here: the kernels' exponential with every rounding (temperature 1), the weights, an enumeration of the filters.
Must not: softloss itself, inputs.
"""

import math
from fractions import Fraction

import numpy as np

# The constants of exp in cpp/src/kernels/math.hpp.
CONSTANTS = {
    24: {
        "powers": "0x1.16747cp+0 0x1.2fa848p+0 0x1.4b2404p+0 0x1.691c8ap+0 0x1.89cb7cp+0 0x1.ad6fb4p+0 0x1.d44dbcp+0 "
        "0x1.feb052p+0",
        "eight by ln 2": "0x1.715476p3",
        "ln 2 by 8": "0x1.62e43p-4 -0x1.05c61p-32",
        "polynomial": "0x1p-1 0x1.555b7ep-3 0x1.555c2ep-5",
    },
    53: {
        "powers": "0x1.111bc3f894d49p+0 0x1.29d3aed43a279p+0 0x1.44c8536776f31p+0 0x1.622d87bbcdc36p+0 "
        "0x1.823bd2e53e75cp+0 0x1.a530d9b65e7f9p+0 0x1.cb4fd54b19991p+0 0x1.f4e2144e100b4p+0",
        "eight by ln 2": "0x1.71547652b82fep3",
        "ln 2 by 8": "0x1.62e42fefa39efp-4 0x1.abc9e3b39803fp-59",
        "polynomial": "0x1.000000000002ep-1 0x1.55555555555d1p-3 0x1.5555554e8d74bp-5 0x1.1111110ab75e3p-7 "
        "0x1.6c1b7359ef355p-10 0x1.a01f90dfb8849p-13",
    },
}
CONSTANTS = {
    bits: {name: [Fraction(float.fromhex(number)) for number in text.split()] for name, text in table.items()}
    for bits, table in CONSTANTS.items()
}


def rounded(x, bits):
    """A fraction, rounded to `bits` binary digits, ties to even."""
    if x == 0:
        return x
    exponent = abs(x.numerator).bit_length() - x.denominator.bit_length()
    if abs(x) < Fraction(2) ** exponent:
        exponent -= 1
    unit = Fraction(2) ** (exponent - bits + 1)
    return round(x / unit) * unit


def unit_bits(n):
    """s: the weights are round(2^s e)."""
    return min(50, 62 - (n - 1).bit_length())


def weight(x, maximum, n, bits):
    """The weight of a logit of `bits` binary digits in a row of n classes."""
    if x == -math.inf:
        return 0

    def fl(number):
        return rounded(number, bits)

    of = CONSTANTS[bits]
    (eight_by_ln2,) = of["eight by ln 2"]
    shift = round(Fraction(maximum) * eight_by_ln2 / 8)
    x = max(Fraction(x), fl(Fraction(maximum) - 60))
    k = round(x * eight_by_ln2)
    high, low = of["ln 2 by 8"]
    r = fl(fl(x - k * high) - k * low)
    *rest, p = of["polynomial"]
    for c in reversed(rest):
        p = fl(p * r + c)
    fraction = fl(fl(r * r) * p + r)
    scale = of["powers"][k % 8] * Fraction(2) ** (k // 8 - shift + unit_bits(n))
    return round(rounded(scale + fl(scale * fraction), 53) if bits == 24 else fl(scale + scale * fraction))


def weights(row):
    """The weights of a row of float32 or float64, |x| <= 1000."""
    bits = np.finfo(row.dtype).nmant + 1
    values, places = np.unique(row, return_inverse=True)
    top = float(values[-1])
    each = [weight(float(value), top, row.size, bits) for value in values]
    return [each[place] for place in places]


def kept(row, weight, top_k=0, top_p=1.0, min_p=0.0):
    """The classes that the filters keep, by index; row and weight may be scaled by the same temperature."""
    order = sorted(range(len(row)), key=lambda i: (-row[i], i))
    if top_k:
        order = order[:top_k]
    if top_p < 1:
        goal, total = math.ceil(Fraction(top_p) * sum(weight[i] for i in order)), 0
        for count, i in enumerate(order):
            total += weight[i]
            if total >= goal:
                order = order[: count + 1]
                break
    if min_p > 0:
        least = float(row[order[0]]) + math.log(min_p)
        order = [i for i in order if row[i] >= least]
    return sorted(order)


def drawn(weight, classes, u):
    """The class that u draws of `classes`."""
    goal, total = math.floor(Fraction(u) * sum(weight[i] for i in classes)), 0
    for i in classes:
        total += weight[i]
        if total > goal:
            return i
    raise AssertionError("u must be below 1")
