"""softloss.boosting: both libraries trained with an objective of softloss, and with their own.

Lives here: the layouts, scales and calls of the installed versions. Must not: derivatives (test_gradients.py,
test_focal.py).
"""

import copy
import pickle

import numpy as np
import pytest
import softloss
from softloss.boosting import objective

BINARY = "binary_cross_entropy_with_logits"
CLASS_LOSSES = {"cross_entropy": {}, "softmax_focal_loss": {"gamma": 0}}
BINARY_LOSSES = {BINARY: {}, "sigmoid_focal_loss": {"gamma": 0}}


def data(classes, rows=300):
    """Points around a centre for each class, their labels, and weights."""
    rng = np.random.default_rng(classes)
    labels = rng.integers(0, classes, rows)
    points = rng.standard_normal((classes, 4))[labels] + 0.7 * rng.standard_normal((rows, 4))
    return points, labels, rng.uniform(0.2, 3, rows)


def losses(classes):
    return CLASS_LOSSES if classes > 2 else BINARY_LOSSES


def of_classes(classes):
    return {"num_class": classes} if classes > 2 else {}


@pytest.mark.parametrize("weighted", [False, True], ids=["plain", "weighted"])
@pytest.mark.parametrize("classes", [2, 3, 7])
def test_xgboost_grows_the_trees_of_its_own_objective(classes, weighted):
    xgboost = pytest.importorskip("xgboost")
    x, y, weight = data(classes)
    rows = xgboost.DMatrix(x, y, weight=weight if weighted else None)
    rows.set_base_margin(np.zeros((len(y), classes) if classes > 2 else len(y)))
    parameters = {"max_depth": 3, "verbosity": 0, "nthread": 1, **of_classes(classes)}
    own = {"objective": "multi:softprob" if classes > 2 else "binary:logistic"}
    expected = xgboost.train(parameters | own, rows, 5).predict(rows, output_margin=True)
    for loss, options in losses(classes).items():
        actual = xgboost.train(parameters, rows, 5, obj=objective(loss, library="xgboost", **options))
        np.testing.assert_allclose(actual.predict(rows, output_margin=True), expected, atol=2e-4)


@pytest.mark.parametrize("weighted", [False, True], ids=["plain", "weighted"])
@pytest.mark.parametrize("classes", [2, 3, 7])
def test_lightgbm_grows_the_trees_of_its_own_objective(classes, weighted):
    lightgbm = pytest.importorskip("lightgbm")
    x, y, weight = data(classes)
    parameters = {"verbosity": -1, "boost_from_average": False, "deterministic": True, "num_threads": 1}
    parameters |= of_classes(classes)

    def scores(chosen):
        rows = lightgbm.Dataset(x, y, weight=weight if weighted else None)
        return lightgbm.train(parameters | {"objective": chosen}, rows, 5).predict(x, raw_score=True)

    expected = scores("multiclass" if classes > 2 else "binary")
    for loss, options in losses(classes).items():
        np.testing.assert_allclose(scores(objective(loss, library="lightgbm", **options)), expected, atol=2e-4)


@pytest.mark.parametrize("classes", [2, 4])
@pytest.mark.parametrize("weighted", [False, True], ids=["plain", "weighted"])
def test_classifiers_with_the_interface_of_scikit_learn(classes, weighted):
    pytest.importorskip("sklearn")
    xgboost, lightgbm = pytest.importorskip("xgboost"), pytest.importorskip("lightgbm")
    x, y, weight = data(classes)
    loss = "cross_entropy" if classes > 2 else BINARY
    for library, model in (
        ("xgboost", lambda o: xgboost.XGBClassifier(n_estimators=10, max_depth=3, n_jobs=1, objective=o)),
        ("lightgbm", lambda o: lightgbm.LGBMClassifier(n_estimators=10, n_jobs=1, verbosity=-1, objective=o)),
    ):
        built_in = {"xgboost": ("binary:logistic", "multi:softprob"), "lightgbm": ("binary", "multiclass")}[library]
        accuracy = []
        for chosen in (built_in[classes > 2], objective(loss, library=library)):
            fitted = copy.deepcopy(model(chosen)).fit(x, y, sample_weight=weight if weighted else None)
            raw = {"output_margin": True} if library == "xgboost" else {"raw_score": True}
            scores = fitted.predict(x, **raw)
            answer = scores.argmax(1) if classes > 2 else scores > 0
            accuracy.append(np.mean(answer == y))
        assert accuracy[1] >= accuracy[0] - 0.01


