"""softloss.dask against the oracle and against the calls on NumPy arrays; the recipes for dask and xarray.

Needs the packages of the extra `test-dask`, without which the tests are skipped.

Lives here: tests of dask arrays. Must not: functions on NumPy arrays.
"""

import subprocess
import sys

import numpy as np
import pytest
import reference
import softloss
import strategies
from workload import own_allocator

dask = pytest.importorskip("dask")
da = pytest.importorskip("dask.array")
pytest.importorskip("softloss.dask")

LONG_IS_WIDE = np.finfo(np.longdouble).nmant > 52
LIMIT = {"float32": 2, "float64": 2 if LONG_IS_WIDE else 4}
# Shape and chunks: the class axis, the last, is cut into 8, 6 and 20 pieces. Each kind of values meets one of them.
LAYOUTS = [((12, 37), (5, 5)), ((2, 3, 600), (1, 3, 100)), ((3, 4000), (2, 200))]
CASES = [(value, LAYOUTS[i % 3]) for i, value in enumerate(strategies.VALUES)]


@pytest.fixture(autouse=True)
def once_in_one_thread(isa):
    if isa != softloss._core.usable_isas()[-1]:
        pytest.skip("nothing here depends on the instruction set: once is enough")
    with dask.config.set(scheduler="synchronous"):
        yield


def arrays(value, layout, dtype):
    shape, chunks = layout
    x = strategies.values(value, shape, dtype, seed=7)
    return x, da.from_array(x, chunks=chunks)


def labels(shape, classes, seed=1):
    y = np.random.default_rng(seed).integers(0, classes, shape)
    y.flat[1] = -100
    return y


def drop_subnormals(got, true, dtype):
    """The error bound of softmax holds if the result is a normal number."""
    normal = ~(abs(true) < np.finfo(dtype).tiny)
    return np.where(normal, got, 0).astype(dtype), np.where(normal, true, 0)


# ---- values ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("value", "layout"), CASES, ids=str)
def test_transforms_are_within_the_promised_ulp(value, layout, dtype):
    x, chunked = arrays(value, layout, dtype)
    for options in ({}, {"temperature": 0.7}):
        for name in ("softmax", "log_softmax"):
            got = getattr(softloss.dask, name)(chunked, **options)
            assert got.dtype == dtype and got.chunks == chunked.chunks
            got, true = got.compute(), getattr(reference, name)(x, **options)
            if name == "softmax":
                got, true = drop_subnormals(got, true, dtype)
            reference.assert_ulps(got, true, LIMIT[dtype], f"{name}, {options}")
    got = softloss.dask.logsumexp(chunked)
    assert got.dtype == dtype
    reference.assert_ulps(got.compute(), reference.logsumexp(x), LIMIT[dtype])
    assert softloss.dask.logsumexp(chunked, keepdims=True).compute().shape == (*x.shape[:-1], 1)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("value", "layout"), CASES, ids=str)
def test_cross_entropy_is_within_the_promised_ulp(value, layout, dtype):
    x, chunked = arrays(value, layout, dtype)
    rows, classes = x.shape[:-1], x.shape[-1]
    rng = np.random.default_rng(2)
    weights = {"weight": rng.uniform(0.5, 2, classes), "sample_weight": rng.uniform(0.5, 2, rows)}
    targets = labels(rows, classes), strategies.probabilities(x.shape, dtype, seed=3)
    for target in targets:
        for options in ({}, {"label_smoothing": 0.125, "temperature": 0.5}, weights):
            for reduction in ("none", "mean", "sum"):
                got = softloss.dask.cross_entropy(chunked, target, reduction=reduction, **options)
                true = reference.cross_entropy(x, target, reduction=reduction, **options)
                assert got.dtype == dtype
                reference.assert_ulps(got.compute(), true, LIMIT[dtype], f"{reduction}, {options}")


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("spread", [0.1, 3.0, 30.0])
def test_results_are_those_of_one_array_within_two_units(dtype, spread):
    rng = np.random.default_rng(4)
    x = (spread * rng.standard_normal((20, 1000))).astype(dtype)
    y = rng.integers(0, 1000, 20)
    chunked = da.from_array(x, chunks=(6, 90))
    pairs = [(getattr(softloss.dask, f), getattr(softloss, f), {}) for f in ("softmax", "log_softmax", "logsumexp")]
    for lazy, eager, options in pairs:
        got, expected = lazy(chunked, **options).compute(), eager(x, **options)
        normal = abs(expected) >= np.finfo(dtype).tiny
        assert np.all(abs(got - expected)[normal] <= LIMIT[dtype] * np.spacing(abs(expected))[normal])
    got = softloss.dask.cross_entropy(chunked, y, reduction="none").compute()
    expected = softloss.cross_entropy(x, y, reduction="none")
    assert np.all(abs(got - expected) <= LIMIT[dtype] * np.spacing(expected))


