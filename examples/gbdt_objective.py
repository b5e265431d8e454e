"""Train XGBoost and LightGBM on softloss's cross-entropy: gradient and Hessian of a custom objective in one pass.

    python examples/gbdt_objective.py

`softloss.boosting.objective` makes the objective: cross-entropy (digits, ten classes) and binary cross-entropy (breast
cancer, yes or no), in the layout and scale of each library. Each model is trained again with the library's own
objective. Exits with 1 if its test accuracy is not reached.

From here it is one word to losses that the libraries lack: "softmax_focal_loss", "sigmoid_focal_loss", weight=,
label_smoothing=, pos_weight=.

Lives here: the comparison. Must not: tuning of trees.
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


def objective(classes, library):
    """Return the cross-entropy as an objective."""
    loss = "cross_entropy" if classes > 2 else "binary_cross_entropy_with_logits"
    return softloss.boosting.objective(loss, library=library)


def train_xgboost(images, labels, test_images, classes, rounds, custom):
    """Return scores on the test images."""
    parameters = TREE | {"verbosity": 0, "base_score": 0.5}
    if classes > 2:
        parameters |= {"num_class": classes}
    if not custom:
        parameters["objective"] = "multi:softprob" if classes > 2 else "binary:logistic"
    else:
        parameters |= {"disable_default_eval_metric": True, "base_score": 0.0}
    obj = objective(classes, "xgboost") if custom else None
    model = xgboost.train(parameters, xgboost.DMatrix(images, labels), rounds, obj=obj)
    return model.predict(xgboost.DMatrix(test_images), output_margin=True)


def train_lightgbm(images, labels, test_images, classes, rounds, custom):
    """Return scores on the test images."""
    parameters = TREE | {"verbosity": -1, "boost_from_average": False, "deterministic": True, "num_threads": 2}
    if classes > 2:
        parameters |= {"num_class": classes}
    own = "multiclass" if classes > 2 else "binary"
    parameters["objective"] = objective(classes, "lightgbm") if custom else own
    model = lightgbm.train(parameters, lightgbm.Dataset(images, labels), rounds)
    return model.predict(test_images, raw_score=True)


def accuracy(scores, labels):
    """Return the accuracy: the largest score of a row, or the sign of its only score, is the prediction."""
    answer = scores.argmax(axis=-1) if scores.ndim > 1 else scores > 0
    return np.mean(answer == labels)


def main():
    """Train each model twice, report, and fail if a custom objective is less accurate."""
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