def test_xgboost_takes_class_probabilities():
    xgboost = pytest.importorskip("xgboost")
    x, y, _ = data(3)
    soft = 0.9 * np.eye(3)[y] + 0.1 / 3
    rows = xgboost.DMatrix(x, soft)
    parameters = {"max_depth": 3, "verbosity": 0, "nthread": 1, "base_score": 0, "disable_default_eval_metric": True}
    model = xgboost.train(parameters, rows, 20, obj=objective("cross_entropy", library="xgboost"))
    scores = model.predict(rows, output_margin=True)
    assert softloss.cross_entropy(scores, soft) < 0.9 * softloss.cross_entropy(np.zeros((300, 3)), soft)
    smoothed = xgboost.DMatrix(x, y)
    model = xgboost.train(
        parameters | {"num_class": 3},
        smoothed,
        20,
        obj=objective("cross_entropy", library="xgboost", label_smoothing=0.1),
    )
    np.testing.assert_allclose(model.predict(smoothed, output_margin=True), scores, atol=1e-3)


def test_focal_objectives_learn():
    xgboost, lightgbm = pytest.importorskip("xgboost"), pytest.importorskip("lightgbm")
    x, y, _ = data(2)
    focal = {"gamma": 1.5, "alpha": 0.4}
    rows = xgboost.DMatrix(x, y)
    parameters = {"verbosity": 0, "nthread": 1, "base_score": 0}
    model = xgboost.train(parameters, rows, 20, obj=objective("sigmoid_focal_loss", library="xgboost", **focal))
    assert np.mean((model.predict(rows, output_margin=True) > 0) == y) > 0.9
    parameters = {"objective": objective("sigmoid_focal_loss", library="lightgbm", **focal), "verbosity": -1}
    model = lightgbm.train(parameters, lightgbm.Dataset(x, y), 20)
    assert np.mean((model.predict(x, raw_score=True) > 0) == y) > 0.9


# ---- without the libraries ---------------------------------------------


class Data:
    """What an objective reads of a DMatrix or a Dataset."""

    def __init__(self, label, weight=None):
        self.get_label, self.get_weight = (lambda: label), (lambda: weight)


def test_both_forms_of_a_call_are_one():
    rng = np.random.default_rng(0)
    scores, labels, weight = rng.standard_normal((6, 3)), np.arange(6.0) % 3, rng.random(6)
    call = objective("cross_entropy", library="lightgbm", weight=[1, 2, 3])
    expected = softloss.cross_entropy_grad_hess(
        scores, labels.astype(int), weight=[1, 2, 3], sample_weight=weight, hess_scale=1.5
    )
    for grad, hess in (
        call(scores, Data(labels, weight)),
        call(labels, scores, weight),
        pickle.loads(pickle.dumps(call))(labels, scores, sample_weight=weight),
    ):
        np.testing.assert_array_equal(grad, expected.grad)
        np.testing.assert_array_equal(hess, expected.hess)
    grad, hess = call(np.asfortranarray(scores), Data(labels, weight))
    assert grad.flags.f_contiguous and hess.flags.f_contiguous
    np.testing.assert_array_equal(grad, expected.grad)


def test_weights_of_the_data_multiply_those_of_the_elements():
    scores, labels, weight = np.array([0.5, -1.0]), np.array([1.0, 0.0]), np.array([2.0, 3.0])
    call = objective(softloss.binary_cross_entropy_with_logits, library="lightgbm", weight=0.5, hess_scale=4)
    expected = softloss.binary_cross_entropy_with_logits_grad_hess(scores, labels, weight=0.5 * weight, hess_scale=4)
    np.testing.assert_array_equal(call(scores, Data(labels, weight)), expected)
    table = objective(BINARY, library="lightgbm")(np.tile(scores, (3, 1)).T, Data(np.tile(labels, (3, 1)).T, weight))
    expected = softloss.binary_cross_entropy_with_logits_grad_hess(scores, labels, weight=weight)
    np.testing.assert_array_equal(table[0], np.tile(expected.grad, (3, 1)).T)


@pytest.mark.parametrize(
    "arguments, options, error, message",
    [
        (("nll_loss",), {"library": "xgboost"}, ValueError, "loss must be one of cross_entropy, .*got 'nll_loss'"),
        ((3,), {"library": "xgboost"}, ValueError, "loss must be one of"),
        (("cross_entropy",), {"library": "catboost"}, ValueError, "library must be 'xgboost' or 'lightgbm'"),
        (("cross_entropy",), {}, TypeError, "library"),
        (("cross_entropy",), {"library": "xgboost", "gamma": 2}, TypeError, "cross_entropy has no option 'gamma'"),
        (("cross_entropy",), {"library": "xgboost", "axis": 0}, TypeError, "no option 'axis'"),
    ],
)
def test_errors_of_arguments(arguments, options, error, message):
    with pytest.raises(error, match=message):
        objective(*arguments, **options)


def test_errors_of_calls():
    call = objective("cross_entropy", library="lightgbm")
    with pytest.raises(ValueError, match="whole numbers"):
        call(np.zeros((2, 3)), Data(np.array([0.5, 1])))
    with pytest.raises(ValueError, match="pass num_class"):
        call(np.zeros(2), Data(np.array([0.0, 1])))
    with pytest.raises(IndexError, match="out of range"):
        call(np.zeros((2, 3)), Data(np.array([0.0, 3])))
