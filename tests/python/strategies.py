"""Inputs: values that are hard for the numerics, memory layouts that are hard for the bindings, and their strategies.

Lives here: arrays and hypothesis strategies for them. Must not: softloss, expected results.
"""

import tempfile

import ml_dtypes
import numpy as np
from hypothesis import strategies as st

FLOATS = (np.float32, np.float64)
HALVES = (np.float16, ml_dtypes.bfloat16)
INTEGERS = (np.int8, np.int16, np.int32, np.int64, np.uint8, np.uint16, np.uint32, np.uint64)

# ---- values: name -> float64 array of a shape, from a random generator ---------------------------------------------


def _sprinkle(rng, x, value, share):
    return np.where(rng.random(x.shape) < share, value, x)


def _normal(rng, shape):
    return 3 * rng.standard_normal(shape)


def _dominant(rng, shape):
    """Zeros, with a large number in about one element of ten."""
    return _sprinkle(rng, np.zeros(shape), rng.choice([16.0, 20.0, 100.0, 700.0]), 0.1)


FINITE_VALUES = {
    "normal": _normal,
    "wide": lambda rng, shape: rng.uniform(-80, 80, shape),
    "offset": lambda rng, shape: _normal(rng, shape) + rng.choice([-1e6, -1e4, 300.0, 1e4, 1e6]),
    "equal": lambda rng, shape: np.full(shape, rng.choice([-1e6, -1.5, 0.0, 0.1, 88.0, 1e6])),
    "dominant": _dominant,
    "ties": lambda rng, shape: rng.integers(-2, 3, shape).astype(float),
    "tiny": lambda rng, shape: rng.standard_normal(shape) * 1e-40,
    "huge": lambda rng, shape: rng.standard_normal(shape) * 1e37,
}
SPECIAL_VALUES = {
    "masked": lambda rng, shape: _sprinkle(rng, _normal(rng, shape), -np.inf, 0.4),
    "infinite": lambda rng, shape: _sprinkle(rng, _sprinkle(rng, _normal(rng, shape), -np.inf, 0.3), np.inf, 0.1),
    "nan": lambda rng, shape: _sprinkle(rng, _normal(rng, shape), np.nan, 0.1),
    "signed zeros": lambda rng, shape: _sprinkle(rng, np.zeros(shape), -0.0, 0.5),
}
VALUES = FINITE_VALUES | SPECIAL_VALUES


def values(name, shape, dtype=np.float64, seed=0):
    with np.errstate(over="ignore", under="ignore"):
        return np.asarray(VALUES[name](np.random.default_rng(seed), shape)).astype(dtype)


def probabilities(shape, dtype=np.float64, seed=0, axis=-1):
    """Distributions along the axis, some with zeros."""
    rng = np.random.default_rng(seed)
    p = _sprinkle(rng, rng.random(shape), 0.0, 0.3) + 1e-3 * rng.random(shape)
    return (p / p.sum(axis, keepdims=True)).astype(dtype)


# ---- layouts: name -> the same values, elsewhere in memory ---------------------------------------------


def _strided(x):
    room = np.zeros([2 * n + 1 for n in x.shape], x.dtype)
    view = room[(..., *[slice(1, None, 2)] * x.ndim)]
    view[...] = x
    return view


def _reversed(x):
    flip = (..., *[slice(None, None, -1)] * x.ndim)
    return x[flip].copy()[flip]


def _rotated_axes(x):
    """Memory order of the axes: the first one varies fastest, then the last ones."""
    return np.moveaxis(np.moveaxis(x, 0, -1).copy(), -1, 0) if x.ndim else x.copy()


def _unaligned(x):
    room = np.zeros(x.nbytes + 1, np.uint8)
    view = room[1:].view(x.dtype).reshape(x.shape) if x.size else x.copy()
    view[...] = x
    return view


def _byte_swapped(x):
    order = x.dtype.newbyteorder("S")
    return x.astype(order) if order != x.dtype else x.copy()


def _read_only(x):
    y = x.copy()
    y.flags.writeable = False
    return y


def _memmap(x):
    if not x.size:
        return x.copy()
    with tempfile.TemporaryFile() as file:
        y = np.memmap(file, x.dtype, "w+", shape=x.shape or (1,))
    y[...] = x
    return y.reshape(x.shape)


LAYOUTS = {
    "C": np.copy,
    "Fortran": lambda x: x.copy(order="F"),
    "rotated axes": _rotated_axes,
    "strided": _strided,
    "reversed": _reversed,
    "unaligned": _unaligned,
    "byte-swapped": _byte_swapped,
    "read-only": _read_only,
    "memmap": _memmap,
}

# ---- strategies ---------------------------------------------


@st.composite
def shapes(draw, min_dims=1):
    """Up to four short sides; one of them may be long enough for several vectors and their tail."""
    shape = draw(st.lists(st.integers(1, 5), min_size=min_dims, max_size=4))
    if shape and draw(st.booleans()):
        shape[draw(st.integers(0, len(shape) - 1))] = draw(st.integers(1, 200))
    return tuple(shape)


@st.composite
def arrays(draw, dtypes=FLOATS, names=tuple(VALUES), min_dims=1):
    """(array of any layout, a valid axis)."""
    shape = draw(shapes(min_dims))
    dtype, name, seed = draw(st.sampled_from(dtypes)), draw(st.sampled_from(names)), draw(st.integers(0, 2**32))
    layout = draw(st.sampled_from(sorted(LAYOUTS)))
    axis = draw(st.integers(-len(shape), len(shape) - 1)) if shape else -1
    return LAYOUTS[layout](values(name, shape, dtype, seed)), axis


@st.composite
def masks(draw, shape):
    """A boolean array that broadcasts to the shape, seldom all true."""
    sides = [n if draw(st.booleans()) else 1 for n in shape[draw(st.integers(0, len(shape))) :]]
    rng, share = np.random.default_rng(draw(st.integers(0, 2**32))), draw(st.sampled_from([0.0, 0.5, 0.9]))
    return np.asarray(rng.random(sides) < share)
