"""Programs in C++ and C that use softloss in every way there is, and get the bits that Python gets.

Needs CMake, pkg-config and compilers: `pytest tests/cpp/consumer`. Lives here: the ways, the same cases as in bits.cpp
and bits.c. Must not: checks of values, which are those of tests/python.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import softloss

HERE = Path(__file__).parent
SOURCE = HERE.parents[2]


def run(*command: str | Path, **environment: str) -> str:
    """Run a command and return what it prints; its complaints are the failure."""
    done = subprocess.run(command, env=os.environ | environment, text=True, capture_output=True)
    assert done.returncode == 0, f"{shlex.join(map(str, command))}\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
    return done.stdout


def numbers(shape: tuple[int, ...], seed: int, low: int, high: int, dtype: str) -> np.ndarray:
    """Numbers in [low, high) of a linear congruential generator."""
    unit = []
    for _ in range(int(np.prod(shape))):
        seed = (seed * 6364136223846793005 + 1442695040888963407) % 2**64
        unit.append((seed >> 44) / 2**20)
    t = np.dtype(dtype).type
    return (t(low) + t(high - low) * np.array(unit, dtype)).reshape(shape)


def expected() -> list[str]:
    """Lines that the programs must print."""
    lines = [f"isa {name}" for name in softloss._core.usable_isas()]
    with pytest.raises(ValueError) as refused:
        softloss._core.set_isa("none")
    lines.append(f"error.isa {refused.value}")
    for dtype in ("float32", "float64"):
        x, probs = numbers((3, 37), 1, -20, 20, dtype), numbers((3, 37), 2, 0, 1, dtype)
        weight, labels = numbers((37,), 3, 0, 2, dtype), np.array([5, -100, 36])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # of labels drawn at random, the minimum may be at an end
            fitted = softloss.fit_temperature(x, labels, weight=weight)
        softmax, log_softmax, hits = softloss.softmax(x), softloss.log_softmax(x), probs > 0.5
        results = {
            "softmax": softmax,
            "softmax_backward": softloss.softmax_backward(softmax, x),
            "log_softmax": log_softmax,
            "log_softmax_backward": softloss.log_softmax_backward(log_softmax, x),
            "logsumexp": softloss.logsumexp(x),
            "log_normalize": softloss.log_normalize(x),
            "softmax_entropy": softloss.softmax_entropy(x, temperature=2),
            "sigmoid": softloss.sigmoid(x),
            "log_sigmoid": softloss.log_sigmoid(x),
            "cross_entropy": softloss.cross_entropy(x, labels),
            "cross_entropy_options": softloss.cross_entropy(
                x, labels, weight=weight, label_smoothing=0.1, temperature=2, reduction="sum"
            ),
            "cross_entropy_rows": softloss.cross_entropy(x, probs, reduction="none"),
            "nll_loss": softloss.nll_loss(x, labels),
            "categorical_cross_entropy": softloss.categorical_cross_entropy(probs, labels),
            "binary_cross_entropy": softloss.binary_cross_entropy(probs, probs),
            "binary_cross_entropy_with_logits": softloss.binary_cross_entropy_with_logits(x, probs, reduction="sum"),
            "kl_divergence": softloss.kl_divergence(x, probs, reduction="none"),
            "js_divergence": softloss.js_divergence(x, probs, temperature=2),
            "kl_divergence_and_grad": softloss.kl_divergence_and_grad(x, probs),
            "cross_entropy_and_grad": softloss.cross_entropy_and_grad(x, labels),
            "nll_loss_and_grad": softloss.nll_loss_and_grad(x, labels),
            "categorical_cross_entropy_and_grad": softloss.categorical_cross_entropy_and_grad(probs, labels),
            "binary_cross_entropy_and_grad": softloss.binary_cross_entropy_and_grad(probs, probs),
            "binary_cross_entropy_with_logits_and_grad": softloss.binary_cross_entropy_with_logits_and_grad(x, probs),
            "cross_entropy_grad_hess": softloss.cross_entropy_grad_hess(x, labels, hess_scale=2, hess_min=1e-16),
            "binary_cross_entropy_with_logits_grad_hess": softloss.binary_cross_entropy_with_logits_grad_hess(x, probs),
            "softmax_focal_loss": softloss.softmax_focal_loss(x, labels),
            "softmax_focal_loss_and_grad": softloss.softmax_focal_loss_and_grad(x, labels, gamma=0.5),
            "softmax_focal_loss_grad_hess": softloss.softmax_focal_loss_grad_hess(x, labels),
            "sigmoid_focal_loss": softloss.sigmoid_focal_loss(x, hits),
            "sigmoid_focal_loss_and_grad": softloss.sigmoid_focal_loss_and_grad(x, hits, alpha=0.25, gamma=1.5),
            "sigmoid_focal_loss_grad_hess": softloss.sigmoid_focal_loss_grad_hess(x, hits, alpha=0.25, gamma=1.5),
            "cross_entropy_grad_hess_soft": softloss.cross_entropy_grad_hess(x, probs, label_smoothing=0.1),
            "softmax_topk": softloss.softmax_topk(x, 4),
            "token_logprobs": softloss.token_logprobs(x, labels, top_k=2),
            "sample": softloss.sample(x, numbers((3,), 9, 0, 1, dtype), temperature=4, top_p=0.9),
            "brier_score": softloss.brier_score(x, labels, temperature=2),
            "fit_temperature": fitted,
            "calibration_error": softloss.calibration_error(x, labels, bins=4, norm="l2"),
            "softmax_axis_temperature": softloss.softmax(x, 0, temperature=0.7),
            "logsumexp_axis_b": softloss.logsumexp(x, 0, b=probs),
            "binary_cross_entropy_with_logits_broadcast": softloss.binary_cross_entropy_with_logits(
                x, probs, weight=weight, pos_weight=weight
            ),
        }
        functions = {name for name in softloss.functional.__all__ if name[0].islower()}
        assert functions <= results.keys(), "every function is compared"
        for function, result in results.items():
            fields = result._asdict() if isinstance(result, tuple) else {function: result}
            for i, (name, field) in enumerate(fields.items()):
                lines.append(f"{name if i else function}.{dtype} {field.tobytes().hex()}")
        labels[1] = 37
        with pytest.raises(IndexError) as error:
            softloss.cross_entropy(x, labels)
        lines.append(f"error.{dtype} {error.value}")
    return lines


def check(build: Path, **environment: str) -> None:
    """Both programs under `build` print what Python computes."""
    for program in ("bits_cpp", "bits_c"):
        assert run(build / program, **environment).splitlines() == expected(), program


def cmake(build: Path, *options: str, source: Path = HERE) -> None:
    run("cmake", "-S", source, "-B", build, "-DCMAKE_BUILD_TYPE=Release", *options)
    run("cmake", "--build", build, "--parallel")


@pytest.fixture(scope="session")
def prefix(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A prefix that holds the static library and the shared one, without OpenMP, moved to another place after the
    installation."""
    root = tmp_path_factory.mktemp("install")
    for shared, openmp in (("OFF", "ON"), ("ON", "OFF")):
        cmake(root / shared, f"-DBUILD_SHARED_LIBS={shared}", f"-DSOFTLOSS_OPENMP={openmp}", source=SOURCE)
        run("cmake", "--install", root / shared, "--prefix", root / "before")
    return (root / "before").rename(root / "after")


