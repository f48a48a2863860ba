"""TorchScript files that mean harm: each would write the file ``ran`` when it is loaded or used, or does worse."""

import zipfile
from io import BytesIO

import torch

SAVE = 'torch.save(x, "ran")'

_HEAD = """\
class N(Module):
  __parameters__ = []
  __buffers__ = []
  training : bool
  _is_full_backward_hook : Optional[bool]
"""
_FORWARD = "  def forward(self: __torch__.N,\n    x: Tensor) -> Tensor:\n"


def forward(*lines, result="x", head=_HEAD):
    return head + _FORWARD + "".join(f"    {line}\n" for line in lines) + f"    return {result}\n"


_RETURNS_1 = 'def f() -> int:\n  torch.save(1, "ran")\n  return 1\n'


def _harmless(method="relu"):
    return forward(result=f"torch.{method}(x)")


CODE = {  # what stands in place of the code of a network that does nothing but relu
    "a call": forward(SAVE),
    "a call split by a backslash": forward('torch.\\\n    save(x, "ran")'),
    "a call split by a backslash before its bracket": forward('torch.save\\\n    (x, "ran")'),
    "a call split by a comment": forward('_0 = (torch.save  # )\n      (x, "ran"))'),
    "a call behind a comment with a carriage return": forward('_0 = x  # \r    torch.save(x, "ran")', SAVE),
    "a method of a tensor": forward('(x).save("ran", )'),
    "a method of a tensor whose name a class has too": forward('(x).save("ran", )')
    + "  def save(self: __torch__.N,\n    x: str) -> NoneType:\n    return None\n",
    "an alias of the operator": forward("_0 = torch.save", '_1 = _0(x, "ran", )'),
    "an alias of the package": forward("_0 = torch", '_1 = _0.save(x, "ran", )'),
    "by the list of operators": forward('_0 = ops.aten.save(x, "ran")'),
    "in an argument": forward(result='torch.relu(torch.cat([x, annotate(Tensor, torch.save(x, "ran"))]))'),
    "in a branch": forward("if torch.gt(torch.dim(x), 0):", "  " + SAVE, "else:", "  pass"),
    "in a branch that is not taken": forward("if torch.gt(torch.dim(x), 9):", "  " + SAVE, "else:", "  pass"),
    "in a loop": forward("for i in range(1):", "  " + SAVE),
    "in a while": forward("while True:", "  " + SAVE),
    "in a comprehension": forward('_0 = [torch.save(x, "ran") for i in [1]]'),
    "in a condition": forward('_0 = torch.save(x, "ran") if True else None'),
    "in a subscript": forward('_0 = [x][annotate(int, torch.save(x, "ran"))]'),
    "in an assertion": forward('assert torch.save(x, "ran") is None'),
    "in a with": forward('with torch.save(x, "ran"):', "  pass"),
    "in a method that nobody calls": _harmless()
    + f"  def other(self: __torch__.N,\n    x: Tensor) -> Tensor:\n    {SAVE}\n    return x\n",
    "in a function of the file": forward("_0 = __torch__.f(x, )")
    + f"def f(x: Tensor) -> Tensor:\n  {SAVE}\n  return x\n",
    "while loading: a default": _harmless()
    + "  def other(self: __torch__.N,\n    x: int=__torch__.f()) -> int:\n    return 1\n"
    + _RETURNS_1,
    "while loading: a default of a function": forward("_0 = __torch__.g()")
    + "def g(x: int=__torch__.f()) -> int:\n  return x\n"
    + _RETURNS_1,
    "while loading: a constant": _harmless().replace("  training", "  a : Final[int] = __torch__.f()\n  training", 1)
    + _RETURNS_1,
    "a file that is read": forward('_0 = torch.from_file("/etc/hostname", False, 1, dtype=0)'),
    "Python by name": forward('_0 = ops.prim.PythonOp(x, "os.system")'),
    "an import": "import os\n" + _harmless(),
    "text on standard output": forward('print("ran")'),
    "text on standard error": forward('torch.warn("ran", 2)'),
    "another thread": forward("_0 = fork(__torch__.f, x)") + f"def f(x: Tensor) -> Tensor:\n  {SAVE}\n  return x\n",
    "a class of C++": forward("_0 = __torch__.torch.classes.profiling.SourceStats.__new__()"),
    "an attribute of a class of C++": forward(head=_HEAD + "  a : __torch__.torch.classes.xnnpack.Conv2dOpContext\n"),
    "an interface": forward("_0 = 1")
    + f"class I(ModuleInterface):\n  def go(self,\n    x: Tensor) -> Tensor:\n    {SAVE}\n",
    "a tuple with a name": 'class T(NamedTuple):\n  a : Optional[Tensor] = torch.save(1, "ran")\n' + _harmless(),
    "a hook before": _harmless().replace("  training :", '  __forward_pre_hooks__ = ["hook", ]\n  training :')
    + "  def hook(self: __torch__.N,\n    x: Tuple[Tensor]) -> Tuple[Tensor]:\n"
    + '    torch.save(1, "ran")\n    return x\n',
    "a hook after": _harmless().replace("  training :", '  __forward_hooks__ = ["hook", ]\n  training :')
    + "  def hook(self: __torch__.N,\n    x: Tuple[Tensor],\n    y: Tensor) -> Tensor:\n"
    + '    torch.save(1, "ran")\n    return y\n',
    "a string over several lines": forward('_0 = """\n"""', SAVE, '_1 = """', '"""'),
    "a string that ends in a backslash": forward('_0 = ["\\\\", "", torch.save(x, "ran"), "\\\\"]'),
    "letters that look alike": _harmless().replace("torch", "tor\u0441h"),
    "a decorator": _harmless().replace("  def forward", "  @torch.save\n  def forward"),
    "a lambda": forward('_0 = (lambda: torch.save(x, "ran"))()'),
    "deep nesting": forward("_0 = " + "(" * 5000 + "1" + ")" * 5000),
    "other randomness for all": forward("torch.manual_seed(1)"),
    "memory that nobody wrote": forward(result="torch.empty([4])"),
    "an operator that does not exist": forward("torch.no_such_operator(x)"),
    "no Python": "class N(Module:\n",
}


