"""Draw text character by character, with the frequencies that follow each context in a file.

    python examples/generate.py                        the README of softloss
    python examples/generate.py --order 5 FILE ...     other files, more characters of context

A table of logits, the logarithms of counts, stands in for a language model. Several texts are drawn at once, one
character of each in a call of `sample`, for several temperatures and values of top_p: with a low temperature or a
small top_p they repeat what is frequent, with a high temperature they fall apart. Each setting is printed with the mean
log-probability of its characters.

Lives here: counts, drawing, printing. Must not: a language model.
"""

import argparse
from pathlib import Path

import numpy as np
import softloss

README = Path(__file__).parents[1] / "README.md"
SETTINGS = [{"temperature": 0.5}, {"temperature": 1.0}, {"temperature": 1.0, "top_p": 0.8}, {"temperature": 2.0}]


def logits_of(text, order):
    """Return the characters, the contexts of `order` characters, and for each context the logits of what follows."""
    characters = sorted(set(text))
    place = {character: i for i, character in enumerate(characters)}
    contexts = {}
    pairs = [
        (contexts.setdefault(text[i : i + order], len(contexts)), place[text[i + order]])
        for i in range(len(text) - order)
    ]
    counts = np.zeros((len(contexts), len(characters)), np.float32)
    np.add.at(counts, tuple(np.transpose(pairs)), 1)
    with np.errstate(divide="ignore"):
        return characters, contexts, np.log(counts)  # -inf: never seen, never drawn


def draw(table, start, options, settings, rng):
    """Draw `options.texts` texts that begin with `start`; return them and their mean log-probability.

    table: what `logits_of` returns.
    """
    characters, contexts, logits = table
    texts = [start] * options.texts
    total = 0.0
    for _ in range(options.length):
        rows = logits[[contexts[drawn[-options.order :]] for drawn in texts]]
        index, logprob = softloss.sample(rows, rng.random(len(texts)), **settings)
        texts = [drawn + characters[i] for drawn, i in zip(texts, index, strict=True)]
        total += logprob.mean()
    return texts, total / options.length


def main():
    """Read the text, draw with each setting, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("files", nargs="*", type=Path, default=[README], help="texts (default: README.md)")
    parser.add_argument("--order", type=int, default=3, help="characters of context (default: %(default)s)")
    parser.add_argument("--length", type=int, default=150, help="characters to draw (default: %(default)s)")
    parser.add_argument("--texts", type=int, default=2, help="texts of each setting (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of the random numbers (default: %(default)s)")
    options = parser.parse_args()
    text = "\n".join(" ".join(file.read_text(encoding="utf-8").split()) for file in options.files)
    text += text[: options.order + 1]  # after the end comes the beginning: every context is followed by something
    table = logits_of(text, options.order)
    for settings in SETTINGS:
        rng = np.random.default_rng(options.seed)
        texts, logprob = draw(table, text[: options.order], options, settings, rng)
        print(f"{settings}: {logprob:.2f} nats for each character")
        for drawn in texts:
            print(f"    {drawn!r}")


if __name__ == "__main__":
    main()