@pytest.mark.parametrize("component", ["static", "shared"])
def test_find_package(prefix: Path, tmp_path: Path, component: str) -> None:
    cmake(tmp_path, f"-DCMAKE_PREFIX_PATH={prefix}", f"-DSOFTLOSS_COMPONENTS={component}")
    check(tmp_path)
    linked = "libsoftloss" in run("ldd", tmp_path / "bits_cpp")
    assert linked == (component == "shared")


def test_find_package_refuses_what_is_not_there(prefix: Path, tmp_path: Path) -> None:
    for wrong in ("SOFTLOSS_COMPONENTS=fast", "SOFTLOSS_VERSION=0.2"):
        with pytest.raises(AssertionError, match=r"component 'fast'|requested\s+version \"0.2\""):
            cmake(tmp_path / wrong, f"-DCMAKE_PREFIX_PATH={prefix}", f"-D{wrong}")


PROJECT = """
cmake_minimum_required(VERSION 3.24)
project(app LANGUAGES {languages})
{find}
add_executable(app {program})
target_link_libraries(app PRIVATE softloss::softloss)
"""


def project(folder: Path, find: str, languages: str = "C") -> Path:
    """A project around bits.c that finds softloss in its own way."""
    folder.mkdir(exist_ok=True)
    (folder / "CMakeLists.txt").write_text(PROJECT.format(languages=languages, find=find, program=HERE / "bits.c"))
    return folder


