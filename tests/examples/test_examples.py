"""Every example from start to end, on small sizes, as a user would run it: pytest tests/examples

Needs the packages of the extras `test` and `examples`. Lives here: runs of the examples. Must not: tests of softloss.
"""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"
MEMORY = 400 << 20  # for all data of a process: heap, stacks, buffers; files mapped for reading don't count


def run(name, *arguments, **options):
    command = [sys.executable, EXAMPLES / f"{name}.py", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, **options)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def number_after(label, text):
    return float(re.search(rf"{re.escape(label)}\s*([-+.e\d]+)", text)[1])


def test_tutorial():
    text = run("tutorial")
    assert "softloss.softmax(scores) = [0.65900114 0.24243297 0.09856589]" in text
    assert "softloss.cross_entropy(good_batch, labels) = 0.3018" in text


def test_digits():
    assert number_after("test accuracy:", run("digits")) >= 0.95


def test_gbdt_objective():
    text = run("gbdt_objective", "--rounds", "15")
    pairs = re.findall(r"accuracy ([\d.]+) with softloss, ([\d.]+) built in", text)
    assert len(pairs) == 4
    for custom, built_in in pairs:
        assert float(custom) >= max(0.85, float(built_in) - 0.005)


def test_calibration():
    text = run("calibration")
    assert number_after("fitted temperature:", text) > 1
    before, after = re.findall(r"calibration error ([\d.]+)", text)
    assert float(after) < float(before)


def test_onnx_postprocess():
    assert number_after("accuracy:", run("onnx_postprocess")) > 0.9


@pytest.mark.skipif(sys.platform != "linux", reason="RLIMIT_DATA is Linux's")
def test_perplexity_of_a_file_larger_than_the_memory(tmp_path):
    import resource  # not on Windows

    rows, vocabulary = 9000, 32000
    logits = np.lib.format.open_memmap(tmp_path / "logits.npy", "w+", np.float16, (rows, vocabulary))
    block = (3 * np.random.default_rng(0).standard_normal((500, vocabulary), np.float32)).astype(np.float16)
    for first in range(0, rows, len(block)):
        logits[first : first + len(block)] = block
    logits.flush()
    targets = np.random.default_rng(1).integers(0, vocabulary, len(block))
    targets[::3] = block[::3].argmax(-1)
    tokens = np.tile(targets, rows // len(block))
    tokens[5] = -100
    np.save(tmp_path / "tokens.npy", tokens)
    assert (tmp_path / "logits.npy").stat().st_size > MEMORY

    text = run(
        "perplexity",
        tmp_path / "logits.npy",
        tmp_path / "tokens.npy",
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, MEMORY)),
        env={"OPENBLAS_NUM_THREADS": "1", "PATH": ""},
    )

    wide = block.astype(np.float64)
    log_probs = wide - wide.max(-1, keepdims=True)
    log_probs -= np.log(np.exp(log_probs).sum(-1, keepdims=True))
    every = np.tile(log_probs[np.arange(len(block)), targets], rows // len(block))
    kept = tokens != -100
    assert number_after("positions:", text) == kept.sum() == rows - 1
    assert number_after("perplexity:", text) == pytest.approx(np.exp(-every[kept].mean()), rel=1e-4)
    right = np.tile(wide.argmax(-1) == targets, rows // len(block))
    assert number_after("token accuracy:", text) == pytest.approx(right[kept].mean(), abs=5e-5)
    best = np.argsort(-wide[0], kind="stable")[:5]
    assert [int(i) for i in re.findall(r"(\d+): -", text.split("best", 1)[1].splitlines()[0])] == list(best)


def test_perplexity_makes_files_of_its_own():
    text = run("perplexity", "--positions", "200", "--vocabulary", "1000")
    assert number_after("positions:", text) == 200
    assert 1 < number_after("perplexity:", text) < 1000


def test_perplexity_from_hidden_states(tmp_path):
    positions, vocabulary, width = 300, 20000, 16
    rng = np.random.default_rng(0)
    hidden, matrix = rng.standard_normal((positions, width)), rng.standard_normal((vocabulary, width))
    tokens = rng.integers(0, vocabulary, positions)
    arrays = {"hidden": hidden, "matrix": matrix, "tokens": tokens, "logits": hidden @ matrix.T}
    for name, array in arrays.items():
        np.save(tmp_path / f"{name}.npy", array)
    layer = run("perplexity", tmp_path / "hidden.npy", tmp_path / "tokens.npy", "--matrix", tmp_path / "matrix.npy")
    whole = run("perplexity", tmp_path / "logits.npy", tmp_path / "tokens.npy")
    assert number_after("positions:", layer) == positions
    assert number_after("perplexity:", layer) == pytest.approx(number_after("perplexity:", whole), rel=1e-4)


def test_generate():
    text = run("generate", "--length", "60")
    likely = [float(number) for number in re.findall(r"([-.\d]+) nats", text)]
    assert len(likely) == 4 and min(likely[0], likely[2]) > max(likely[1], likely[3])
    assert len(re.findall(r"^    ['\"]", text, re.M)) == 8
    assert text == run("generate", "--length", "60")