def test_small_losses_keep_their_digits_across_chunks():
    x = np.zeros((3, 40))
    x[:, 0] = [16, 40, 700]
    got = softloss.dask.cross_entropy(da.from_array(x, chunks=(1, 7)), [0, 0, 0], reduction="none").compute()
    reference.assert_ulps(got, reference.cross_entropy(x, np.zeros(3, int), reduction="none"), LIMIT["float64"])


@pytest.mark.parametrize("dtype", ["float16", "int32", "bool"])
def test_other_dtypes_give_what_one_array_gives(dtype):
    x = np.random.default_rng(5).integers(-9, 9, (6, 50)).astype(dtype)
    chunked = da.from_array(x, chunks=(4, 20))
    for name, tolerance in (("softmax", 2e-3), ("log_softmax", 2e-3), ("logsumexp", 2e-3)):
        got, expected = getattr(softloss.dask, name)(chunked).compute(), getattr(softloss, name)(x)
        assert got.dtype == expected.dtype
        np.testing.assert_allclose(got, expected, rtol=tolerance if dtype == "float16" else 1e-14)
    y = labels(6, 50)
    got, expected = softloss.dask.cross_entropy(chunked, y).compute(), softloss.cross_entropy(x, y)
    assert got.dtype == expected.dtype
    np.testing.assert_allclose(got, expected, rtol=1e-6)


def test_any_axis():
    x = np.random.default_rng(6).standard_normal((30, 4, 5)).astype(np.float32)
    chunked = da.from_array(x, chunks=(7, 4, 2))
    y = labels((30, 5), 4)
    for axis in (0, 1, -3):
        got = softloss.dask.softmax(chunked, axis).compute()
        np.testing.assert_allclose(got, softloss.softmax(x, axis), rtol=1e-6)
        got = softloss.dask.logsumexp(chunked, axis, keepdims=True).compute()
        np.testing.assert_allclose(got, softloss.logsumexp(x, axis, keepdims=True), rtol=1e-6)
    got = softloss.dask.cross_entropy(chunked, da.from_array(y, chunks=10), axis=1).compute()
    np.testing.assert_allclose(got, softloss.cross_entropy(x, y, axis=1), rtol=1e-6)


def test_nothing_to_average_and_no_classes():
    x = da.zeros((4, 6), chunks=(2, 3))
    ignored = np.full(4, -100)
    assert np.isnan(softloss.dask.cross_entropy(x, ignored).compute())
    assert softloss.dask.cross_entropy(x, ignored, empty=0.0).compute() == 0
    assert softloss.dask.cross_entropy(x, ignored, reduction="sum").compute() == 0
    assert np.all(softloss.dask.logsumexp(da.zeros((3, 0))).compute() == -np.inf)
    assert softloss.dask.softmax(da.zeros((3, 0))).compute().shape == (3, 0)


# ---- errors ---------------------------------------------------------------------------------------------------------


def test_a_bad_label_is_an_index_error_that_names_block_and_place():
    y = np.zeros(10, np.int64)
    y[7] = 20
    loss = softloss.dask.cross_entropy(da.zeros((10, 20), chunks=(5, 6)), y)
    with pytest.raises(IndexError, match=r"block of target that starts at \(5,\): target\[2\] = 20 is out of range"):
        loss.compute()


@pytest.mark.parametrize(
    ("arguments", "options", "error", "text"),
    [
        (((4, 6), np.zeros(3, int)), {}, ValueError, r"target of shape \(3,\) does not fit logits of shape \(4, 6\)"),
        (((4, 6), np.zeros(4, bool)), {}, TypeError, "bool"),
        (((4, 6), np.zeros(4, int)), {"weight": np.ones(5)}, ValueError, r"weight must have shape \(6,\), got \(5,\)"),
        (
            ((4, 6), np.zeros(4, int)),
            {"sample_weight": np.ones(6)},
            ValueError,
            r"sample_weight must have shape \(4,\)",
        ),
        (((4, 6), np.zeros(4, int)), {"label_smoothing": 2.0}, ValueError, "label_smoothing"),
        (((4, 6), np.zeros(4, int)), {"temperature": 0.0}, ValueError, "temperature"),
        (((4, 6), np.zeros(4, int)), {"reduction": "all"}, ValueError, "reduction"),
        (((4, 0), np.zeros(4, int)), {}, ValueError, "no classes"),
    ],
)
def test_errors_that_need_no_data_are_raised_at_once(arguments, options, error, text):
    shape, target = arguments
    with pytest.raises(error, match=text):
        softloss.dask.cross_entropy(da.zeros(shape, chunks=2), target, **options)