def test_projects_in_c_alone(prefix: Path, tmp_path: Path) -> None:
    """They get the shared library, which needs no C++; for the static one an error says what to write."""
    found, wrong = f"-DCMAKE_PREFIX_PATH={prefix}", r"project\(app\s+LANGUAGES\s+C\s+CXX\)"
    cmake(tmp_path / "b", found, source=project(tmp_path / "p", "find_package(softloss CONFIG REQUIRED)"))
    assert run(tmp_path / "b/app").splitlines() == expected()
    for find in ("find_package(softloss CONFIG REQUIRED COMPONENTS static)", f"add_subdirectory({SOURCE} softloss)"):
        with pytest.raises(AssertionError, match=wrong):
            cmake(tmp_path / "c", found, source=project(tmp_path / "p", find))


def test_components(prefix: Path, tmp_path: Path) -> None:
    """One that must be there and is not is an error, one that may be there is none; a folder has one kind."""
    show = 'message(FATAL_ERROR "static=${softloss_static_FOUND} shared=${softloss_shared_FOUND}")'
    alone = tmp_path / "prefix"
    run("cp", "-r", prefix, alone)
    for file in (alone / "lib/cmake/softloss").glob("softloss-shared-*"):
        file.unlink()
    for found, find, text in (
        (
            alone,
            f"find_package(softloss CONFIG REQUIRED OPTIONAL_COMPONENTS shared static)\n{show}",
            "static=TRUE shared=FALSE",
        ),
        (alone, f"find_package(softloss CONFIG REQUIRED COMPONENTS static shared)\n{show}", "no component 'shared'"),
        (prefix, f"find_package(softloss CONFIG REQUIRED COMPONENTS shared)\n{show}", "static=TRUE shared=TRUE"),
        (
            prefix,
            "\n".join(f"find_package(softloss CONFIG REQUIRED COMPONENTS {kind})" for kind in ("shared", "static")),
            r"a\s+SHARED_LIBRARY\s+here\s+already",
        ),
    ):
        with pytest.raises(AssertionError, match=text):
            cmake(tmp_path / "b", f"-DCMAKE_PREFIX_PATH={found}", source=project(tmp_path / "p", find, "C CXX"))
        run("rm", "-rf", tmp_path / "b")


def test_wheel(tmp_path: Path) -> None:
    cmake(tmp_path, f"-Dsoftloss_DIR={run(sys.executable, '-m', 'softloss', '--cmakedir').strip()}")
    check(tmp_path)


def test_an_installed_program_finds_the_library(tmp_path: Path) -> None:
    """With the line that docs/cpp.rst names; without it, CMake takes the path away."""
    line = "set(CMAKE_INSTALL_RPATH_USE_LINK_PATH ON)"
    assert line in (SOURCE / "docs/cpp.rst").read_text()
    source = project(tmp_path / "p", f"{line}\nfind_package(softloss CONFIG REQUIRED)")
    with (source / "CMakeLists.txt").open("a") as file:
        file.write("install(TARGETS app DESTINATION .)\n")
    cmake(
        tmp_path / "b",
        f"-Dsoftloss_DIR={run(sys.executable, '-m', 'softloss', '--cmakedir').strip()}",
        source=source,
    )
    run("cmake", "--install", tmp_path / "b", "--prefix", tmp_path / "prefix")
    assert run(tmp_path / "prefix/app").splitlines() == expected()


def test_wheel_has_headers() -> None:
    headers = Path(run(sys.executable, "-m", "softloss", "--includedir").strip())
    assert {file.name for file in headers.glob("softloss/*.h*")} == {
        file.name for file in SOURCE.glob("cpp/include/softloss/*.h*")
    }


def test_add_subdirectory(tmp_path: Path) -> None:
    cmake(tmp_path, f"-DSOFTLOSS_SOURCE={SOURCE}")
    check(tmp_path)
    run("cmake", "--install", tmp_path, "--prefix", tmp_path / "prefix")
    assert not (tmp_path / "prefix").exists(), "a project that embeds softloss must not install it"


