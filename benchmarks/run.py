"""Measure softloss, every installed peer and the roof of this machine: python benchmarks/run.py

Prints a table and the targets that are missed; writes benchmarks/results/<cpu>-<date>.json and two pictures beside it.

Lives here: the command line, the timing, the table. Must not: cases (cases.py), targets (targets.py), how a
library computes a case (peers), how the roof is measured (roof.py), how pictures look (pictures.py).

One process for each number of threads, bound to as many CPUs. In it, the subjects of a case take turns, round after
round, and ratios are medians over the rounds of times that were taken side by side.
"""

from __future__ import annotations

import argparse
import dataclasses
import gc
import json
import os
import platform
import re
import statistics
import subprocess
import sys
import tempfile
import time
import timeit
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import peers
import pictures
import roof
from cases import CASES, MANY_THREADS_FROM, QUICK, Case, Data
from peers.numpy import sorted_pairs
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from targets import Row, judge

RESULTS = Path(__file__).parent / "results"
SAMPLE_SECONDS = 2e-4  # a sample repeats a short call until it lasts about this long
SETTLE_SECONDS = 2e-3  # with many threads: the idle threads of the subject before stop spinning
SLOW = 6.0  # a subject this many times slower than the fastest is sampled in few rounds only
FEW = 3
SORTED_BELOW = 10_000_000  # elements that Python sorts in a time that one waits for
console = Console(width=None if sys.stdout.isatty() else 180)


# ---- timing -------------------------------------------------------------------------------------------------------


@dataclasses.dataclass
class Subject:
    """Something to time: `timed(n)` runs it n times and returns the seconds."""

    name: str
    timed: Callable[[int], float]
    before: Callable[[], Any] = int
    after: Callable[[], Any] = int
    repeat: int = 1
    samples: dict[int, float] = dataclasses.field(default_factory=dict)  # round -> seconds of one run

    def calibrate(self) -> None:
        self.before()
        self.timed(1)
        seconds = min(self.timed(1) for _ in range(3))
        while seconds * self.repeat < SAMPLE_SECONDS / 2:
            self.repeat = max(self.repeat * 2, int(SAMPLE_SECONDS / max(seconds, 1e-7)))
            seconds = self.timed(self.repeat) / self.repeat
        self.after()
        self.samples[-1] = seconds

    def sample(self, turn: int, warm_up: bool, settle: float) -> None:
        if settle:
            time.sleep(settle)
        self.before()
        if warm_up:
            self.timed(1)
        self.samples[turn] = self.timed(self.repeat) / self.repeat
        self.after()

    @property
    def best(self) -> float:
        return min(self.samples.values())


def ratio(subject: Subject, base: Subject) -> float:
    """Median over the common rounds of subject's time / base's time."""
    turns = [turn for turn in subject.samples.keys() & base.samples.keys() if turn >= 0]
    return statistics.median(subject.samples[turn] / base.samples[turn] for turn in turns)


def take_turns(subjects: list[Subject], warm_up: bool, settle: float, budget: float) -> None:
    """Sample the subjects round after round for about `budget` seconds, at least FEW rounds."""
    for subject in subjects:
        subject.calibrate()
    fastest = min(subject.best for subject in subjects)
    slow = {subject.name for subject in subjects if subject.best > SLOW * fastest and subject.best > 1e-3}
    start = time.perf_counter()
    gc.disable()
    for turn in range(1000):
        if turn >= FEW and time.perf_counter() - start > budget:
            break
        for subject in subjects:
            if turn < FEW or subject.name not in slow:
                subject.sample(turn, warm_up, settle)
    gc.enable()


# ---- subjects of a case -------------------------------------------------------------------------------------------


def _timed(statement: peers.Statement) -> Callable[[int], float]:
    return timeit.Timer(statement.code, globals=statement.names).timeit


def agree(mine: Any, theirs: Any, dtype: str) -> bool:
    """Whether two results are the same to the accuracy of the worse library; a wrong peer is no peer."""
    tolerance = {"float64": 1e-6, "float32": 1e-3}.get(dtype, 5e-2)
    if isinstance(mine, tuple):
        return isinstance(theirs, tuple) and all(map(agree, mine, theirs, [dtype] * len(mine)))
    mine, theirs = (np.asarray(value, np.float64).ravel() for value in (mine, theirs))
    if mine.size != theirs.size:
        return False
    other = mine != theirs  # infinities are equal or not
    scale = max(abs(mine[np.isfinite(mine)]).max(initial=0), 1e-30)
    return bool((abs(mine[other] - theirs[other]) <= tolerance * scale).all())