def test_refused_dtypes_are_refused_at_once():
    with pytest.raises(TypeError, match="complex"):
        softloss.dask.softmax(da.zeros((2, 4), chunks=2, dtype=complex))


# ---- chunks of unknown size -----------------------------------------------------------------------------------------


def some_rows(x, chunks):
    """All rows except two, as a dask array of unknown length."""
    keep = np.arange(len(x)) % 7 != 3
    lazy = da.from_array(x, chunks=chunks)[da.from_array(keep, chunks=chunks[0])]
    assert np.isnan(lazy.shape[0])
    return lazy, x[keep]


@pytest.mark.parametrize("chunks", [(4, 3), (4, 6), (12, 2)])
def test_chunks_of_unknown_size(chunks):
    rng = np.random.default_rng(10)
    logits, x = some_rows(rng.standard_normal((12, 6)), chunks)
    soft, q = some_rows(strategies.probabilities((12, 6), np.float64, seed=3), (chunks[0], 4))
    hard, y = some_rows(labels(12, 6), chunks[:1])
    sample_weight, s = some_rows(rng.uniform(0.5, 2, 12), chunks[:1])
    for name in ("softmax", "log_softmax", "logsumexp"):
        got = getattr(softloss.dask, name)(logits).compute()
        np.testing.assert_allclose(got, getattr(softloss, name)(x), rtol=1e-14)
    np.testing.assert_allclose(softloss.dask.softmax(logits.T, 0).compute(), softloss.softmax(x.T, 0), rtol=1e-14)
    for lazy, target in ((hard, y), (soft, q)):
        for weights, plain in (({}, {}), ({"sample_weight": sample_weight}, {"sample_weight": s})):
            for reduction in ("none", "mean", "sum"):
                got = softloss.dask.cross_entropy(logits, lazy, reduction=reduction, **weights).compute()
                expected = softloss.cross_entropy(x, target, reduction=reduction, **plain)
                np.testing.assert_allclose(got, expected, rtol=1e-14)
    got = softloss.dask.cross_entropy(logits.T, hard, axis=0).compute()
    np.testing.assert_allclose(got, softloss.cross_entropy(x, y), rtol=1e-14)


def test_chunks_of_unknown_size_that_do_not_fit():
    logits, _ = some_rows(np.zeros((12, 6)), (4, 3))
    hard, _ = some_rows(np.zeros(12, int), (6,))
    for target in (hard, np.zeros(10, int)):
        with pytest.raises(
            ValueError, match="^target has . chunks? along axis 0, but logits has 3, .*compute_chunk_sizes"
        ):
            softloss.dask.cross_entropy(logits, target)
    with pytest.raises(ValueError, match=r"^logits has chunks of unknown size along axis 0; call logits\.compute"):
        softloss.dask.cross_entropy(logits, np.zeros(6, int), axis=0)
    with pytest.raises(ValueError, match="does not fit"):
        softloss.dask.cross_entropy(logits, np.zeros((12, 5)))
    bad, _ = some_rows(np.full(12, 6), (4,))
    with pytest.raises(IndexError, match=r"in the block of target \(\d,\): target\[0\] = 6 is out of range"):
        softloss.dask.cross_entropy(logits, bad).compute()


class Labelled:
    """As xarray.DataArray."""

    def __init__(self, data):
        self.data, self.dtype, self.shape, self.chunks = data, data.dtype, data.shape, data.chunks


@pytest.mark.parametrize("name", ["softmax", "log_softmax", "logsumexp", "cross_entropy"])
def test_other_objects_than_dask_arrays(name):
    function, target = getattr(softloss.dask, name), ([0, 1],) if name == "cross_entropy" else ()
    argument = "logits" if target else "x"
    lazy = da.zeros((2, 3), chunks=2)
    for x, kind, line in (
        (np.zeros((2, 3)), "ndarray", f"dask.array.asarray({argument})"),
        ([[0.0] * 3] * 2, "list", f"dask.array.asarray({argument})"),
        (Labelled(lazy), "Labelled", f"{argument}.data"),
    ):
        with pytest.raises(TypeError) as caught:
            function(x, *target)
        assert str(caught.value) == f"{argument} must be a dask.array.Array, got {kind}; pass {line}"
        function(eval(line, {"dask": dask, argument: x}), *target).compute()