@pytest.mark.parametrize("compiler", ["g++", "clang++-19"])
def test_flags_of_a_parent(tmp_path: Path, compiler: str) -> None:
    """Fast math, one file for all and warnings as errors do not reach softloss."""
    if not shutil.which(compiler):
        pytest.skip(f"no {compiler}")
    flags = "-ffast-math -Wall -Wextra -Wshadow -Werror"
    cmake(
        tmp_path,
        f"-DSOFTLOSS_SOURCE={SOURCE}",
        f"-DCMAKE_CXX_COMPILER={compiler}",
        f"-DCMAKE_CXX_FLAGS={flags}",
        "-DCMAKE_UNITY_BUILD=ON",
        "-DSOFTLOSS_OPENMP=OFF",
    )
    check(tmp_path)


def test_no_build_type(tmp_path: Path) -> None:
    """The parent's files are compiled as it says, ours are optimised."""
    run("cmake", "-S", HERE, "-B", tmp_path, f"-DSOFTLOSS_SOURCE={SOURCE}", "-DCMAKE_EXPORT_COMPILE_COMMANDS=ON")
    commands = json.loads((tmp_path / "compile_commands.json").read_text())
    ours = [c["command"] for c in commands if Path(c["file"]).is_relative_to(SOURCE / "cpp")]
    assert len(ours) > 8
    assert all(re.search(r" -O[2s] ", command) and " -fno-fast-math " in command for command in ours)


def test_fetch_content_without_openmp(tmp_path: Path) -> None:
    cmake(tmp_path, f"-DSOFTLOSS_SOURCE={SOURCE}", "-DSOFTLOSS_FETCH=ON", "-DSOFTLOSS_OPENMP=OFF")
    check(tmp_path)
    assert "gomp" not in run("ldd", tmp_path / "bits_cpp")


@pytest.mark.parametrize("kind", ["static", "shared"])
def test_pkg_config(prefix: Path, tmp_path: Path, kind: str) -> None:
    config = {"PKG_CONFIG_PATH": str(prefix / "lib/pkgconfig")}
    name = "softloss" if kind == "shared" else "softloss-static"
    flags = run("pkg-config", "--cflags", "--libs", name, **config).split()
    run("c++", "-std=c++20", HERE / "bits.cpp", *flags, "-o", tmp_path / "bits_cpp")
    run(
        "cc", "-std=c99", "-Wall", "-Wextra", "-pedantic", "-Werror", HERE / "bits.c", *flags, "-o", tmp_path / "bits_c"
    )
    check(tmp_path, LD_LIBRARY_PATH=str(prefix / "lib"))


def test_containers_of_debug_mode(prefix: Path, tmp_path: Path) -> None:
    """libstdc++'s debug mode changes its containers: none of them may cross the border of the library."""
    flags = run("pkg-config", "--cflags", "--libs", "softloss", PKG_CONFIG_PATH=str(prefix / "lib/pkgconfig")).split()
    run("c++", "-std=c++20", "-D_GLIBCXX_DEBUG", HERE / "bits.cpp", *flags, "-o", tmp_path / "bits_cpp")
    assert run(tmp_path / "bits_cpp", LD_LIBRARY_PATH=str(prefix / "lib")).splitlines() == expected()


def test_absolute_folders(tmp_path: Path) -> None:
    """Of package managers that give each package's library and headers folders of their own."""
    folders = ("-DCMAKE_INSTALL_LIBDIR=/of/libraries", "-DCMAKE_INSTALL_INCLUDEDIR=/of/headers")
    for _ in ("configured", "configured again"):
        run("cmake", "-S", SOURCE, "-B", tmp_path, *folders)
    config = {"PKG_CONFIG_PATH": str(tmp_path / "cpp/cmake")}
    assert run("pkg-config", "--cflags", "--libs", "softloss", **config).split() == [
        "-I/of/headers",
        "-L/of/libraries",
        "-lsoftloss",
    ]


# ---- what a compiler says ----


def complaints(tmp_path: Path, body: str, *options: str, compiler: str = "c++", include: str = "softloss.hpp") -> str:
    """What the compiler says of a program, "" where it is content."""
    program = tmp_path / ("app.c" if compiler == "cc" else "app.cpp")
    lines = [
        f"#include <softloss/{include}>",
        "#include <vector>" if compiler != "cc" else "",
        f"void f(void) {{ {body} }}",
    ]
    program.write_text("\n".join(lines) + "\n")
    command = [compiler, f"-I{SOURCE / 'cpp/include'}", "-Werror", "-c", *options, program, "-o", "/dev/null"]
    return subprocess.run(command, text=True, capture_output=True).stderr


