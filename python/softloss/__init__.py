"""softloss: softmax, log-softmax and the losses built on them, for NumPy arrays, fast and accurate.

Probabilities, and the loss of logits against labels:

>>> import softloss
>>> logits = [[2.0, 1.0, 0.1], [0.5, 2.0, 0.3]]
>>> softloss.softmax(logits).round(3)
array([[0.659, 0.242, 0.099],
       [0.159, 0.711, 0.13 ]])
>>> print(softloss.cross_entropy(logits, [0, 1]).round(4))
0.3788

Transforms: `softmax`, `log_softmax`, `logsumexp`, `sigmoid`, `log_sigmoid`. Losses: `cross_entropy` on
logits, `nll_loss` on log-probabilities, `categorical_cross_entropy` on probabilities, and for yes-or-no
targets `binary_cross_entropy_with_logits` and `binary_cross_entropy`. `softloss.special` has SciPy's
signatures. `softloss.functional` states the rules common to all.

Lives here: the public names, the setting of threads, the report of the build. Must not: functions on arrays.
"""

from __future__ import annotations

import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal, overload

if sys.version_info >= (3, 13):
    import _interpreters
else:
    import _xxsubinterpreters as _interpreters  # type: ignore[import-not-found]

if _interpreters.get_current() != _interpreters.get_main():  # where NumPy's import would fail or, before 3.12, hang
    raise ImportError("softloss cannot be loaded in a sub-interpreter")

from softloss import _core, special
from softloss._core import __version__
from softloss.functional import (
    GradHess,
    LossGrad,
    TokenScores,
    TopK,
    binary_cross_entropy,
    binary_cross_entropy_and_grad,
    binary_cross_entropy_with_logits,
    binary_cross_entropy_with_logits_and_grad,
    binary_cross_entropy_with_logits_grad_hess,
    categorical_cross_entropy,
    categorical_cross_entropy_and_grad,
    cross_entropy,
    cross_entropy_and_grad,
    cross_entropy_grad_hess,
    log_sigmoid,
    log_softmax,
    log_softmax_backward,
    logsumexp,
    nll_loss,
    nll_loss_and_grad,
    sigmoid,
    softmax,
    softmax_backward,
    softmax_topk,
    token_logprobs,
)

if TYPE_CHECKING:
    from collections.abc import Generator

__all__ = [
    "GradHess",
    "LossGrad",
    "TokenScores",
    "TopK",
    "__version__",
    "binary_cross_entropy",
    "binary_cross_entropy_and_grad",
    "binary_cross_entropy_with_logits",
    "binary_cross_entropy_with_logits_and_grad",
    "binary_cross_entropy_with_logits_grad_hess",
    "categorical_cross_entropy",
    "categorical_cross_entropy_and_grad",
    "cross_entropy",
    "cross_entropy_and_grad",
    "cross_entropy_grad_hess",
    "empty_cache",
    "get_num_threads",
    "log_sigmoid",
    "log_softmax",
    "log_softmax_backward",
    "logsumexp",
    "nll_loss",
    "nll_loss_and_grad",
    "set_cache_limit",
    "set_num_threads",
    "show_config",
    "sigmoid",
    "softmax",
    "softmax_backward",
    "softmax_topk",
    "special",
    "threads",
    "token_logprobs",
]


def set_num_threads(n: int) -> None:
    """Let calls use up to `n` threads, from now on and in the whole process.

    Calls at the same time share them: each takes what the others leave, and has its own in any case. Children of
    a fork run on one thread. The setting at the start is SOFTLOSS_NUM_THREADS or else OMP_NUM_THREADS of the
    environment, or else the number of CPUs that the process may run on. Results do not depend on it.

    Parameters
    ----------
    n : int
        At least 1, else ValueError.

    Examples
    --------
    >>> import softloss
    >>> softloss.set_num_threads(softloss.get_num_threads())
    """
    _core.set_num_threads(n)


def get_num_threads() -> int:
    """Return the number of threads that a call may use.

    Examples
    --------
    >>> import softloss
    >>> softloss.get_num_threads() >= 1
    True
    """
    return _core.get_num_threads()


@contextmanager
def threads(n: int) -> Generator[None, None, None]:
    """Context in which calls use up to `n` threads.

    The setting holds for the whole process; the former one comes back at the end of the context.

    Examples
    --------
    >>> import softloss
    >>> with softloss.threads(1):
    ...     softloss.get_num_threads()
    1
    """
    before = _core.get_num_threads()
    _core.set_num_threads(n)
    try:
        yield
    finally:
        _core.set_num_threads(before)


def set_cache_limit(nbytes: int) -> None:
    """Keep at most `nbytes` of memory of former large results for new ones.

    Memory that is touched for the first time costs more than most of what is computed here, so the memory of
    results of 1 MiB and more is kept when they die and used again. The limit at the start is SOFTLOSS_CACHE_BYTES
    of the environment, or else a sixteenth of the machine's memory, at most 1 GiB.

    Parameters
    ----------
    nbytes : int
        At least 0, else ValueError; 0 turns it off.

    Examples
    --------
    >>> import softloss
    >>> softloss.set_cache_limit(256 << 20)
    """
    _core.set_cache_limit(nbytes)


def empty_cache() -> None:
    """Give the memory kept for new results back to the system.

    Examples
    --------
    >>> import softloss
    >>> softloss.empty_cache()
    """
    _core.empty_cache()


@overload
def show_config(mode: Literal["stdout"] = ...) -> None: ...
@overload
def show_config(mode: Literal["dicts"]) -> dict[str, Any]: ...
def show_config(mode: Literal["stdout", "dicts"] = "stdout") -> dict[str, Any] | None:
    """Print version, instruction set chosen and usable ones, OpenMP, threads and compiler.

    Parameters
    ----------
    mode : {"stdout", "dicts"}, default "stdout"
        "dicts" returns them as a dictionary instead; any other is a ValueError.

    Examples
    --------
    >>> import softloss
    >>> sorted(softloss.show_config(mode="dicts"))
    ['compiler', 'isa', 'openmp', 'threads', 'usable_isas', 'version']
    """
    if mode not in ("stdout", "dicts"):
        raise ValueError(f'mode = {mode!r}, but it must be "stdout" or "dicts"')
    config = _core.config()
    if mode == "dicts":
        return config
    for key, value in config.items():
        print(f"{key}: {value}")
    return None
