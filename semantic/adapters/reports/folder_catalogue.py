"""Experiments as files: ``scripts/exp_NNN_name.py`` in a folder, each read by its path."""

import ast
import hashlib
import importlib.util
import re
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

from semantic.adapters.reports.script_reading import criterion_lines, first_lines, line_in, line_matching, unmeasured
from semantic.application.ports.experiments import CatalogueEntry, RunnableExperiment
from semantic.domain.errors import ExperimentDeclarationError, ExperimentNotFoundError, SemanticError
from semantic.domain.experiments import Experiment

FILE_NAME = re.compile(r"exp_(\d{3})_.+\.py")


class FolderCatalogue:
    """The experiments in ``folder/scripts``. Reading one runs its module; a broken one hides no other."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def entries(self) -> Sequence[CatalogueEntry]:
        """Every experiment file, in order of id. Of two with one id, each is an error naming the other."""
        return [self._entry(path) for path in self._paths()]

    def find(self, experiment_id: str) -> RunnableExperiment:
        """Read the experiment of this id; ``exp-1`` and ``1`` are EXP-001 too."""
        wanted = normalised_id(experiment_id)
        paths = [path for path in self._paths() if _id_of(path) == wanted]
        if not paths:
            there_are = ", ".join(_id_of(path) for path in self._paths()) or "none"
            raise ExperimentNotFoundError(
                f"no experiment {experiment_id} in {self.folder / 'scripts'}; there are: {there_are}"
            )
        entry = self._entry(paths[0])
        if entry.experiment is None:
            assert entry.error is not None
            raise entry.error
        return entry.experiment

    def _paths(self) -> list[Path]:
        scripts = self.folder / "scripts"
        if not scripts.is_dir():
            raise ExperimentNotFoundError(f"{scripts} is no folder; pass --experiments DIR or set SEMANTIC_EXPERIMENTS")
        return sorted(path for path in scripts.iterdir() if FILE_NAME.fullmatch(path.name))

    def _entry(self, path: Path) -> CatalogueEntry:
        same = [other for other in self._paths() if _id_of(other) == _id_of(path) and other != path]
        try:
            if same:
                places = [f"{each}:{_line_of_id(each, _id_of(path))}" for each in (path, same[0])]
                raise ExperimentDeclarationError(f"{' and '.join(places)} have the same id {_id_of(path)}")
            return CatalogueEntry(_id_of(path), str(path), experiment=_read(path))
        except SemanticError as error:
            return CatalogueEntry(_id_of(path), str(path), error=error)


def normalised_id(experiment_id: str) -> str:
    """``EXP-001`` for ``exp-1``, ``exp_001`` and ``1`` too."""
    digits = re.fullmatch(r"(?:exp[-_ ]?)?(\d{1,3})", experiment_id.strip(), re.IGNORECASE)
    return f"EXP-{int(digits.group(1)):03d}" if digits else experiment_id.upper()


def _id_of(path: Path) -> str:
    matched = FILE_NAME.fullmatch(path.name)
    assert matched is not None
    return f"EXP-{matched.group(1)}"


def _line_of_id(path: Path, id: str) -> int:
    return line_matching(path, rf"\bid\s*=\s*[\"']{re.escape(id)}[\"']")


def _read(path: Path) -> RunnableExperiment:
    spec = importlib.util.spec_from_file_location(f"_experiment_{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        raise ExperimentDeclarationError(f"{path}:{line_in(path, error)}: {type(error).__name__}: {error}") from error
    declaration, run = getattr(module, "EXPERIMENT", None), getattr(module, "run", None)
    if not isinstance(declaration, Experiment) or not callable(run):
        line = line_matching(path, r"EXPERIMENT\b")
        raise ExperimentDeclarationError(
            f"{path}:{line}: must define EXPERIMENT (an Experiment) and run (a function that takes the lab)"
        )
    if declaration.id != _id_of(path):
        line = _line_of_id(path, declaration.id)
        raise ExperimentDeclarationError(f"{path}:{line}: declares {declaration.id}; its name says {_id_of(path)}")
    text = path.read_bytes()
    tree = ast.parse(text)
    lines = criterion_lines(tree, [criterion.id for criterion in declaration.criteria])
    return RunnableExperiment(
        declaration,
        run,
        str(path),
        sha256=hashlib.sha256(text).hexdigest(),
        fixtures=_fixtures_of(module, path),
        lines={**first_lines(tree, _needs(declaration)), **lines},
        unmeasured=unmeasured(tree, lines),
    )


def _needs(declaration: Experiment) -> list[str]:
    needs = declaration.prerequisites
    return [*needs.components, *[each.name for each in needs.models], *[each.name for each in needs.dependencies]]


def _fixtures_of(module: ModuleType, path: Path) -> tuple[str, ...]:
    """The files that the module has loaded from the folder of fixtures."""
    folder = path.parent.parent / "fixtures"
    modules = [value for value in vars(module).values() if isinstance(value, ModuleType)]
    files = {Path(file) for each in modules if (file := getattr(each, "__file__", None))}  # built-in ones have none
    return tuple(str(folder / file.name) for file in sorted(files) if file.parent.resolve() == folder.resolve())
