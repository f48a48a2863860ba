"""The text of a TorchScript file, before it is loaded: only what ``torch.jit.save`` writes, and nothing to run.

torch parses the text with a parser of its own. Both parsers cut it into the same words only where no character means
different things to them: no escape but two, no comment, one kind of quotes, one kind of white space. A name that is
hidden from one of them would be hidden from this check.
"""

from __future__ import annotations

import ast
import re
import warnings
from collections.abc import Iterator, Mapping

from cxr_dicom.dicom.private_parts import operator_names
from cxr_dicom.infer.torchscript.operators import OPERATORS, PRIMITIVES, WORDS

_FOREIGN = re.compile(r"""[^\n\x20-\x7e]|[#;`$?!@]|\\(?![n'])|\"\"\"|'''""")
_DEEPEST = 150  # nodes above a node
_TYPE_WORDS = "Device Dict Final List NoneType Optional Tensor Tuple Union bool float int number str"
_TYPES = frozenset(_TYPE_WORDS.split())
_CONSTANTS = ("inf", "nan", "infj", "CONSTANTS")
_HARMLESS = ("__len__", "__contains__")  # of lists and dictionaries of modules
_CLASS_WORDS = ("__parameters__", "__buffers__")

_STATEMENTS = (ast.Assign, ast.AnnAssign, ast.AugAssign, ast.Expr, ast.Return, ast.If, ast.For, ast.While, ast.Pass)
_EXPRESSIONS = (
    *(ast.Call, ast.Attribute, ast.Name, ast.Constant, ast.List, ast.Tuple, ast.Dict, ast.Subscript, ast.Slice),
    *(ast.UnaryOp, ast.BinOp, ast.BoolOp, ast.Compare, ast.IfExp, ast.keyword),
    *(ast.expr_context, ast.operator, ast.unaryop, ast.boolop, ast.cmpop),
)


class RefusedError(Exception):
    """The file holds what no network needs; says what."""


class Program:
    """The code of a file.

    Parameters
    ----------
    sources
        Text by name of its record: ``code/__torch__/a.py`` is module ``__torch__.a``.

    Raises
    ------
    RefusedError
        If it cannot be read without doubt.
    """

    def __init__(self, sources: Mapping[str, str]) -> None:
        self._modules = {name: _parsed(text) for name, text in sources.items()}
        self.classes = {
            f"{name.removeprefix('code/').removesuffix('.py').replace('/', '.')}.{node.name}"
            for name, module in self._modules.items()
            for node in module.body
            if isinstance(node, ast.ClassDef)
        }
        named = {
            node.name
            for module in self._modules.values()
            for node in ast.walk(module)
            if isinstance(node, ast.FunctionDef)
        }
        self._methods = named - (
            operator_names() - OPERATORS
        )  # by its name alone a method is not told from an operator

    def check(self) -> None:
        """Refuse what is not on the list.

        Raises
        ------
        RefusedError
            Naming it.
        """
        for module in self._modules.values():
            for node in module.body:
                match node:
                    case ast.ClassDef():
                        self._check_class(node)
                    case ast.FunctionDef():
                        self._check_function(node)
                    case ast.Assign(targets=[ast.Name(id="op_version_set")], value=ast.Constant(value=int())):
                        pass
                    case _:
                        raise _refused(node)

    def _check_class(self, node: ast.ClassDef) -> None:
        if [ast.dump(base) for base in node.bases] != [
            ast.dump(ast.Name(id="Module", ctx=ast.Load()))
        ] or node.keywords:
            raise RefusedError(f"found a class {node.name} that is no module")
        for line in node.body:
            match line:
                case ast.FunctionDef():
                    self._check_function(line)
                case ast.AnnAssign(target=ast.Name(), annotation=annotation, value=value):
                    _check_type(annotation)
                    _expect_literal(value)
                case ast.Assign(targets=[ast.Name(id=name)], value=value) if name in _CLASS_WORDS:
                    _expect_literal(value)
                case ast.Assign(
                    targets=[ast.Subscript(value=ast.Name(id="__annotations__"), slice=ast.Constant())], value=value
                ):
                    _check_type(value)
                case ast.Pass():
                    pass
                case _:
                    raise _refused(line)

    def _check_function(self, node: ast.FunctionDef) -> None:
        given = node.args
        is_special = node.name.startswith("__") and node.name not in _HARMLESS  # __setstate__ runs while it is loaded
        if is_special or node.decorator_list or given.vararg or given.kwarg or given.posonlyargs:
            raise RefusedError(f"found a function {node.name} of another kind than torch.jit.save writes")
        for default in (*given.defaults, *given.kw_defaults):
            _expect_literal(default)
        for annotation in (node.returns, *(argument.annotation for argument in (*given.args, *given.kwonlyargs))):
            if annotation is not None:
                _check_type(annotation)
        nodes = [inner for statement in node.body for inner in ast.walk(statement)]
        functions = {name for inner in nodes for name in _functions(inner)}
        roots = set()
        for inner in nodes:
            if not isinstance(inner, _STATEMENTS + _EXPRESSIONS):
                raise _refused(inner)
            if isinstance(inner, ast.AnnAssign):
                _check_type(inner.annotation)
            if isinstance(inner, ast.Call):
                roots |= {id(part) for part in self._check_call(inner, functions)}
        for inner in nodes:
            self._check_name(inner, roots)

    def _check_call(self, call: ast.Call, functions: set[str]) -> list[ast.AST]:
        """Refuse a call of what is not on the list; return the names in it that are known so."""
        match call.func:
            case ast.Attribute(value=ast.Name(id="torch") as root, attr=name) if name in OPERATORS:
                return [root]
            case ast.Attribute(value=ast.Attribute(value=ast.Name(id="ops") as root, attr="prim"), attr=name) if (
                name in PRIMITIVES
            ):
                return [root]
            case ast.Name(id=name) if name in WORDS or name in functions:
                return []
            case ast.Attribute(attr=name) if name in self._methods or _dotted(call.func).startswith("__torch__."):
                return []
        raise RefusedError(f"found a call of {_dotted(call.func)}")

    def _check_name(self, node: ast.AST, known: set[int]) -> None:
        if isinstance(node, ast.Name) and node.id in ("torch", "ops") and id(node) not in known:
            raise RefusedError(f"found {node.id} by itself")
        if isinstance(node, ast.Attribute) and "torch.classes" in _dotted(node):
            raise RefusedError(f"found {_dotted(node)}, a class of C++")