class Relu(torch.nn.Module):
    """What the files pretend to be."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Do nothing but relu."""
        return torch.relu(x)


class OnLoad(torch.nn.Module):
    """Runs while it is loaded."""

    def __init__(self) -> None:
        """Make one."""
        super().__init__()
        self.training = False

    @torch.jit.export
    def __getstate__(self):
        """Give a state."""
        return (torch.zeros(1), self.training)

    @torch.jit.export
    def __setstate__(self, state: tuple[torch.Tensor, bool]):
        """Write a file."""
        torch.save(state[0], "ran")
        self.training = state[1]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Do nothing."""
        return x


def harmless():
    """A whole file that only computes, as bytes."""
    return _archive(_records() | {"code/__torch__.py": _harmless().encode()})


def files():
    """Hostile files by what is wrong with them, as bytes."""
    records = _records()
    made = {name: _archive(records | {"code/__torch__.py": code.encode()}) for name, code in CODE.items()}
    made["while loading: a state"] = _saved(torch.jit.script(OnLoad()))
    bad = forward(SAVE).encode()
    good = _harmless().encode()
    made["two members of one name"] = _archive(records | {"code/__torch__.py": good}, [("code/__torch__.py", bad)])
    made["two members of one name, the other way round"] = _archive(
        records | {"code/__torch__.py": bad}, [("code/__torch__.py", good)]
    )
    made["something before the zip"] = b"\0\0\0\0PTMF" + harmless()
    made["a legacy model beside it"] = _archive(records | {"code/__torch__.py": good, "model.json": b"{}"})
    pickles = {
        "a pickle that names os.system": b"cos\nsystem\n(S'touch ran'\ntR.",
        "a pickle that names a class of C++": b"\x80\x02c__torch__.torch.classes.profiling\nSourceStats\n)\x81.",
        "a pickle that names a class the file does not have": b"\x80\x02c__torch__\nOther\n)\x81.",
        "a pickle that is cut off": records["data.pkl"][:-3],
    }
    for name, content in pickles.items():
        made[name] = _archive(records | {"code/__torch__.py": good, "data.pkl": content})
    made["a state that its class does not have"] = _archive(
        records | {"code/__torch__.py": good, "data.pkl": records["data.pkl"].replace(b"training", b"trained!")}
    )
    made["a pickle of constants that names os.system"] = _archive(
        records | {"code/__torch__.py": good, "constants.pkl": pickles["a pickle that names os.system"]}
    )
    return made


def _saved(network):
    file = BytesIO()
    torch.jit.save(network, file)
    return file.getvalue()


def _records():
    name, Relu.__qualname__ = Relu.__qualname__, "N"
    try:
        file = BytesIO(_saved(torch.jit.script(Relu())))
    finally:
        Relu.__qualname__ = name
    with zipfile.ZipFile(file) as archive:
        found = {each.partition("/")[2]: archive.read(each) for each in archive.namelist()}
    kind = next(line for line in found["data.pkl"].split(b"\n") if line.startswith(b"\x80\x02c__torch__"))
    found["data.pkl"] = found["data.pkl"].replace(kind + b"\n", b"\x80\x02c__torch__\n").replace(b"Relu\n", b"N\n")
    return {each: content for each, content in found.items() if not each.startswith("code/")}


def _archive(records, more=()):
    file = BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, content in [*records.items(), *more]:
            archive.writestr(f"archive/{name}", content)
    return file.getvalue()
