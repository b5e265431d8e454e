"""Functions are called without a Python frame, but otherwise behave like Python functions.

Lives here: every way to hand over arguments, and what a function tells of itself. Must not: values of results.
"""

import copy
import functools
import inspect
import pickle
import pydoc
import types
import weakref

import numpy as np
import pytest
import softloss
from softloss import _core

NAMES = [name for name in softloss.functional.__all__ if name[0].islower()]
X = np.array([0.1, 1.0, 2.1], np.float32)


def not_interned(text):
    """Keywords that are not interned strings: the call goes to the Python function."""
    return bytes(text, "ascii").decode()


@pytest.mark.parametrize("name", NAMES)
def test_body_gives_core_each_argument_in_its_place(name, monkeypatch):
    """The frameless call relies on this order; _core checks the number of arguments."""
    calls = []

    class Recorder:
        def __getattr__(self, called):
            return lambda *arguments: calls.append((called, arguments))

    function = getattr(softloss, name)
    monkeypatch.setitem(function.__globals__, "_core", Recorder())
    parameters = inspect.signature(function).parameters.values()
    positional = [p.name for p in parameters if p.kind is not inspect.Parameter.KEYWORD_ONLY]
    named = {not_interned(p.name): p.name for p in parameters if p.kind is inspect.Parameter.KEYWORD_ONLY}
    function(*positional, **named)
    [(called, arguments)] = calls
    assert called == name
    assert list(arguments[: len(parameters)]) == positional + list(named.values())
    assert all(isinstance(last, type) for last in arguments[len(parameters) :])


@pytest.mark.parametrize("name", NAMES)
def test_is_a_python_function_to_all_who_ask(name):
    function = getattr(softloss, name)
    assert inspect.isfunction(function)
    assert function.__name__ == function.__qualname__ == name
    assert function.__module__ == "softloss.functional"
    assert repr(function).startswith(f"<function {name} at ")
    assert f"function {name} in module softloss.functional" in pydoc.render_doc(function)
    assert inspect.getsource(function).count("return _core.") == 1
    assert pickle.loads(pickle.dumps(function)) is function
    assert pickle._loads(pickle._dumps(function)) is function
    assert copy.copy(function) is copy.deepcopy(function) is function
    assert weakref.ref(function)() is function


def test_has_no_other_instances():
    kind = type(softloss.softmax)
    for make in (kind, functools.partial(object.__new__, kind)):
        with pytest.raises(TypeError):
            make()


def positional_only_with_default(x, axis=-1, /, *, where=None, temperature=1.0, out=None, dtype=None): ...


def positional_without_default(x, /, axis, *, where=None, temperature=1.0, out=None, dtype=None): ...


def keyword_without_default(x, /, axis=-1, *, where, temperature=1.0, out=None, dtype=None): ...


def no_keyword_with_default(x, /, axis=-1, *, where, temperature, out, dtype): ...


def unknown(x, /): ...


def any_positional(x, /, *rest): ...


def any_keyword(x, /, axis=-1, **options): ...


def seventeen(a, b=1, c=1, d=1, e=1, f=1, g=1, h=1, i=1, j=1, k=1, l=1, m=1, n=1, o=1, p=1, q=1, /): ...  # noqa: E741


@pytest.mark.parametrize(
    "function, reason",
    [
        (positional_only_with_default, "a positional-only argument has a default"),
        (positional_without_default, "an argument has no default"),
        (keyword_without_default, "the keyword-only argument where has no default"),
        (no_keyword_with_default, "the keyword-only argument where has no default"),
        (any_positional, r"it takes \*args or \*\*kwargs"),
        (any_keyword, r"it takes \*args or \*\*kwargs"),
        (seventeen, "it has more than 16 arguments"),
        (len, "it is not a Python function"),
        (softloss.softmax, "it is not a Python function"),
        (None, "it is not a Python function"),
        (unknown, "_core has no function of positional arguments named unknown"),
    ],
    ids=lambda value: getattr(value, "__name__", "") if callable(value) else "",
)
def test_what_cannot_be_called_without_a_frame_is_refused(function, reason):
    """The error comes at construction: calls would use a wrong default, or none."""
    if isinstance(function, types.FunctionType) and function is not unknown:
        function.__name__ = "softmax"  # for which _core has a function
    message = f"^a function cannot be called without a frame: {reason}$"
    with pytest.raises(TypeError, match=message):
        _core.frameless(function)
    with pytest.raises(TypeError, match=message):
        _core.frameless_with(softloss.TopK, function)


