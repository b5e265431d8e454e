"""Train XGBoost and LightGBM on softloss's cross-entropy: gradient and Hessian of a custom objective in one pass.

    python examples/gbdt_objective.py

A custom objective gives the booster the gradient and the diagonal Hessian of the loss with respect to its scores.
Here they come from `cross_entropy_grad_hess` (digits, ten classes) and `binary_cross_entropy_with_logits_grad_hess`
(breast cancer, yes or no), scaled as the libraries' own objectives scale them. Each model is trained again with the
library's own objective. Exits with 1 if its test accuracy is not reached.

From here it is one step to losses that the libraries lack: weight=, sample_weight=, pos_weight=.

Lives here: the objectives and the comparison. Must not: tuning of trees.
"""

import argparse
import sys

import lightgbm
import numpy as np
import softloss
import xgboost
from rich.progress import track
from sklearn.datasets import load_breast_cancer, load_digits
from sklearn.model_selection import train_test_split

SLACK = 0.005  # accuracy that may be lost to trees that grew differently from the last bit of a gradient
TREE = {"max_depth": 4, "learning_rate": 0.2}


def multiclass(scores, labels, hess_scale):
    """Return gradient and Hessian of the summed cross-entropy."""
    return softloss.cross_entropy_grad_hess(scores, labels, hess_scale=hess_scale, hess_min=1e-16)


def binary(scores, labels):
    """Return gradient and Hessian of the summed binary cross-entropy."""
    return softloss.binary_cross_entropy_with_logits_grad_hess(scores, labels, hess_min=1e-16)


def train_xgboost(images, labels, test_images, classes, rounds, custom):
    """Return scores on the test images; XGBoost doubles the Hessian of several classes."""
    data = xgboost.DMatrix(images, labels)
    parameters = TREE | {"verbosity": 0, "base_score": 0.5}
    if classes > 2:
        parameters |= {"num_class": classes}

    def objective(scores, data):
        labels = data.get_label()
        return multiclass(scores, labels.astype(np.int64), 2.0) if classes > 2 else binary(scores, labels)

    if not custom:
        parameters["objective"] = "multi:softprob" if classes > 2 else "binary:logistic"
    else:
        parameters |= {"disable_default_eval_metric": True, "base_score": 0.0}
    model = xgboost.train(parameters, data, rounds, obj=objective if custom else None)
    return model.predict(xgboost.DMatrix(test_images), output_margin=True)


def train_lightgbm(images, labels, test_images, classes, rounds, custom):
    """Return scores on the test images; LightGBM scales the Hessian of C classes by C / (C - 1)."""
    parameters = TREE | {"verbosity": -1, "boost_from_average": False, "deterministic": True, "num_threads": 2}
    if classes > 2:
        parameters |= {"num_class": classes}

    def objective(scores, data):
        labels = data.get_label()
        if classes > 2:
            return multiclass(scores, labels.astype(np.int64), classes / (classes - 1))
        return binary(scores, labels)

    parameters["objective"] = objective if custom else "multiclass" if classes > 2 else "binary"
    model = lightgbm.train(parameters, lightgbm.Dataset(images, labels), rounds)
    return model.predict(test_images, raw_score=True)


def accuracy(scores, labels):
    """Return the share of rows whose largest score, or the sign of the only one, is right."""
    answer = scores.argmax(axis=-1) if scores.ndim > 1 else scores > 0
    return np.mean(answer == labels)


def main():
    """Train each model twice, report, and fail if a custom objective is behind."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=60, help="trees for each class (default: %(default)s)")
    rounds = parser.parse_args().rounds
    behind, lines = [], []
    runs = [
        (load, library, train)
        for load in (load_digits, load_breast_cancer)
        for library, train in (("XGBoost", train_xgboost), ("LightGBM", train_lightgbm))
    ]
    for load, library, train in track(runs, description="training"):
        x, y = load(return_X_y=True)
        images, test_images, labels, test_labels = train_test_split(x, y, test_size=0.4, stratify=y, random_state=0)
        classes = int(y.max()) + 1
        built_in, custom = (
            accuracy(train(images, labels, test_images, classes, rounds, custom), test_labels)
            for custom in (False, True)
        )
        name = f"{library}, {classes} classes"
        lines.append(f"{name:>20}: accuracy {custom:.4f} with softloss, {built_in:.4f} built in")
        if custom < built_in - SLACK:
            behind.append(name)
    print(*lines, sep="\n")
    if behind:
        sys.exit(f"less accurate than the built-in objective: {'; '.join(behind)}")


if __name__ == "__main__":
    main()
