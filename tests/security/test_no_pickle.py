"""Nothing that we read can run: no pickle, no evaluated text, no shell."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("crosscheck", "schemas", "inference", "workers", "compose")
MODULES = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}
# Only for the name of the error that torch raises when a checkpoint holds more than tensors.
NAMED_ONLY = {("inference/features/weights.py", "pickle", "UnpicklingError")}
# A call and the word it must be given.
GUARDED = {
    "torch.load": ("weights_only", True),
    "np.load": ("allow_pickle", False),
    "numpy.load": ("allow_pickle", False),
}
BANNED = {
    "eval",
    "exec",
    "compile",
    "__import__",
    "yaml.load",
    "torch.hub.load",
    "torch.jit.load",
    "os.system",
    "os.popen",
}


def findings(source: str, where: str) -> Iterator[str]:
    """What one file does that it must not: a line for each."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        line = f"{where}:{getattr(node, 'lineno', 0)}"
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else [a.name for a in node.names]
            for name in names:
                module = name.partition(".")[0]
                if module in MODULES and not any(at == where and of == module for at, of, _ in NAMED_ONLY):
                    yield f"{line} imports {module}"
        if isinstance(node, ast.Attribute) and ast.unparse(node.value) in MODULES:
            module = ast.unparse(node.value)
            if (where, module, node.attr) not in NAMED_ONLY:
                yield f"{line} uses {module}.{node.attr}"
        if isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            given = {word.arg: ast.unparse(word.value) for word in node.keywords}
            if called in BANNED:
                yield f"{line} calls {called}"
            if called in GUARDED:
                word, value = GUARDED[called]
                if given.get(word) != str(value):
                    yield f"{line} calls {called} without {word}={value}"
            if given.get("shell", "False") != "False":
                yield f"{line} calls {called} through a shell"


@pytest.mark.parametrize("package", PACKAGES)
def test_no_file_of_a_package_can_run_what_it_reads(package: str) -> None:
    files = sorted((ROOT / package).rglob("*.py"))
    assert files
    assert [
        found for path in files for found in findings(path.read_text(), path.relative_to(ROOT).as_posix())
    ] == []


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "from pickle import loads",
        "import joblib.numpy_pickle",
        "torch.load(path)",
        "torch.load(path, weights_only=False)",
        "np.load(path)",
        "np.load(path, allow_pickle=True)",
        "eval(text)",
        "subprocess.run(text, shell=True)",
        "def f():\n    import shelve",
        "os.system(text)",
    ],
)
def test_what_could_run_is_found(source: str) -> None:
    assert list(findings(source, "workers/a.py"))


def test_the_named_error_is_all_that_is_taken_of_pickle() -> None:
    where = "inference/features/weights.py"
    assert list(findings("import pickle\nx = pickle.UnpicklingError", where)) == []
    assert list(findings("import pickle\npickle.loads(x)", where)) == [f"{where}:2 uses pickle.loads"]
    assert list(findings("import pickle\npickle.UnpicklingError", "workers/a.py"))