def peer_statements(case: Case, data: Data, names: list[str], threads: int) -> tuple[dict[str, Any], list[str]]:
    """The statements of softloss and of its peers for the case, and why a peer has none."""
    mine = peers.compute("softloss", case, data, threads)
    result = eval(mine["fresh"].code, dict(mine["fresh"].names))
    statements, reasons = {"softloss": mine}, []
    for name in names:
        try:
            theirs = peers.compute(name, case, data, threads)
            for variant in list(theirs):
                value = theirs[variant].to_numpy(eval(theirs[variant].code, dict(theirs[variant].names)))
                if not agree(result, value, case.dtype):
                    reasons.append(f"{case}: {name} ({variant}) left out, its result differs")
                    del theirs[variant]
        except Exception as error:  # whatever a library raises for what it cannot do
            reasons.append(f"{case}: {name} left out, {type(error).__name__}: {str(error).splitlines()[0][:100]}")
            theirs = {}
        statements[name] = theirs
    return statements, reasons


def references(case: Case, data: Data, mine: peers.Statement, variant: str, threads: int) -> list[Subject]:
    """Further references: softloss with another setting, and simple NumPy operations."""
    import softloss

    def of_numpy(name: str, code: str) -> Subject:
        names = {"np": np, "x": data.x, "o": data.out if variant == "out" else None}
        return Subject(name, timeit.Timer(code, globals=names).timeit)

    result = []
    isas = softloss._core.usable_isas()
    if threads > 1:
        set_threads = softloss.set_num_threads
        one, all_of_them = lambda: set_threads(1), lambda: set_threads(threads)
        result.append(Subject("one thread", _timed(mine), one, all_of_them))
    elif {"avx2", "avx512"} <= set(isas) and case.dtype == "float32" and variant == case.variants[-1]:
        set_isa, chosen = softloss._core.set_isa, softloss._core.isa()
        result.append(Subject("avx2", _timed(mine), lambda: set_isa("avx2"), lambda: set_isa(chosen)))
    for name, plain in case.plain.items():
        forms = peers.compute("softloss", plain, Data(plain), threads)
        result.append(Subject(name, _timed(forms.get(variant, forms["fresh"]))))
    if case.dtype in ("float16", "bfloat16"):
        wide = dataclasses.replace(case, dtype="float32")
        result.append(Subject("float32", _timed(peers.compute("softloss", wide, Data(wide), threads)[variant])))
    if case.op == "softmax" and case.size <= 10:
        result.append(of_numpy("np.exp", "np.exp(x)" if variant == "fresh" else "np.exp(x, out=o)"))
    if case.op == "softmax" and case.shape == (2048, 32000) and variant == "out":
        result.append(of_numpy("np.copyto", "np.copyto(o, x)"))
    if case.op == "token_logprobs" and case.k and case.size < SORTED_BELOW:
        names = {"f": sorted_pairs, "x": data.x, "y": data.target}
        result.append(Subject("sorted pairs", timeit.Timer("list(f(x, y))", globals=names).timeit))
    return result


def roof_subjects(case: Case, data: Data, kernels: roof.Roof | roof.NumpyRoof, variant: str) -> list[Subject]:
    """The parts of the roof: moving the bytes, computing the exponentials, the cheapest NumPy call."""
    label = np.zeros(1, np.float32)
    into = {"np": np, "x": label, "o": np.zeros_like(label)}
    call = "np.negative(x, out=o)" if variant == "out" else "np.negative(x)"
    subjects = [Subject("roof call", timeit.Timer(call, globals=into).timeit)]
    if not case.has_roof:
        return subjects
    reads = [data.x, data.target][: case.reads]
    ways = kernels.moves(reads, data.out if case.writes else None)
    subjects += [Subject(f"roof move {way}", timed) for way, timed in ways.items()]
    if not case.exponentials:
        return subjects
    exps = kernels.exps(8 if case.dtype == "float64" else 4)
    return [*subjects, Subject("roof exp", lambda n: exps(n))]


def roof_ratios(case: Case, subjects: dict[str, Subject]) -> dict[str, float]:
    """Times of the parts of the roof, divided by that of softloss. exp is timed in units of EXPS elements."""
    mine = subjects["softloss"]
    moves = [ratio(subject, mine) for name, subject in subjects.items() if name.startswith("roof move")]
    exp = ratio(subjects["roof exp"], mine) * case.exponentials / roof.EXPS if "roof exp" in subjects else 0.0
    return {"move": min(moves, default=0.0), "exp": exp, "call": ratio(subjects["roof call"], mine)}


