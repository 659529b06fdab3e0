"""Which code decides a result, found from the code itself.

A stored result is good for as long as the code that made it stays the same. From the function
that made it we follow every name that it mentions to where that name is defined, and on from there:
through modules of this project, however they are imported, to the libraries that they use. What
is reached is digested: the source of each definition, the data files of packages that read
their own, and the versions of the libraries. A module that a string names (a worker's entry
point, `python -m models.finetune`) is reached as a whole.

The source is parsed, never run: nothing is imported to find this out.
"""

import ast
import sys
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from data_contracts.digests import digest_file, digest_json

# The packages of this project, all in one folder.
PROJECT = frozenset({"data_contracts", "models", "tasks", "flows", "infra"})
# They decide where and when a stage runs and where its result is kept, not what it is.
ORCHESTRATION = frozenset({"prefect", "mlflow"})

_Function = ast.FunctionDef | ast.AsyncFunctionDef


@cache
def code_version(*functions: Callable[..., Any]) -> str:
    """Digest of all that decides what these functions (or classes) of this project do."""
    code = reached_code(*functions)
    return digest_json(
        {
            "python": f"{sys.version_info.major}.{sys.version_info.minor}",
            "libraries": library_versions(frozenset(code.libraries)),
            "definitions": code.definitions,
            "data": {name: digest_file(file) for name, file in code.data.items()},
        }
    )


def project_version() -> str:
    """Digest of every file of this project, whether or not it decides anything."""
    folders = [project_folder() / package for package in sorted(PROJECT)]
    return digest_json(
        {
            file.relative_to(project_folder()).as_posix(): digest_file(file)
            for folder in folders
            for file in sorted(folder.rglob("*"))
            if file.is_file() and file.suffix != ".pyc"
        }
    )


def reached_code(*functions: Callable[..., Any]) -> "ReachedCode":
    """What these functions (or classes) of this project can reach."""
    code = ReachedCode()
    for function in functions:
        code.reach(function.__module__, function.__qualname__.split(".")[0])
    return code


class ReachedCode:
    """Grows with each definition that is reached.

    Attributes:
        definitions: {`module:name`: digest of the definition, without comments and layout}.
        data: {path relative to the project: file} of the data files that packages read.
        libraries: top-level packages of other projects that are imported.
    """

    def __init__(self) -> None:
        self.definitions: dict[str, str] = {}
        self.data: dict[str, Path] = {}
        self.libraries: set[str] = set()

    @property
    def modules(self) -> set[str]:
        return {name.partition(":")[0] for name in self.definitions}

    def reach(self, module_name: str, name: str) -> None:
        """Follow one name of a module: a definition of its own, or what it imported so."""
        key = f"{module_name}:{name}"
        module = source_of(module_name)
        if module is None or key in self.definitions:
            return
        if statements := module.definitions.get(name):
            self._reach_effects(module)
            self._follow(module, key, statements)
        for target in module.imports.get(name, ()):
            self._reach_import(target)

    def reach_all(self, module_name: str) -> None:
        """Follow every definition of a module."""
        module = source_of(module_name)
        if module is not None:
            self._reach_effects(module)
            for name in module.definitions:
                self.reach(module_name, name)

    def _reach_effects(self, module: "Module") -> None:
        """What a module does when it is imported."""
        key = f"{module.name}:"
        if key not in self.definitions:
            self._follow(module, key, module.effects)
            for target in module.unused_imports:
                self._reach_import(target, whole=True)

    def _follow(self, module: "Module", key: str, statements: list[ast.stmt]) -> None:
        self.definitions[key] = digest_json([ast.dump(without_docstrings(s)) for s in statements])
        for chain in references(statements):
            self._resolve(module, chain)
        texts = {
            node.value
            for statement in statements
            for node in ast.walk(statement)
            if isinstance(node, ast.Constant) and isinstance(node.value, str)
        }
        named = {text for text in texts if source_of(text) is not None}
        if reads_own_data(statements):
            for package in (module.package, *named):
                self.data |= data_files(package)
        else:
            for name in named - PROJECT:  # alone, the name of a package is some other word
                self.reach_all(name)

    def _resolve(self, module: "Module", chain: tuple[str, ...]) -> None:
        """Follow `a.b.c` as it stands in a module's source."""
        first, *rest = chain
        if first in module.definitions:
            self.reach(module.name, first)
        for target in module.imports.get(first, ()):
            self._reach_import(target, tuple(rest))

    def _reach_import(
        self, target: str, rest: tuple[str, ...] = (), *, whole: bool = False
    ) -> None:
        """Follow an imported dotted name and the attributes that are taken of it."""
        parts = (*target.split("."), *rest)
        if parts[0] not in PROJECT:
            self.libraries.add(parts[0])
            return
        for length in range(len(parts), 0, -1):
            name = ".".join(parts[:length])
            if (module := source_of(name)) is not None:
                if length < len(parts):
                    self.reach(name, parts[length])
                elif whole or module.is_plain:
                    self.reach_all(name)
                return


