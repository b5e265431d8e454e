"""softloss: fast and accurate softmax, log-softmax and cross-entropy losses for NumPy arrays.

Probabilities, and the loss of logits against labels:

>>> import softloss
>>> logits = [[2.0, 1.0, 0.1], [0.5, 2.0, 0.3]]
>>> softloss.softmax(logits).round(3)
array([[0.659, 0.242, 0.099],
       [0.159, 0.711, 0.13 ]])
>>> print(softloss.cross_entropy(logits, [0, 1]).round(4))
0.3788

Transforms: `softmax`, `log_softmax`, `logsumexp`, `log_normalize`, `sigmoid`, `log_sigmoid`. Losses: `cross_entropy`
on logits, `nll_loss` on log-probabilities, `categorical_cross_entropy` on probabilities, and for binary targets
`binary_cross_entropy_with_logits` and `binary_cross_entropy`; `softmax_focal_loss` and `sigmoid_focal_loss` give less
weight to what is classified well. Of two arrays of logits: `kl_divergence` and `js_divergence`. Calibration:
`fit_temperature`, `calibration_error`, `brier_score`. The last layer and its loss, in bounded memory:
`linear_cross_entropy`. `softloss.boosting` makes objectives for XGBoost and LightGBM of the losses, and
`softloss.special` has SciPy's signatures. The rules for all functions are in `softloss.functional`.

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

if _interpreters.get_current() != _interpreters.get_main():  # there, importing NumPy fails or, before 3.12, hangs
    raise ImportError("softloss cannot be loaded in a sub-interpreter")

from softloss import _core, boosting, special
from softloss._core import __version__
from softloss.functional import (
    GradHess,
    LogNormalized,
    LossGrad,
    Sample,
    TemperatureFit,
    TokenScores,
    TopK,
    binary_cross_entropy,
    binary_cross_entropy_and_grad,
    binary_cross_entropy_with_logits,
    binary_cross_entropy_with_logits_and_grad,
    binary_cross_entropy_with_logits_grad_hess,
    brier_score,
    calibration_error,
    categorical_cross_entropy,
    categorical_cross_entropy_and_grad,
    cross_entropy,
    cross_entropy_and_grad,
    cross_entropy_grad_hess,
    fit_temperature,
    js_divergence,
    kl_divergence,
    kl_divergence_and_grad,
    log_normalize,
    log_sigmoid,
    log_softmax,
    log_softmax_backward,
    logsumexp,
    nll_loss,
    nll_loss_and_grad,
    sample,
    sigmoid,
    sigmoid_focal_loss,
    sigmoid_focal_loss_and_grad,
    sigmoid_focal_loss_grad_hess,
    softmax,
    softmax_backward,
    softmax_entropy,
    softmax_focal_loss,
    softmax_focal_loss_and_grad,
    softmax_focal_loss_grad_hess,
    softmax_topk,
    token_logprobs,
)
from softloss.linear import (
    LinearGrad,
    linear_cross_entropy,
    linear_cross_entropy_and_grad,
    linear_softmax_topk,
    linear_token_logprobs,
)

if TYPE_CHECKING:
    from collections.abc import Generator

__all__ = [
    "GradHess",
    "LinearGrad",
    "LogNormalized",
    "LossGrad",
    "Sample",
    "TemperatureFit",
    "TokenScores",
    "TopK",
    "__version__",
    "binary_cross_entropy",
    "binary_cross_entropy_and_grad",
    "binary_cross_entropy_with_logits",
    "binary_cross_entropy_with_logits_and_grad",
    "binary_cross_entropy_with_logits_grad_hess",
    "boosting",
    "brier_score",
    "calibration_error",
    "categorical_cross_entropy",
    "categorical_cross_entropy_and_grad",
    "cross_entropy",
    "cross_entropy_and_grad",
    "cross_entropy_grad_hess",
    "empty_cache",
    "fit_temperature",
    "get_num_threads",
    "js_divergence",
    "kl_divergence",
    "kl_divergence_and_grad",
    "linear_cross_entropy",
    "linear_cross_entropy_and_grad",
    "linear_softmax_topk",
    "linear_token_logprobs",
    "log_normalize",
    "log_sigmoid",
    "log_softmax",
    "log_softmax_backward",
    "logsumexp",
    "nll_loss",
    "nll_loss_and_grad",
    "sample",
    "set_cache_limit",
    "set_num_threads",
    "show_config",
    "sigmoid",
    "sigmoid_focal_loss",
    "sigmoid_focal_loss_and_grad",
    "sigmoid_focal_loss_grad_hess",
    "softmax",
    "softmax_backward",
    "softmax_entropy",
    "softmax_focal_loss",
    "softmax_focal_loss_and_grad",
    "softmax_focal_loss_grad_hess",
    "softmax_topk",
    "special",
    "threads",
    "token_logprobs",
]


def set_num_threads(n: int) -> None:
    """Let each call use up to `n` threads, in the whole process.

    Concurrent calls share these threads: each takes those that the others leave, and always has its own thread.
    Forked child processes use one thread. The initial value is that of the environment variable
    SOFTLOSS_NUM_THREADS, or else of OMP_NUM_THREADS, or else the number of CPUs that the process may run on.
    Results do not depend on it.

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

    The setting applies to the whole process. At the end of the context the previous one is restored.

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
    """Set how much memory of freed results is kept for new ones.

    The first use of new memory often takes longer than the computation. So the memory of results of 1 MiB or more is
    kept when they are freed, and used again. If memory runs short, it is returned to the system before a call fails.
    The initial limit is that of the environment variable SOFTLOSS_CACHE_BYTES, or else 1/16 of the memory of the
    machine or of the container (cgroup), whichever is smaller, and at most 1 GiB.

    Parameters
    ----------
    nbytes : int
        At least 0, else ValueError; 0 keeps no memory.

    Examples
    --------
    >>> import softloss
    >>> softloss.set_cache_limit(256 << 20)
    """
    _core.set_cache_limit(nbytes)


def empty_cache() -> None:
    """Return the memory that is kept for new results to the system.

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
    """Print the version, the instruction sets (in use and usable), OpenMP, the threads and the compiler.

    Parameters
    ----------
    mode : {"stdout", "dicts"}, default "stdout"
        "dicts" returns a dictionary instead of printing; any other value is a ValueError.

    Examples
    --------
    >>> import softloss
    >>> sorted(softloss.show_config(mode="dicts"))
    ['compiler', 'isa', 'openmp', 'threads', 'usable_isas', 'version']
    """
    if mode not in ("stdout", "dicts"):
        raise ValueError(f"mode must be 'stdout' or 'dicts', got {mode!r}")
    config = _core.config()
    if mode == "dicts":
        return config
    for key, value in config.items():
        print(f"{key}: {value}")
    return None