def _parsed(text: str) -> ast.Module:
    if found := _FOREIGN.search(text):
        raise RefusedError(f"found the character or escape {found[0]!r} in its code")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SyntaxWarning)
            module = ast.parse(text)
    except (SyntaxError, RecursionError, MemoryError, ValueError) as error:
        raise RefusedError(f"found code that is none ({type(error).__name__})") from error
    level: list[ast.AST] = [module]
    for _ in range(_DEEPEST):
        level = [child for node in level for child in ast.iter_child_nodes(node)]
    if level:
        raise RefusedError(f"found code that is nested deeper than {_DEEPEST}")
    if any(isinstance(node, ast.Constant) and not _is_plain(node.value) for node in ast.walk(module)):
        raise RefusedError("found a constant that is no number, text or None")
    return module


def _is_plain(value: object) -> bool:
    return value is None or type(value) in (bool, int, float, str)


def _functions(node: ast.AST) -> Iterator[str]:
    """Yield the name that is given to a function of the file."""
    match node:
        case ast.Assign(targets=[ast.Name(id=name)], value=ast.Attribute() as value):
            if _dotted(value).startswith("__torch__."):
                yield name


def _expect_literal(node: ast.expr | None) -> None:
    """Refuse what would have to be computed while the file is loaded."""
    match node:
        case None | ast.Constant() | ast.UnaryOp(operand=ast.Constant()):
            return
        case ast.Name(id=name) | ast.Attribute(value=ast.Name(id=name)) if name in _CONSTANTS:
            return
        case ast.List(elts=parts) | ast.Tuple(elts=parts):
            for part in parts:
                _expect_literal(part)
            return
        case ast.Call(func=ast.Name(id="annotate"), args=[kind, value], keywords=[]):
            _check_type(kind)
            _expect_literal(value)
            return
    raise RefusedError("found a default or constant that is computed while the file is loaded")


def _check_type(node: ast.expr) -> None:
    match node:
        case ast.Constant():
            return
        case ast.Name(id=name) if name in _TYPES:
            return
        case ast.Attribute() if (name := _dotted(node)).startswith("__torch__.") and "torch.classes" not in name:
            return
        case ast.Subscript(value=value, slice=parts):
            _check_type(value)
            _check_type(parts)
            return
        case ast.Tuple(elts=parts):
            for part in parts:
                _check_type(part)
            return
    raise RefusedError(f"found a type {_dotted(node)}")


def _dotted(node: ast.AST) -> str:
    """Return a name as it stands, or what it is in place of one."""
    names: list[str] = []
    while isinstance(node, ast.Attribute):
        names.append(node.attr)
        node = node.value
    names.append(node.id if isinstance(node, ast.Name) else type(node).__name__)
    return ".".join(reversed(names))[:100]


def _refused(node: ast.AST) -> RefusedError:
    return RefusedError(f"found a statement or expression of another kind: {type(node).__name__}")
