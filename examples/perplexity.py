"""Score a file of logits that is larger than memory: perplexity, token accuracy, the five most likely tokens.

    python examples/perplexity.py                          makes files of its own in a temporary directory
    python examples/perplexity.py LOGITS.npy TOKENS.npy    logits (positions, vocabulary), tokens (positions,)
    python examples/perplexity.py HIDDEN.npy TOKENS.npy --matrix MATRIX.npy
                                                           hidden states (positions, width), output matrix (vocabulary,
                                                           width): their product is the logits

The logits are memory-mapped and read once, some positions at a time, by `token_logprobs`, which allocates nothing
of their size. From hidden states, `linear_token_logprobs` computes the logits of some positions at a time, in at most
LAYER_BYTES, and no file of logits is needed at all. Token -100 means: not scored.

Lives here: reading, scoring and printing. Must not: a language model.
"""

import argparse
import tempfile
from pathlib import Path

import numpy as np
import softloss
from rich.progress import track

BLOCK_BYTES = 8 << 20  # logits, or hidden states, scored in one call
LAYER_BYTES = 32 << 20  # for logits that are computed from hidden states
TOP = 5


def make_files(folder, positions, vocabulary):
    """Write float16 logits of a mediocre model, block by block, and the actual tokens."""
    rng = np.random.default_rng(0)
    tokens = (vocabulary * rng.random(positions) ** 4).astype(np.int32)
    noise = 2 * rng.standard_normal(vocabulary, np.float32)
    logits = np.lib.format.open_memmap(folder / "logits.npy", "w+", np.float16, (positions, vocabulary))
    for position in track(range(positions), description="writing"):
        logits[position] = np.roll(noise, 7919 * position)
        logits[position, tokens[position]] += 8
    logits.flush()
    np.save(folder / "tokens.npy", tokens)
    return folder / "logits.npy", folder / "tokens.npy"


def score(states, tokens, matrix=None):
    """Return the log-probability of each token, whether it was the most likely, and the most likely tokens.

    states: logits, or hidden states if the output matrix is given.
    """
    rows = max(1, BLOCK_BYTES // states[0].nbytes)
    blocks = []
    for first in track(range(0, len(states), rows), description="scoring"):
        block, target = states[first : first + rows], tokens[first : first + rows]
        if matrix is None:
            blocks.append(softloss.token_logprobs(block, target, top_k=TOP))
        else:
            blocks.append(softloss.linear_token_logprobs(block, matrix, target, top_k=TOP, memory=LAYER_BYTES))
    return {
        name: np.concatenate([getattr(block, name) for block in blocks])
        for name in ("logprob", "argmax", "top_logprob", "top_index")
    }


def main():
    """Open or make the files, score them, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("logits", nargs="?", type=Path, help="npy file of shape (positions, vocabulary)")
    parser.add_argument("tokens", nargs="?", type=Path, help="npy file of shape (positions,)")
    parser.add_argument(
        "--matrix", type=Path, help="npy file of shape (vocabulary, width), if LOGITS are hidden states"
    )
    parser.add_argument("--positions", type=int, default=1000, help="of the files that it makes (default: %(default)s)")
    parser.add_argument("--vocabulary", type=int, default=50257, help="of these files (default: %(default)s)")
    parser.add_argument("--show", type=int, default=3, help="positions to print (default: %(default)s)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        paths = options.logits, options.tokens
        if options.logits is None or options.tokens is None:
            paths = make_files(Path(folder), options.positions, options.vocabulary)
        logits, tokens = np.load(paths[0], mmap_mode="r"), np.load(paths[1])
        matrix = options.matrix and np.load(options.matrix, mmap_mode="r")
        scores = score(logits, tokens, matrix)

    kept = tokens != -100
    for position in range(min(options.show, len(tokens))):
        pairs = zip(scores["top_index"][position], scores["top_logprob"][position], strict=True)
        best = ", ".join(f"{token}: {logprob:.3f}" for token, logprob in pairs)
        print(f"position {position}: token {tokens[position]}: {scores['logprob'][position]:.3f}; best {best}")
    print(f"positions: {kept.sum()}")
    # Padding has the log-probability 0 and must not count.
    print(f"perplexity: {np.exp(-scores['logprob'][kept].mean(dtype=np.float64)):.4f}")
    print(f"token accuracy: {np.mean(scores['argmax'][kept] == tokens[kept]):.4f}")


if __name__ == "__main__":
    main()