ELEMENTS = "softloss takes elements of float"
WRONG = {  # body of a function: what the compiler must say
    "softloss::binary_cross_entropy(std::vector<float>{1}, std::vector<long double>{1});": ELEMENTS,
    "softloss::cross_entropy(std::vector<float>{1}, std::vector<long double>{1}, 1);": "a target holds class indices",
    "std::vector<void*> v; softloss::Contiguous weight(v);": ELEMENTS,
    "softloss::Contiguous weight(std::vector<float>{1});": "no matching function|constraint",
    "const std::vector<float> x{1}; softloss::sigmoid(x, x);": "WritableReals|no matching function",
    "softloss::softmax_topk(std::vector<float>{1}, 1);": "nodiscard",
}


@pytest.mark.parametrize("body", WRONG)
def test_what_must_not_compile(tmp_path: Path, body: str) -> None:
    said = complaints(tmp_path, body, "-std=c++20")
    assert re.search(WRONG[body], said) and said.count("error:") == 1, said


def test_what_must_compile(tmp_path: Path) -> None:
    options = ("-Wall", "-Wextra", "-Wshadow", "-Wconversion", "-pedantic")
    view = (
        "static const std::int64_t shape[] = {1}; float x[1];"
        "const softloss::MutableTensorView v{x, softloss::DType::float32, shape}; softloss::sigmoid(v, v);"
    )
    for compiler in filter(shutil.which, ("c++", "clang++-15", "clang++-19")):
        for body in (view, ""):
            assert complaints(tmp_path, body, "-std=c++20", "-fno-exceptions", *options, compiler=compiler) == ""
    for header in SOURCE.glob("cpp/include/softloss/*.h*"):  # each by itself
        assert complaints(tmp_path, "", "-std=c++20", *options, include=header.name) == ""
    for standard in ("c++98", "c++17", "c++20"):
        assert complaints(tmp_path, "", f"-std={standard}", *options[:3], include="softloss.h") == ""
    status = "if (softloss_sigmoid(0, 0)) return;"
    for standard in ("c99", "c17"):
        assert complaints(tmp_path, status, f"-std={standard}", *options, compiler="cc", include="softloss.h") == ""


def test_older_standards_and_ignored_statuses(tmp_path: Path) -> None:
    said = complaints(tmp_path, "", "-std=c++17")
    assert said.count("error:") == 1 and "needs C++20" in said, said
    said = complaints(tmp_path, "softloss_sigmoid(0, 0);", compiler="cc", include="softloss.h")
    assert said.count("error:") == 1 and "unused" in said, said


def test_symbols(prefix: Path) -> None:
    """The shared library exports the API and nothing else, the extension its entry point."""
    library = run("nm", "-DC", "--defined-only", "--format=posix", prefix / "lib/libsoftloss.so")
    header = "\n".join(file.read_text() for file in SOURCE.glob("cpp/include/softloss/*.h*"))
    declared = set(re.findall(r"^(?:\[\[nodiscard\]\] )?SOFTLOSS_(?:API|STATUS) [^(]*?\b(\w+)\(", header, re.MULTILINE))
    assert {re.sub(r"softloss::(detail::)?|\(.*", "", line).split()[0] for line in library.splitlines()} == declared
    extension = run("nm", "-D", "--defined-only", "--format=posix", softloss._core.__file__)
    assert [line.split()[0] for line in extension.splitlines()] == ["PyInit__core"]


# ---- what README shows ----

README = (SOURCE / "README.md").read_text().partition("## From C++")[2].partition("\n## ")[0]


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with README's program in it, and the checkout that README speaks of. One folder for all ways: the
    kernels have the same paths in all of them, so that ccache compiles them once."""
    folder = tmp_path_factory.mktemp("app")
    (folder / "app.cpp").write_text(blocks("cpp")[0])
    (folder / "softloss").symlink_to(SOURCE)
    return folder


def readme_output() -> str:
    """What README's program must print."""
    loss = softloss.cross_entropy([[2.0, 1.0, 0.1], [0.5, 2.0, 0.3]], [0, 1], label_smoothing=0.1)
    return f"{loss:.4f}"


