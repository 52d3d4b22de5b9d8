"""The shape of the project: what imports what, what is loaded when, and that nothing of ours stands in another's way."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import pytest

import graphkv

ROOT = Path(__file__).parents[1]
SOURCE_ROOTS = {"graphkv": ROOT, "graphkv_kernels": ROOT / "kernels", "graphkv_retrieval": ROOT / "retrieval", "graphkv_benchmarks": ROOT / "benchmarks"}
FILES = sorted(path for package, root in SOURCE_ROOTS.items() for path in (root / package).rglob("*.py"))

TORCH = {"torch"}
CORE: dict[str, set[str]] = {
    # Every module of the core, sources first, with the other packages it may import. It may import modules above it only.
    "errors": set(),
    "segments": {"syntok"},
    "graph": {"networkx"},
    "edges": {"networkx"},
    "export": {"networkx"},
    "places": {"networkx"},
    "strategy": set(),
    "layout": TORCH,
    "layouts": TORCH,
    "kv": TORCH,
    "store.entry": {"xxhash"},
    "store.manifest": {"xxhash"},
    "store.files": {"fsspec"},
    "store.folder": set(),
    "store.archive": set(),
    "store.codecs": TORCH,
    "store.tensors": TORCH | {"safetensors"},
    "store.base": set(),
    "store.memory": TORCH,
    "store.file": set(),
    "store.scoped": set(),
    "store.place": {"platformdirs"},
    "store": set(),
    "progress": {"rich"},
    "prompt": {"jinja2"},
    "attention": TORCH | {"graphkv_kernels"},
    "landmark_reading": TORCH | {"graphkv_kernels"},
    "watch": TORCH,
    "support": TORCH | {"graphkv_kernels"},
    "shared": TORCH | {"graphkv_kernels"},
    "model": TORCH | {"graphkv_kernels", "transformers", "safetensors"},
    "landmark": TORCH | {"graphkv_kernels"},
    "tokens": TORCH,
    "window": set(),
    "encode": TORCH | {"graphkv_kernels"},
    "assemble": TORCH,
    "generate": TORCH,
    "answer": set(),
    "strategies": set(),
    "engine": TORCH,
    "chat": set(),
    "sampling": TORCH,
    "batch": TORCH,
    "question": TORCH,
    "citations": {"graphkv_retrieval"},
    "ticket": set(),
    "scheduler": TORCH,
    "bulk": TORCH,
    "stats": {"networkx"},
    "plot": {"numpy", "matplotlib"},
    "plot_graph": {"matplotlib"},
    "train.checkpoint": TORCH | {"safetensors"},
    "train.metrics": set(),
    "train.settings": set(),
    "train.rows": set(),
    "train.mixture": set(),
    "train.episode": TORCH | {"graphkv_kernels"},
    "train.landmark": TORCH | {"graphkv_kernels"},
    "train.reading": set(),
    "train.loss": TORCH | {"graphkv_kernels"},
    "train.optim": TORCH,
    "train.evaluate": TORCH,
    "train.adapter": TORCH | {"peft"},
    "train.export": TORCH,
    "train.folder": set(),
    "train.interrupt": set(),
    "train.display": {"rich"},
    "train.curve": set(),
    "train.loop": TORCH,
}
PARSERS = {"lxml", "bibtexparser", "pylatexenc", "markdown_it"}
LAZY = {"fsspec", "platformdirs", "matplotlib", "syntok", "rich", "bm25s", "faiss", "flash_attn", "peft", "sentence_transformers", *PARSERS}
"""Imported inside functions only, whoever imports them."""
EXCEPTIONS = {("layout", "graphkv.plot")}
"""`Layout.draw` calls the drawing that imports layouts; it does so inside the method."""


def imports(path: Path) -> Iterator[tuple[str, bool]]:
    """(module, whether it is imported when the file is) for every import outside ``if TYPE_CHECKING``."""

    def walk(node: ast.AST, inside: bool) -> Iterator[tuple[str, bool]]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
                continue
            if isinstance(child, ast.Import):
                yield from ((alias.name, not inside) for alias in child.names)
            elif isinstance(child, ast.ImportFrom) and not child.level:
                yield str(child.module), not inside
            yield from walk(child, inside or isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda))

    return walk(ast.parse(path.read_text(encoding="utf-8")), False)


def top(module: str) -> str:
    return module.split(".")[0]


@pytest.mark.parametrize("name", CORE)
def test_arrows_point_down(name: str) -> None:
    above = list(CORE)[: list(CORE).index(name)]
    path = ROOT / "graphkv" / name.replace(".", "/")
    for module, _ in imports(path / "__init__.py" if path.is_dir() else path.with_suffix(".py")):
        if top(module) in sys.stdlib_module_names or (name, module) in EXCEPTIONS:
            continue
        if top(module) == "graphkv":
            assert module.removeprefix("graphkv.") in above, f"{name} imports {module}, which stands at or below it"
        else:
            assert top(module) in CORE[name], f"{name} may not import {module}"


def test_every_core_module_has_its_place() -> None:
    found = {p.stem for p in (ROOT / "graphkv").glob("*.py")} | {"store"}
    found |= {f"{package}.{p.stem}" for package in ("train", "store") for p in (ROOT / "graphkv" / package).glob("*.py")}
    assert found - {"__init__", "train.__init__", "store.__init__"} == set(CORE)


def test_packages_keep_their_distance() -> None:
    """Kernels know torch only, importers know graphs and parsers, retrieval knows neither engine nor CLI, only model.py, and the adapter to its pipelines, knows transformers."""
    for path in FILES:
        package = path.relative_to(ROOT).parts[0]
        for module, _ in imports(path):
            where = f"{path.relative_to(ROOT)} imports {module}"
            if package == "kernels":
                assert top(module) in {"graphkv_kernels", "torch", "flash_attn", *sys.stdlib_module_names}, where
            if path.is_relative_to(ROOT / "graphkv" / "importers"):
                own = module.startswith("graphkv.importers") or module in {f"graphkv.{name}" for name in ("errors", "segments", "graph", "edges")}
                assert own or top(module) in {"networkx", *PARSERS, *sys.stdlib_module_names}, where
            if package == "retrieval":
                assert not module.startswith(("graphkv.engine", "graphkv.cli", "graphkv_benchmarks")), where
            if package == "graphkv" and top(module) == "transformers":
                assert path.name == "model.py" or "cli" in path.parts or path.parts[-2:] == ("adapters", "huggingface.py"), where


def test_heavy_libraries_are_imported_inside_functions() -> None:
    for path in FILES:
        at_import = {top(module) for module, early in imports(path) if early}
        assert not at_import & LAZY, f"{path.relative_to(ROOT)} imports {at_import & LAZY} at once"
        if "matplotlib" in {top(module) for module, _ in imports(path)}:
            assert path in (ROOT / "graphkv" / "plot.py", ROOT / "graphkv" / "plot_graph.py")
        if "typer" in at_import:
            assert path.is_relative_to(ROOT / "graphkv" / "cli")
        if path.is_relative_to(ROOT / "graphkv" / "cli"):
            assert not at_import & {"torch", "transformers", "numpy"}, path


def python(code: str, **environment: str) -> str:
    """What a fresh interpreter prints when it runs `code` in the repository root."""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env={**os.environ, **environment}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_import_graphkv_is_light() -> None:
    heavy = {"matplotlib", "faiss", "bm25s", "lxml", "pylatexenc", "typer", "syntok", "flash_attn", "graphkv_retrieval", "graphkv_benchmarks"}
    assert python(f"import sys; from graphkv import GraphKV; print(sorted({heavy!r} & set(sys.modules)))") == "[]"
    heavy |= {"torch", "transformers"}  # only the names that need them bring these
    assert python(f"import sys, graphkv; from graphkv import SegmentGraph, Document; print(sorted({heavy!r} & set(sys.modules)))") == "[]"


def test_public_names_are_complete() -> None:
    assert sorted(graphkv.__all__) == sorted(set(graphkv.__all__))
    assert all(hasattr(graphkv, name) for name in graphkv.__all__)
    wanted = {"GraphKV", "SegmentGraph", "Document", "Segment", "Answer", "Timings", "SegmentUse", "Layout", "LAYOUTS", "make_layout", "PromptTemplate", "Score", "Strategy"}
    errors = {name for name, value in vars(graphkv.errors).items() if isinstance(value, type) and issubclass(value, Exception)}
    assert (wanted | errors) - set(graphkv.__all__) == set()


SEEN = """
from importlib.util import find_spec
from transformers.utils import is_kernels_available
spec = find_spec("kernels")
print(is_kernels_available(), spec.origin if spec else None)
"""
OURS = "import transformers, graphkv, graphkv_kernels, graphkv_retrieval, graphkv_benchmarks\n"


def fake_kernels(folder: Path, version: str) -> None:
    """An empty distribution called `kernels`."""
    (folder / "kernels").mkdir(parents=True)
    (folder / "kernels" / "__init__.py").write_text(f"__version__ = {version!r}\n")
    (folder / f"kernels-{version}.dist-info").mkdir()
    (folder / f"kernels-{version}.dist-info" / "METADATA").write_text(f"Metadata-Version: 2.1\nName: kernels\nVersion: {version}\n")


def test_hugging_faces_kernels_package_is_not_shadowed(tmp_path: Path) -> None:
    """From the repository root, where our folder `kernels/` is.

    1. As installed here. 2. With a `kernels` distribution of a version that transformers does not take: all of ours is
    imported, and theirs is still the one that is found. 3. With a version that it takes: transformers sees it.
    """
    seen, origin = python(OURS + SEEN).split()
    try:
        version("kernels")
    except PackageNotFoundError:
        assert (seen, origin) == ("False", "None")

    fake_kernels(tmp_path / "new", "99.0")
    seen, origin = python(OURS + SEEN, PYTHONPATH=str(tmp_path / "new")).split()
    assert (seen, Path(origin)) == ("False", tmp_path / "new" / "kernels" / "__init__.py")

    fake_kernels(tmp_path / "good", python("from transformers.utils.import_utils import KERNELS_MIN_VERSION as v; print(v)"))
    seen, origin = python(SEEN, PYTHONPATH=str(tmp_path / "good")).split()
    assert (seen, Path(origin)) == ("True", tmp_path / "good" / "kernels" / "__init__.py")


def test_source_roots_are_not_packages() -> None:
    for folder in ("kernels", "retrieval", "benchmarks", "tests"):
        assert not (ROOT / folder / "__init__.py").exists()
    for package, root in SOURCE_ROOTS.items():
        assert (root / package / "__init__.py").is_file() and (root / package / "py.typed").is_file()


def test_files_are_short() -> None:
    long = {str(p.relative_to(ROOT)): n for p in [*FILES, *(ROOT / "tests").rglob("*.py")] if (n := len(p.read_text(encoding="utf-8").splitlines())) > 400}
    assert long == {}


def test_no_checks_by_assert_and_no_swallowed_errors() -> None:
    for path in FILES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            assert not isinstance(node, ast.Assert), f"{path.relative_to(ROOT)}:{node.lineno} checks by assert"
            if isinstance(node, ast.ExceptHandler):
                assert node.type is not None, f"{path.relative_to(ROOT)}:{node.lineno} catches everything"


def test_the_readme_names_every_file() -> None:
    tree = (ROOT / "README.md").read_text(encoding="utf-8").rpartition("## The files")[2]
    missing = [str(p.relative_to(ROOT)) for p in FILES if p.name != "__init__.py" and p.name not in tree]
    assert missing == []
