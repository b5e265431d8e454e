"""Turn the logits of an ONNX model into answers: ONNX Runtime runs the model, softloss does the rest.

    python examples/onnx_postprocess.py

Makes a small classifier of handwritten digits, stores it as an ONNX model that ends in logits, runs that with ONNX
Runtime and prints the three best answers for some images with `softmax_topk`: one read of the logits, no array of
probabilities. Exits with 1 if they disagree with scikit-learn's predict_proba.

Lives here: model, run and post-processing. Must not: a general exporter of models.
"""

import sys

import numpy as np
import onnxruntime
import softloss
from onnx import TensorProto, helper, numpy_helper
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression

SHOWN = 5
TOLERANCE = 1e-5


def onnx_model(classifier):
    """Return the bytes of an ONNX model: pixels -> logits, one matrix product and a bias."""
    weights = classifier.coef_.T.astype(np.float32)
    graph = helper.make_graph(
        [helper.make_node("Gemm", ["pixels", "weights", "bias"], ["logits"])],
        "digits",
        [helper.make_tensor_value_info("pixels", TensorProto.FLOAT, ["n", weights.shape[0]])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["n", weights.shape[1]])],
        [
            numpy_helper.from_array(weights, "weights"),
            numpy_helper.from_array(classifier.intercept_.astype(np.float32), "bias"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    return model.SerializeToString()


def main():
    """Build the model, run it, print the most likely classes, and check them."""
    images, labels = load_digits(return_X_y=True)
    images = (images / 16).astype(np.float32)
    classifier = LogisticRegression(max_iter=500).fit(images[::2], labels[::2])

    session = onnxruntime.InferenceSession(onnx_model(classifier), providers=["CPUExecutionProvider"])
    (logits,) = session.run(["logits"], {"pixels": images[1::2]})
    prob, index = softloss.softmax_topk(logits, k=3)

    for row in range(SHOWN):
        answers = ", ".join(f"{i}: {p:.4f}" for p, i in zip(prob[row], index[row], strict=True))
        print(f"image {row}, a {labels[1::2][row]}: {answers}")
    print(f"accuracy: {np.mean(index[:, 0] == labels[1::2]):.4f}")

    expected = classifier.predict_proba(images[1::2])
    difference = np.abs(prob - np.take_along_axis(expected, index, -1)).max()
    print(f"largest difference from predict_proba: {difference:.1e}")
    if difference > TOLERANCE:
        sys.exit("the probabilities disagree with scikit-learn's")


if __name__ == "__main__":
    main()