# ---- recipes --------------------------------------------------------------------------------------------------------


def test_recipe_map_blocks():
    x = np.random.default_rng(8).standard_normal((40, 7)).astype(np.float32)
    y = np.random.default_rng(9).integers(0, 7, 40)
    logits, target = da.from_array(x, chunks=(9, -1)), da.from_array(y, chunks=9)
    probs = logits.map_blocks(softloss.softmax, dtype=logits.dtype)
    assert np.array_equal(probs.compute(), softloss.softmax(x))
    losses = da.blockwise(
        softloss.cross_entropy, "n", logits, "nc", target, "n", reduction="none", concatenate=True, dtype=logits.dtype
    )
    assert np.array_equal(losses.compute(), softloss.cross_entropy(x, y, reduction="none"))


def test_recipe_xarray():
    xarray = pytest.importorskip("xarray")
    x = np.random.default_rng(8).standard_normal((40, 3, 7)).astype(np.float32)
    y = np.random.default_rng(9).integers(0, 7, (40, 3))
    logits = xarray.DataArray(x, dims=("time", "site", "class")).chunk({"time": 9})
    target = xarray.DataArray(y, dims=("time", "site")).chunk({"time": 9})
    probs = xarray.apply_ufunc(
        softloss.softmax,
        logits,
        input_core_dims=[["class"]],
        output_core_dims=[["class"]],
        dask="parallelized",
        output_dtypes=[logits.dtype],
    )
    assert np.array_equal(probs.values, softloss.softmax(x))
    losses = xarray.apply_ufunc(
        softloss.cross_entropy,
        logits,
        target,
        input_core_dims=[["class"], []],
        kwargs={"reduction": "none"},
        dask="parallelized",
        output_dtypes=[logits.dtype],
    )
    assert losses.dims == ("time", "site")
    assert np.array_equal(losses.values, softloss.cross_entropy(x, y, reduction="none"))


# ---- processes ------------------------------------------------------------------------------------------------------

CLUSTER = """
import dask, dask.array as da, numpy as np, softloss, softloss.dask
from distributed import Client, LocalCluster

ROWS, CLASSES, LIMIT = 2048, 32768, 320 << 20  # 512 MiB of logits in float64


def block(block_info):
    (rows, classes) = block_info[None]["array-location"]
    shape = rows[1] - rows[0], classes[1] - classes[0]
    return 3 * np.random.default_rng([rows[0], classes[0]]).standard_normal(shape)


if __name__ == "__main__":
    dask.config.set({"distributed.worker.daemon": True, "logging.distributed": "error"})
    with LocalCluster(n_workers=2, threads_per_worker=1, memory_limit=LIMIT, dashboard_address=None) as cluster:
        with Client(cluster) as client:
            assert len(client.scheduler_info()["workers"]) == 2
            x = da.map_blocks(block, chunks=((64,) * (ROWS // 64), (4096,) * (CLASSES // 4096)), dtype=float)
            assert x.nbytes > LIMIT
            y = np.arange(ROWS) * 21 % CLASSES
            loss = softloss.dask.cross_entropy(x, y, reduction="none").compute()
            sums = softloss.dask.softmax(x).sum(-1).compute()
            first = x[:64].compute()
    true = softloss.cross_entropy(first, y[:64], reduction="none")
    assert np.all(abs(loss[:64] - true) <= 2 * np.spacing(true)), abs(loss[:64] - true).max()
    assert loss.shape == (ROWS,) and np.all(loss > 0)
    assert np.all(abs(sums - 1) < 1e-12)
    print("scored", ROWS)
"""


@own_allocator
def test_data_beyond_the_memory_of_the_workers_of_a_cluster(tmp_path):
    pytest.importorskip("distributed")
    script = tmp_path / "cluster.py"
    script.write_text(CLUSTER)
    run = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=240)
    assert run.returncode == 0, run.stderr[-3000:]
    assert "scored 2048" in run.stdout


def test_softloss_does_not_import_dask():
    code = "import sys, softloss; sys.exit('dask' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