def test_readme(app: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    """In README's order and in one folder, as somebody would who tries one after the other."""
    (app / "CMakeLists.txt").write_text(blocks("cmake")[0])
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    home = tmp_path_factory.mktemp("home")
    for name in ("cpp-wheel", "cpp-prefix", "cpp-pkg-config"):
        command = README.partition(f"<!-- command: {name} -->\n```sh\n")[2].partition("```")[0]
        assert command
        output = run("bash", "-euc", f"cd {shlex.quote(str(app))}\n{command}", HOME=str(home), PATH=path)
        assert output.splitlines()[-1] == readme_output()


@pytest.mark.parametrize("part", ["add_subdirectory(softloss)", "FetchContent"])
def test_readme_as_a_part(app: Path, tmp_path: Path, part: str) -> None:
    assert part in README
    lines = blocks("cmake")[1] if part == "FetchContent" else part
    (app / "CMakeLists.txt").write_text(blocks("cmake")[0].replace("find_package(softloss CONFIG REQUIRED)", lines))
    cmake(tmp_path, source=app)
    assert run(tmp_path / "app").strip() == readme_output()


# ---- what docs/cpp.rst shows ----


def test_documentation_names_every_option() -> None:
    """With the functions that use it."""
    header = (SOURCE / "cpp/include/softloss/softloss.hpp").read_text()
    structs = re.findall(r"^struct \w+Options \{\n(.*?)^\};", header, re.MULTILINE | re.DOTALL)
    options = {name for body in structs for name in re.findall(r"^    \S.*? \*?(\w+) = .*?;", body, re.MULTILINE)}
    assert {"axis", "hess_min", "compute_dtype", "sample_weight", "top_k"} <= options
    table = (SOURCE / "docs/cpp.rst").read_text().partition("Options and the functions that use them")[2]
    assert options <= set(re.findall(r"``(\w+)``", table.partition("From C and other languages")[0]))


@pytest.mark.parametrize("language, compiler", [("c", ["cc", "-std=c99"]), ("cpp", ["c++", "-std=c++20"])])
def test_documentation(prefix: Path, tmp_path: Path, language: str, compiler: list[str]) -> None:
    text = (SOURCE / "docs/cpp.rst").read_text()
    (code,) = re.findall(rf"^\.\. code-block:: {language}\n\n(   .*?)^\S", text, re.MULTILINE | re.DOTALL)
    (tmp_path / f"app.{language}").write_text(code)
    flags = run("pkg-config", "--cflags", "--libs", "softloss", PKG_CONFIG_PATH=str(prefix / "lib/pkgconfig")).split()
    run(*compiler, "-Wall", "-Wextra", "-Werror", tmp_path / f"app.{language}", *flags, "-o", tmp_path / "app")
    assert run(tmp_path / "app", LD_LIBRARY_PATH=str(prefix / "lib")).strip() == readme_output()


# ---- examples ----


@pytest.fixture(scope="session")
def examples(tmp_path_factory: pytest.TempPathFactory) -> Path:
    build = tmp_path_factory.mktemp("examples")
    cmake(
        build,
        f"-Dsoftloss_DIR={run(sys.executable, '-m', 'softloss', '--cmakedir').strip()}",
        source=SOURCE / "examples/cpp",
    )
    return build


def test_serve(examples: Path) -> None:
    requests = "2.0 1.0 0.1\n\n0.5 2.0 0.3\n"
    done = subprocess.run([examples / "serve", "2"], input=requests, text=True, capture_output=True, check=True)
    first, second, third = done.stdout.splitlines()
    assert second.startswith("error: ")
    for line, logits in ((first, [2.0, 1.0, 0.1]), (third, [0.5, 2.0, 0.3])):
        top = softloss.softmax_topk(np.array(logits, np.float32), 2)
        assert line == " ".join(f"{i}:{p:.6f}" for p, i in zip(top.prob, top.index, strict=True))


def test_train(examples: Path) -> None:
    output = run(examples / "train")
    losses = [float(loss) for loss in re.findall(r"loss (\S+)", output)]
    assert losses[0] == pytest.approx(np.log(3), abs=1e-6) and losses == sorted(losses, reverse=True)
    assert float(output.split()[-1]) > 0.9