def test_settings_cannot_be_called_without_a_frame():
    def set_num_threads(n, /): ...  # pybind11's own, with another way to be called

    with pytest.raises(TypeError, match="_core has no function of positional arguments named set_num_threads"):
        _core.frameless(set_num_threads)


def test_keywords():
    expected = softloss.softmax(X, temperature=2.0)
    out = np.empty_like(X)
    assert softloss.softmax(X, -1, temperature=2.0, out=out) is out
    np.testing.assert_array_equal(out, expected)
    np.testing.assert_array_equal(softloss.softmax(X, axis=-1, **{"temperature": 2.0, "where": None}), expected)
    np.testing.assert_array_equal(softloss.softmax(X, **{not_interned("temperature"): 2.0}), expected)


@pytest.mark.parametrize(
    "arguments, options, message",
    [
        ((), {}, "missing 2 required positional arguments: 'logits' and 'target'"),
        ((X,), {}, "missing 1 required positional argument: 'target'"),
        ((X, 1, 2), {}, "takes 2 positional arguments but 3 were given"),
        ((X, 1), {"axes": 0}, "got an unexpected keyword argument 'axes'"),
        ((X,), {"target": 1}, "got some positional-only arguments passed as keyword arguments: 'target'"),
    ],
)
def test_errors_are_pythons_own(arguments, options, message):
    with pytest.raises(TypeError) as error:
        softloss.cross_entropy(*arguments, **options)
    assert str(error.value).startswith(f"cross_entropy() {message}")


def test_twice_given():
    with pytest.raises(TypeError, match=r"softmax\(\) got multiple values for argument 'axis'"):
        softloss.softmax(X, -1, axis=0)


def test_attributes_can_be_set():
    softloss.sigmoid.note = "mine"
    assert softloss.sigmoid.note == "mine"
    del softloss.sigmoid.note
    assert not hasattr(softloss.sigmoid, "note")


def test_becomes_a_method():
    class Model(np.ndarray):
        activation = softloss.softmax

    model = X.view(Model)
    np.testing.assert_array_equal(model.activation(axis=0), softloss.softmax(X))
    np.testing.assert_array_equal(Model.activation(X), softloss.softmax(X))


def test_type_of_results_must_be_one_of_tuples():
    with pytest.raises(TypeError, match="subclass of tuple"):
        _core.softmax_topk(X, 1, -1, 1.0, int)
    with pytest.raises(TypeError, match="subclass of tuple"):
        _core.softmax_topk(X, 1, -1, 1.0, 3)


@pytest.mark.parametrize("target", [2, np.int64(2), np.uint8(2), np.array(2)], ids=repr)
def test_a_label_needs_no_array(target):
    expected = softloss.cross_entropy(X[None], [2])
    assert softloss.cross_entropy(X, target) == expected
    loss, grad = softloss.cross_entropy_and_grad(X, target)
    assert loss == expected
    assert grad.shape == X.shape
    assert softloss.token_logprobs(X, target).logprob == -expected


@pytest.mark.parametrize("target", [3, -1, 2**63 - 1, -(2**63), 2**63, np.uint64(2**63)], ids=repr)
def test_a_label_out_of_range(target):
    with pytest.raises(IndexError, match=rf"target = {target} is out of range"):
        softloss.cross_entropy(X, target)


def test_a_number_is_no_label():
    for target, error in [(2**64, TypeError), (True, TypeError), (2.0, ValueError), (np.float32(2), ValueError)]:
        with pytest.raises(error, match="target"):
            softloss.cross_entropy(X, target)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64", "int32", int])
def test_results_without_dimensions_are_scalars(dtype):
    if dtype == "bfloat16":
        dtype = pytest.importorskip("ml_dtypes").bfloat16
    x = 1 if dtype is int else np.array(1, dtype)
    of = np.float64 if np.dtype(dtype).kind == "i" else np.dtype(dtype).type
    loss = np.float64 if of is np.float64 else np.float32
    for result in [softloss.softmax(x), softloss.sigmoid(x), softloss.softmax_backward(x, x), softloss.logsumexp(x)]:
        assert type(result) is of
    assert softloss.logsumexp(x) == 1
    assert type(softloss.binary_cross_entropy_with_logits(x, x, reduction="none")) is loss
    losses, grad = softloss.binary_cross_entropy_with_logits_and_grad(x, x)
    assert type(losses) is loss
    assert type(grad) is of
    out = np.empty((), of)
    assert softloss.sigmoid(x, out=out) is out
