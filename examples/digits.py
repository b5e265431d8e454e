"""Train a softmax classifier on handwritten digits: softloss for loss and probabilities, NumPy for the rest.

    python examples/digits.py

The model is linear, logits = images @ weights + bias, trained by full-batch gradient descent. Loss and gradient with
respect to the logits come from one call. Exits with 1 if the test accuracy is below TARGET_ACCURACY or the loss
disagrees with scikit-learn's log_loss.

Lives here: the whole training, on scikit-learn's bundled data set. Must not: a class library for models.
"""

import sys

import numpy as np
import softloss
from rich.progress import track
from sklearn.datasets import load_digits
from sklearn.metrics import log_loss
from sklearn.model_selection import train_test_split

STEPS = 1000
LEARNING_RATE = 0.5
TARGET_ACCURACY = 0.95
LOSS_TOLERANCE = 1e-12


def load():
    """Return images as rows of 64 pixels in [0, 1], labels 0..9, and both again for the test."""
    images, labels = load_digits(return_X_y=True)
    images, test_images, labels, test_labels = train_test_split(
        images / 16.0, labels, test_size=0.25, stratify=labels, random_state=0
    )
    return images, labels, test_images, test_labels


def train(images, labels):
    """Return weights of shape (pixels, classes) and bias of shape (classes,)."""
    classes = labels.max() + 1
    weights = np.zeros((images.shape[1], classes))
    bias = np.zeros(classes)
    for step in track(range(STEPS), description="training"):
        loss, gradient = softloss.cross_entropy_and_grad(images @ weights + bias, labels)
        if step % (STEPS // 5) == 0:
            print(f"step {step:4d}: training loss {loss:.4f}")
        weights -= LEARNING_RATE * (images.T @ gradient)
        bias -= LEARNING_RATE * gradient.sum(axis=0)
    return weights, bias


def main():
    """Train, report, and fail if a target is missed."""
    images, labels, test_images, test_labels = load()
    weights, bias = train(images, labels)

    logits = test_images @ weights + bias
    loss = softloss.cross_entropy(logits, test_labels)
    peer_loss = log_loss(test_labels, softloss.softmax(logits))
    accuracy = np.mean(logits.argmax(axis=-1) == test_labels)
    print(f"training loss: {softloss.cross_entropy(images @ weights + bias, labels):.4f}")
    print(f"test loss: {loss:.4f}")
    print(f"scikit-learn's log_loss: {peer_loss:.4f}, difference {abs(loss - peer_loss):.1e}")
    print(f"test accuracy: {accuracy:.4f}, target {TARGET_ACCURACY}")

    if abs(loss - peer_loss) > LOSS_TOLERANCE:
        sys.exit("the loss disagrees with scikit-learn's")
    if accuracy < TARGET_ACCURACY:
        sys.exit("the accuracy is below the target")


if __name__ == "__main__":
    main()