class Module:
    """One parsed source file.

    Attributes:
        definitions: {name: the top-level statements that bind it}.
        imports: {name: dotted names that it is imported as}, wherever in the file.
        effects: top-level statements that bind nothing.
        unused_imports: dotted names imported for what importing them does.
    """

    def __init__(self, name: str, path: Path) -> None:
        self.name = name
        self.is_plain = path.name != "__init__.py"
        self.package = name.rpartition(".")[0] if self.is_plain else name
        tree = ast.parse(path.read_bytes(), filename=str(path))
        self.definitions: dict[str, list[ast.stmt]] = {}
        self.imports: dict[str, set[str]] = {}
        self.effects: list[ast.stmt] = []
        for node in ast.walk(tree):
            if isinstance(node, ast.Import | ast.ImportFrom):
                self._note_import(node)
        for statement in tree.body:
            self._note_statement(statement)
        used = {chain[0] for chain in references(tree.body)} | exported(tree)
        self.unused_imports = {
            target
            for bound, targets in self.imports.items()
            if bound not in used and self.is_plain
            for target in targets
        }

    def _note_import(self, node: ast.Import | ast.ImportFrom) -> None:
        for alias in node.names:
            if isinstance(node, ast.Import):
                bound = alias.asname or alias.name.partition(".")[0]
                target = alias.name if alias.asname else bound
            else:
                parents = self.package.split(".")[: len(self.package.split(".")) - node.level + 1]
                origin = ".".join([*(parents if node.level else ()), *filter(None, [node.module])])
                bound, target = alias.asname or alias.name, f"{origin}.{alias.name}"
            self.imports.setdefault(bound, set()).add(target)

    def _note_statement(self, statement: ast.stmt) -> None:
        if isinstance(statement, ast.Import | ast.ImportFrom):
            return
        bound = list(bound_names(statement))
        for name in bound:
            self.definitions.setdefault(name, []).append(statement)
        is_docstring = isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)
        if not bound and not is_docstring:
            self.effects.append(statement)


@cache
def source_of(name: str) -> Module | None:
    """The module of this project that has this dotted name; None if there is none."""
    if name.partition(".")[0] not in PROJECT or not all(map(str.isidentifier, name.split("."))):
        return None
    path = project_folder().joinpath(*name.split("."))
    for file in (path.with_name(f"{path.name}.py"), path / "__init__.py"):
        if file.is_file():
            return Module(name, file)
    return None


def project_folder() -> Path:
    return Path(__file__).resolve().parents[1]


def bound_names(statement: ast.stmt) -> Iterator[str]:
    """The names that a top-level statement binds in its module."""
    if isinstance(statement, _Function | ast.ClassDef):
        yield statement.name
        return
    for node in ast.walk(statement):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id
        elif isinstance(node, _Function | ast.ClassDef):
            yield node.name


def references(statements: list[ast.stmt]) -> set[tuple[str, ...]]:
    """Every `a.b.c` that the statements mention, as its parts; annotations in quotes too."""
    found: set[tuple[str, ...]] = set()
    pending: list[ast.AST] = list(statements)
    while pending:
        node = pending.pop()
        if chain := dotted(node):
            found.add(chain)
            continue
        pending.extend(quoted_annotations(node))
        pending.extend(ast.iter_child_nodes(node))
    return found


def dotted(node: ast.AST) -> tuple[str, ...] | None:
    """The parts of a plain `a.b.c`; None for anything else."""
    parts: list[str] = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load):
        return (node.id, *reversed(parts))
    return None


def quoted_annotations(node: ast.AST) -> Iterator[ast.AST]:
    """What the annotations of this very node say in quotes, parsed."""
    annotations = [getattr(node, name, None) for name in ("annotation", "returns")]
    for annotation in filter(None, annotations):
        for part in ast.walk(annotation):
            if isinstance(part, ast.Constant) and isinstance(part.value, str):
                try:
                    yield ast.parse(part.value, mode="eval").body
                except SyntaxError:  # a literal string, not a type in quotes
                    continue


def exported(tree: ast.Module) -> set[str]:
    """The names in `__all__`."""
    return {
        node.value
        for statement in tree.body
        if isinstance(statement, ast.Assign | ast.AnnAssign) and "__all__" in bound_names(statement)
        for node in ast.walk(statement)
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }


def without_docstrings(statement: ast.stmt) -> ast.stmt:
    """The statement as it runs: what only a reader sees decides nothing."""
    if not isinstance(statement, _Function | ast.ClassDef):
        return statement
    body = [
        without_docstrings(part)
        for at, part in enumerate(statement.body)
        if at or not (isinstance(part, ast.Expr) and isinstance(part.value, ast.Constant))
    ]
    changed = type(statement)(**{name: getattr(statement, name) for name in statement._fields})
    changed.body = body
    return changed


def reads_own_data(statements: list[ast.stmt]) -> bool:
    """Whether the statements look for files beside the code."""
    return any(
        chain[0] in ("resources", "__file__") or chain[:2] == ("importlib", "resources")
        for chain in references(statements)
    )


def data_files(package: str) -> dict[str, Path]:
    """{path relative to the project: file} of what lies in a package and is not Python."""
    folder = project_folder().joinpath(*package.split("."))
    return {
        file.relative_to(project_folder()).as_posix(): file
        for file in sorted(folder.glob("*"))
        if file.is_file() and file.suffix not in (".py", ".pyc")
    }


@cache
def providers() -> Mapping[str, list[str]]:
    """{top-level package: distributions that install it} of this environment."""
    return metadata.packages_distributions()


@cache
def library_versions(packages: frozenset[str]) -> dict[str, str]:
    """{distribution: version} of what provides these top-level packages, and of what that needs."""
    pending = [canonicalize_name(one) for name in packages for one in providers().get(name, ())]
    versions: dict[str, str] = {}
    while pending:
        name = pending.pop()
        if name in versions or name in ORCHESTRATION:
            continue
        try:
            distribution = metadata.distribution(name)
        except metadata.PackageNotFoundError:
            continue  # of another platform, or of an extra that is not installed
        versions[name] = distribution.version
        for text in distribution.requires or ():
            requirement = Requirement(text)
            if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
                pending.append(canonicalize_name(requirement.name))
    return dict(sorted(versions.items()))