def measure(
    case: Case, names: list[str], kernels: roof.Roof | roof.NumpyRoof, threads: int, budget: float
) -> tuple[list[Row], list[str]]:
    """The rows of a case, one per variant, and remarks."""
    data = Data(case)
    statements, reasons = peer_statements(case, data, names, threads)
    cache = roof.last_level_cache()
    warm_up = case.nbytes <= 2 * cache
    rows = []
    for variant in case.variants:
        if variant not in statements["softloss"]:
            continue
        mine = statements["softloss"][variant]
        subjects = [Subject(name, _timed(forms[variant])) for name, forms in statements.items() if variant in forms]
        subjects += references(case, data, mine, variant, threads) + roof_subjects(case, data, kernels, variant)
        take_turns(subjects, warm_up, SETTLE_SECONDS if threads > 1 else 0.0, budget / len(case.variants))
        by_name = {subject.name: subject for subject in subjects}
        base = by_name["softloss"]
        seconds = {s.name: s.best for s in subjects}
        compared = {s.name: ratio(s, base) for s in subjects if s is not base and not s.name.startswith("roof")}
        rows.append(Row(case, variant, threads, seconds, compared, roof_ratios(case, by_name), cache))
    return rows, reasons


# ---- one process for each number of threads -----------------------------------------------------------------------


