"""Calibrate a scikit-learn classifier by temperature scaling: one number, fitted by minimising a cross-entropy.

    python examples/calibration.py

A classifier fitted without regularisation is too sure of itself: its probabilities say 0.99 where it is right nine
times in ten. Dividing its logits by one temperature T > 1 cures most of it and changes no prediction (Guo et al.,
On calibration of modern neural networks, 2017). T minimises the cross-entropy on data that the classifier has not
seen. Exits with 1 unless loss, calibration error and Brier score on a third set are smaller afterwards.

Lives here: the whole recipe, on scikit-learn's bundled digits with noise. Must not: a class library for calibration.
"""

import sys

import numpy as np
import softloss
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split

NOISE = 4.0  # added to pixels of 0..16, so that there is something to be unsure of


def load():
    """Return (images, labels) three times: to fit the classifier, to fit the temperature, to evaluate."""
    images, labels = load_digits(return_X_y=True)
    images += NOISE * np.random.default_rng(0).standard_normal(images.shape)
    images, rest, labels, rest_labels = train_test_split(images, labels, test_size=0.6, stratify=labels, random_state=0)
    halves = train_test_split(rest, rest_labels, test_size=0.5, stratify=rest_labels, random_state=0)
    return (images, labels), (halves[0], halves[2]), (halves[1], halves[3])


def main():
    """Fit, calibrate, report, and fail if calibration did not help."""
    (images, labels), held_out, (test_images, test_labels) = load()
    classifier = LogisticRegression(C=1e3, max_iter=2000).fit(images / 16, labels)
    temperature = softloss.fit_temperature(classifier.decision_function(held_out[0] / 16), held_out[1]).temperature
    logits = classifier.decision_function(test_images / 16)

    print(f"accuracy: {np.mean(logits.argmax(axis=-1) == test_labels):.4f}")
    print(f"fitted temperature: {temperature:.3f}")
    figures = {}
    for name, t in (("before", 1.0), ("after", temperature)):
        loss = softloss.cross_entropy(logits, test_labels, temperature=t)
        error = softloss.calibration_error(logits, test_labels, bins=10, temperature=t)
        score = softloss.brier_score(logits, test_labels, temperature=t)
        figures[name] = np.array([loss, error, score])
        print(f"{name:>6}: cross-entropy {loss:.4f}, expected calibration error {error:.4f}, Brier score {score:.4f}")
    if not np.all(figures["after"] < figures["before"]):
        sys.exit("the temperature did not help")


if __name__ == "__main__":
    main()
