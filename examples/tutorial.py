"""Softmax and cross-entropy in five short lessons. Each value is printed next to the call that computes it.

    python examples/tutorial.py

Lives here: the lesson. Must not: training (digits.py) or anything but softloss and NumPy.
"""

import numpy as np
import softloss

print("1. Softmax turns scores into probabilities")
# A model gives each class a score, called a logit: any real number. Softmax takes exp of each and divides by
# the sum: every probability is positive, they sum to 1, and the largest score gets the largest one.
scores = np.array([2.0, 1.0, 0.1])
print(f"{softloss.softmax(scores) = !s}")
print(f"{softloss.softmax(scores).sum() = :.4f}")

print("\n2. Cross-entropy says how bad the probabilities are")
# The target is one-hot: 1 at the true class. The loss is -log of the probability given to that class: 0 when
# the model is certain and right, large when it is certain and wrong.
one_hot = np.array([1.0, 0.0, 0.0])
good = np.array([0.7, 0.2, 0.1])
bad = np.array([0.1, 0.3, 0.6])
print(f"{softloss.categorical_cross_entropy(good, one_hot) = :.4f}")
print(f"{softloss.categorical_cross_entropy(bad, one_hot) = :.4f}")

print("\n3. From logits, in one step")
# In practice, pass the logits and the index of the true class. Softmax and logarithm are then computed in one
# step, which neither overflows nor loses small probabilities.
label = np.array([0])
good_logits = np.array([[2.0, 1.0, 0.1]])
bad_logits = np.array([[0.5, 2.0, 0.3]])
print(f"{softloss.cross_entropy(good_logits, label) = :.4f}")
print(f"{softloss.cross_entropy(bad_logits, label) = :.4f}")

print("\n4. Three samples at once")
# One row per sample, one label per row. The loss is the mean over the rows; the prediction of a row
# is the class with the largest probability.
labels = np.array([2, 0, 1])
good_batch = np.array([[0.1, 1.0, 2.1], [2.0, 1.0, 0.1], [0.1, 3.0, 0.1]])
bad_batch = np.array([[2.1, 1.0, 0.1], [0.1, 1.0, 2.1], [0.1, 3.0, 0.1]])
print(f"{softloss.cross_entropy(good_batch, labels) = :.4f}")
print(f"{softloss.cross_entropy(bad_batch, labels) = :.4f}")
print(f"{softloss.softmax(good_batch).argmax(axis=-1) = !s}")
print(f"{softloss.softmax(bad_batch).argmax(axis=-1) = !s}")

# The same in two steps: log-probabilities first, then minus the one at the label.
print(f"{softloss.nll_loss(softloss.log_softmax(good_batch), labels) = :.4f}")
print(f"{softloss.nll_loss(softloss.log_softmax(bad_batch), labels) = :.4f}")

print("\n5. Yes or no: one logit instead of a row")
# With two classes one logit is enough. Sigmoid turns it into the probability of "yes"; the target is 1 or 0.
answers = np.array([1.0, 0.0, 1.0])
yes_logits = np.array([2.0, -1.0, 0.5])
print(f"{softloss.sigmoid(yes_logits) = !s}")
print(f"{softloss.binary_cross_entropy(softloss.sigmoid(yes_logits), answers) = :.4f}")
print(f"{softloss.binary_cross_entropy_with_logits(yes_logits, answers) = :.4f}")