def bind(threads: int) -> None:
    """Keep this process on `threads` CPUs, and tell the libraries before they are imported."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])
    for name in ("OMP_NUM_THREADS", "SOFTLOSS_NUM_THREADS", "NUMBA_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ[name] = str(threads)
    if threads == 1:
        os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")  # PyTorch at its best: huge pages for large results


def work(options: argparse.Namespace, cases: list[Case]) -> dict[str, Any]:
    """Measure on options.work threads, with a progress bar, and return everything measured."""
    threads = options.work
    bind(threads)
    import softloss

    library = roof.compiled()
    kernels = roof.Roof(library, threads) if library else roof.NumpyRoof()
    figures = {} if options.quick else roof.machine(kernels)
    rows: list[Row] = []
    remarks: list[str] = []
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task(f"{threads} threads", total=len(cases))
        for case in cases:
            progress.update(task, description=f"{threads} threads: {case}")
            if hasattr(softloss, case.op):
                new, reasons = measure(case, options.peers, kernels, threads, options.seconds)
                rows += new
                remarks += reasons
            else:
                remarks.append(f"{case}: skipped, softloss has no {case.op}")
            progress.advance(task)
    return {
        "rows": [dataclasses.asdict(row) for row in rows],
        "remarks": remarks,
        "machine": {f"{threads} threads": figures},
        "roof": kernels.name,
        "softloss": softloss.show_config("dicts"),
    }


def run_workers(arguments: list[str], counts: Iterable[int]) -> list[dict[str, Any]]:
    results = []
    with tempfile.TemporaryDirectory() as folder:
        for threads in counts:
            path = Path(folder) / f"{threads}.json"
            command = [sys.executable, __file__, *arguments, "--work", str(threads), "--json", str(path)]
            subprocess.run(command, check=True)
            results.append(json.loads(path.read_text()))
    return results


# ---- report -------------------------------------------------------------------------------------------------------


def _time(seconds: float) -> str:
    for unit, scale in (("s", 1.0), ("ms", 1e-3), ("us", 1e-6)):
        if seconds >= scale:
            return f"{seconds / scale:.3g} {unit}" if seconds < 100 * scale else f"{seconds / scale:.0f} {unit}"
    return f"{seconds / 1e-9:.0f} ns"


def row_of(record: dict[str, Any]) -> Row:
    fields = dict(record["case"])
    tuples = {name: tuple(fields.get(name, ())) for name in ("shape", "options")}
    return Row(**{**record, "case": Case(**{**fields, **tuples})})


def print_table(rows: list[Row]) -> None:
    table = Table(title="softloss against the best peer and the roof", title_justify="left")
    for heading, justify in (
        ("case", "left"),
        ("threads", "right"),
        ("result", "left"),
        ("time", "right"),
        ("GB/s", "right"),
        ("best peer", "left"),
        ("its time", "right"),
        ("x faster", "right"),
        ("x roof", "right"),
        ("bound", "left"),
        ("x plain", "right"),
        ("targets", "left"),
    ):
        table.add_column(heading, justify=justify, no_wrap=True)
    for row in rows:
        seconds, peer = row.seconds["softloss"], row.best_peer
        table.add_row(
            str(row.case),
            str(row.threads),
            row.variant,
            _time(seconds),
            f"{row.case.nbytes / seconds / 1e9:.1f}",
            peer or "-",
            _time(row.seconds[peer]) if peer else "-",
            f"{row.ratio[peer]:.2f}" if peer else "-",
            f"{row.x_roof:.2f}" if row.case.has_roof else "-",
            max(row.roof, key=row.roof.__getitem__) if row.case.has_roof else "-",
            ", ".join(f"{1 / row.ratio[name]:.2f}" for name in row.case.plain) or "-",
            {None: "-", True: "[green]met[/]", False: "[red]missed[/]"}[judge(row)[0]],
        )
    console.print(table)
    verdicts = [judge(row)[0] for row in rows]
    console.print(f"targets met in {verdicts.count(True)} rows of {len(verdicts) - verdicts.count(None)} with targets")
    for row in rows:
        for miss in judge(row)[1]:
            console.print(f"[red]missed[/]: {row.case}, threads {row.threads}, {row.variant}: {miss}", highlight=False)


def cpu_name() -> str:
    """With family and model where /proc/cpuinfo has them: the names of many virtual machines hide the generation."""
    file = Path("/proc/cpuinfo")
    lines = file.read_text().split("\n\n")[0].splitlines() if file.exists() else []
    fields = {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    name = fields.get("model name") or platform.processor() or platform.machine()
    return f"{name} (family {fields['cpu family']}, model {fields['model']})" if "cpu family" in fields else name


def versions(names: list[str]) -> dict[str, str]:
    from importlib.metadata import version

    return {name: version(name) for name in ("softloss", *names)}


def cpu_stem() -> str:
    """What the names of results of this machine begin with."""
    return re.sub(r"[^a-z0-9]+", "-", cpu_name().lower()).strip("-")


def stem() -> str:
    """The same, for this day."""
    return f"{cpu_stem()}-{time.strftime('%Y-%m-%d')}"


def report(results: list[dict[str, Any]], options: argparse.Namespace) -> None:
    rows = [row_of(record) for result in results for record in result["rows"]]
    remarks = list(dict.fromkeys(remark for result in results for remark in result["remarks"]))
    for remark in remarks:
        console.print(f"[dim]{remark}[/]")
    for figures in (result["machine"] for result in results):
        for threads, values in figures.items():
            for name, value in values.items():
                console.print(f"{threads}: {name}: {value:.2f} {'per ns' if name.startswith('exp') else 'GB/s'}")
    if not rows:
        return
    print_table(rows)
    path = options.json or RESULTS / f"{stem()}{'-quick' if options.quick else ''}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    document = {
        "cpu": cpu_name(),
        "date": time.strftime("%Y-%m-%d"),
        "python": platform.python_version(),
        "versions": versions(options.peers),
        "softloss": results[0]["softloss"],
        "roof": results[0]["roof"],
        "machine": {threads: values for result in results for threads, values in result["machine"].items()},
        "remarks": remarks,
        "rows": [record_of(row) for row in rows],
    }
    path.write_text(json.dumps(document, indent=1) + "\n")
    pictures.draw_cases(document, path.with_suffix(""))
    console.print(f"written: {path}; roof: {document['roof']}")


def record_of(row: Row) -> dict[str, Any]:
    """A row as it is stored: measured and derived values."""
    met, missed = judge(row)
    record = dataclasses.asdict(row)
    record["name"] = str(row.case)
    record["gigabytes_per_second"] = row.case.nbytes / row.seconds["softloss"] / 1e9
    x_roof = row.x_roof if row.case.has_roof else None
    return record | {"best_peer": row.best_peer, "x_roof": x_roof, "met": met, "missed": missed}


# ---- command line -------------------------------------------------------------------------------------------------


def parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    parser.add_argument("--quick", action="store_true", help="a few cases, under a minute")
    parser.add_argument("--cases", default="", metavar="REGEX", help="only the cases whose name matches; see --list")
    parser.add_argument("--list", action="store_true", help="print the names of the cases")
    parser.add_argument("--peers", default=None, metavar="A,B", help=f"of {', '.join(peers.PEERS)}; default: installed")
    parser.add_argument("--threads", default=None, metavar="N,M", help=f"default: 1 and all, here 1,{cpus}")
    parser.add_argument("--seconds", type=float, default=None, help="time for each case; default 3, quick 0.4")
    parser.add_argument("--json", type=Path, default=None, help="where to write; default: benchmarks/results/")
    parser.add_argument("--work", type=int, default=0, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    here = peers.installed()
    options.peers = here if options.peers is None else [name for name in options.peers.split(",") if name]
    if unknown := set(options.peers) - set(here):
        parser.error(f"not installed, or unknown: {', '.join(sorted(unknown))}")
    options.threads = sorted({1, cpus} if options.threads is None else set(map(int, options.threads.split(","))))
    options.seconds = options.seconds or (0.4 if options.quick else 3.0)
    return options


def chosen_cases(options: argparse.Namespace) -> list[Case]:
    cases = [case for case in (QUICK if options.quick else CASES) if re.search(options.cases, str(case))]
    return [case for case in cases if options.work <= 1 or case.size >= MANY_THREADS_FROM]


def main() -> None:
    options = parse(sys.argv[1:])
    if options.list:
        print(*chosen_cases(options), sep="\n")
    elif options.work:
        options.json.write_text(json.dumps(work(options, chosen_cases(options))))
    else:
        report(run_workers(sys.argv[1:], options.threads), options)


if __name__ == "__main__":
    main()
