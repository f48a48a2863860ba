"""Weights that can be trusted: where they are, whether they are unchanged, and how they load.

Beside an upstream file ``NAME.pt`` lie ``NAME.safetensors``, its tensors, converted on first use,
and ``NAME.lock.json``, the digests of both with the targets and thresholds. From then on only the
tensors are loaded, memory-mapped, and a digest that differs is refused.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, replace
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cxr_dicom.config import Settings
from cxr_dicom.errors import WeightsError
from cxr_dicom.infer.device import prefer_onednn
from cxr_dicom.records import ModelInfo
from cxr_dicom.system import atomic
from cxr_dicom.system.digest import sha256
from cxr_dicom.system.words import printable

if TYPE_CHECKING:
    import torch

RELEASE = "https://github.com/mlmed/torchxrayvision/releases/download/v1/"  # where TorchXRayVision fetches from

_OF_STRANGERS = (".onnx", ".ts", ".safetensors")  # suffixes of files that no upstream file of ours has
FORMAT = 1  # of the lock file and of what a conversion writes


@dataclass(frozen=True, kw_only=True, slots=True)
class Lock:
    """What was recorded when weights were first used."""

    source: str  # name of the upstream file
    source_sha256: str  # of the upstream file; the identity of the weights
    loaded: str  # name of the file that is loaded: the safetensors file, or the upstream file itself
    loaded_sha256: str
    targets: tuple[str, ...] = ()  # the network's outputs as upstream names them; "" for an unused one
    thresholds: tuple[float | None, ...] = ()  # operating points, aligned with the targets
    format: int = FORMAT
    imported: bool = False  # from a bundle, and not yet compared with what the upstream file gives

    @property
    def checked_sha256(self) -> str:
        """The digest that was checked on this machine: of the upstream file, or of the imported one."""
        return self.loaded_sha256 if self.imported else self.source_sha256


@dataclass(frozen=True, kw_only=True, slots=True)
class Upstream:
    """How to make tensors from an upstream file; only called for a file whose digest is as expected."""

    state: Callable[[Path], Mapping[str, torch.Tensor]]  # reads safely, and names as our network does
    targets: Sequence[str] = ()
    thresholds: Sequence[float | None] = ()


def folder(settings: Settings) -> Path:
    """The folder of the weights: ``models.folder``, else the folder that TorchXRayVision itself uses."""
    return settings.models.folder or Path.home() / ".torchxrayvision" / "models_data"


def source_path(info: ModelInfo, settings: Settings) -> Path:
    """Where the upstream file of a model belongs; that of the user's own, where its table says.

    Raises
    ------
    WeightsError
        If the model has none.
    """
    if info.weights_file is None:
        raise WeightsError(f"{info.name} has no weight file: what it needs is in the package")
    own = settings.models.own_named(info.name)
    return folder(settings) / info.weights_file if own is None else own.file


def lock_path(source: Path) -> Path:
    """Where the digests of an upstream file are recorded; by its whole name where a ``.pt`` may lie beside it."""
    return source.with_name(f"{source.name if source.suffix in _OF_STRANGERS else source.stem}.lock.json")


def is_present(info: ModelInfo, settings: Settings) -> bool:
    """Whether the weights of a model are on this machine; a model without weights always is."""
    return info.weights_file is None or bool(files(info, settings))


def files(info: ModelInfo, settings: Settings) -> tuple[Path, ...]:
    """Files of a model's weights on this machine: the upstream one, and what was made from it."""
    source = source_path(info, settings)
    lock = read_lock(source)
    made = {source.with_name(lock.loaded), lock_path(source)} if lock else set()
    if not all(path.is_file() for path in made):
        made = set()
    return tuple(sorted(made | ({source} if source.is_file() else set())))


def digest(info: ModelInfo, settings: Settings) -> str | None:
    """Return what identifies a model's weights on this machine, without loading them; None where there are none."""
    if info.weights_file is None or not is_present(info, settings):
        return None
    source = source_path(info, settings)
    lock = read_lock(source)
    return lock.checked_sha256 if lock else sha256(source)


def load(info: ModelInfo, settings: Settings, upstream: Upstream) -> tuple[dict[str, torch.Tensor], Lock]:
    """Return the tensors of a model, memory-mapped, and what is recorded of them.

    Raises
    ------
    WeightsError
        If they are missing, damaged, not those that were recorded, or not those that the settings pin.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    lock = verify(info, settings, upstream)
    path = source_path(info, settings).with_name(lock.loaded)
    try:
        return load_file(path), lock
    except (SafetensorError, OSError) as error:
        raise WeightsError(f"{path}: cannot be read as safetensors ({error}); {_start_over(info, path)}") from error


def verify(info: ModelInfo, settings: Settings, upstream: Upstream | None) -> Lock:
    """Check the weights of a model against what was recorded; on first use, convert and record.

    Parameters
    ----------
    upstream
        How to convert; None for a file that is loaded as it is.

    Raises
    ------
    WeightsError
        As `load`.
    """
    source = source_path(info, settings)
    present = files(info, settings)
    if not present:
        how = f"; fetch it with `cxr-dicom models pull {info.name}`" if info.weights_url else ""
        raise WeightsError(f"{info.name}: weights are missing; {source.name} belongs in {source.parent}{how}")
    lock = read_lock(source)
    if lock is None or source in present:
        identity = sha256(source)
        expect(identity, info, settings)
    else:
        expect_pinned(lock, info, settings)
    if lock is None or source.with_name(lock.loaded) not in present:
        own = settings.models.own_named(info.name) is not None
        if own and settings.models.pinned(info.name):  # the pin says more than a record, and needs no folder to write
            return Lock(source=source.name, source_sha256=identity, loaded=source.name, loaded_sha256=identity)
        return _record(source, identity, upstream)
    loaded = source.with_name(lock.loaded)
    _expect(sha256(loaded), lock.loaded_sha256, f"recorded in {lock_path(source).name}", loaded, info)
    return _joined(source, lock, upstream, info) if lock.imported and source in present else lock


def expect_pinned(lock: Lock, info: ModelInfo, settings: Settings) -> None:
    """Compare what is recorded with the digest that is pinned, where the upstream file is not here.

    Of imported weights the pin has to be that of the imported file: what a bundle says of its origin proves nothing.

    Raises
    ------
    WeightsError
        If it is another.
    """
    pinned = settings.models.pinned(info.name)
    if pinned is not None and lock.imported and pinned.lower() != lock.loaded_sha256:
        raise WeightsError(
            f"{info.name}: expected SHA-256 {pinned} (pinned in models.sha256), found {lock.loaded_sha256} of "
            f"{lock.loaded}, which was imported; the pin of an upstream file can be checked only beside {lock.source}: "
            "put it there, or pin the digest of the imported file, which `models export` prints"
        )
    source = source_path(info, settings)
    _expect(lock.checked_sha256, pinned, "pinned in models.sha256", source, info)


def expect(identity: str, info: ModelInfo, settings: Settings) -> None:
    """Compare the digest of an upstream file with the one that is pinned, and the one that was recorded.

    Raises
    ------
    WeightsError
        If it is another.
    """
    source = source_path(info, settings)
    where = "pinned in models.sha256" if info.name in settings.models.sha256 else "pinned in its table [[models.own]]"
    _expect(identity, settings.models.pinned(info.name), where, source, info)
    expect_recorded(identity, info, settings)


def expect_recorded(identity: str, info: ModelInfo, settings: Settings) -> None:
    """Compare the digest of an upstream file with the one that was recorded, if one was.

    Raises
    ------
    WeightsError
        If it is another.
    """
    source = source_path(info, settings)
    lock = read_lock(source)
    _expect(identity, lock.source_sha256 if lock else None, f"recorded in {lock_path(source).name}", source, info)


def read_lock(source: Path) -> Lock | None:
    """Return what is recorded of an upstream file; None before its first use.

    Raises
    ------
    WeightsError
        If the lock file is damaged, or of a version that this package does not know.
    """
    path = lock_path(source)
    if not path.is_file():
        return None
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        content |= {key: tuple(value) for key, value in content.items() if isinstance(value, list)}
        lock = Lock(**content)
        if lock.format != FORMAT or Path(lock.loaded).name != lock.loaded:
            raise ValueError(f"format {lock.format}, file {lock.loaded}")
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise WeightsError(
            f"{path}: expected a lock file of format {FORMAT}, found something else; delete it"
        ) from error
    return lock


def fill(network: torch.nn.Module, tensors: Mapping[str, torch.Tensor], device: str) -> None:
    """Put tensors into a network that was made on the ``meta`` device, without copying them on a CPU.

    Numbers of another precision become those of the network.

    Raises
    ------
    WeightsError
        If they are not those of this network.
    """
    import torch

    made = network.state_dict()
    for name, tensor in tensors.items():
        is_alike = name not in made or tensor.is_floating_point() == made[name].is_floating_point()
        if not is_alike or tensor.is_complex() or tensor.is_meta or tensor.layout != torch.strided:
            raise WeightsError(
                f"weights do not fit the network: {printable(name[:100])} is no plain tensor of its kind of numbers"
            )
    alike = {name: tensor.to(made[name].dtype) if name in made else tensor for name, tensor in tensors.items()}
    try:
        network.load_state_dict(alike, assign=True)
    except RuntimeError as error:
        why = printable(" ".join(str(error).split())[:200])
        raise WeightsError(f"weights do not fit the network: {why}") from error
    network.eval().requires_grad_(False).to(device)
    prefer_onednn(network, device)


def identified(info: ModelInfo, lock: Lock) -> ModelInfo:
    """Return ``info`` with the digest that was checked: of the upstream file, or of weights that were imported."""
    return replace(info, weights_sha256=lock.checked_sha256)


@contextmanager
def written(path: Path) -> Iterator[Path]:
    """Give a path to write to, and move it to ``path`` when it is complete and on the disk.

    Raises
    ------
    WeightsError
        If the folder cannot be written.
    """
    with ExitStack() as block:
        try:
            atomic.sweep(path.parent)
            part = block.enter_context(atomic.replacing(path, atomic.FILE_OF_ALL))
        except OSError as error:
            expected = (
                "use it once as a user who may, put it into a folder that can (models.folder), or, for a file of your "
                "own, pin its digest in [models.sha256] or its table"
            )
            raise WeightsError(f"{path}: cannot be written ({error.strerror}); {expected}") from error
        yield part
        part.chmod(0o644)  # all users of this machine may read it, whatever the umask


def expect_same(content: bytes, info: ModelInfo, path: Path) -> None:
    """Compare what was read of a file that is loaded as it is with the digest that was checked, ``info``'s.

    Raises
    ------
    WeightsError
        If it is another: the file was replaced in between.
    """
    _expect(sha256(BytesIO(content)), info.weights_sha256, "of a moment ago", path, info)


def _record(source: Path, identity: str, upstream: Upstream | None) -> Lock:
    """Write the tensors and the lock of an upstream file; the lock last."""
    loaded = source
    if upstream is not None:
        loaded = source.with_suffix(".safetensors")
        with written(loaded) as part:
            _convert(source, upstream, part)
    lock = Lock(
        source=source.name,
        source_sha256=identity,
        loaded=loaded.name,
        loaded_sha256=sha256(loaded) if upstream else identity,
        targets=tuple(upstream.targets) if upstream else (),
        thresholds=tuple(upstream.thresholds) if upstream else (),
    )
    with written(lock_path(source)) as part:
        write_lock(part, lock)
    return lock


def write_lock(path: Path, lock: Lock) -> None:
    """Write a lock; one that was made here as it always was."""
    content = asdict(lock)
    if not lock.imported:
        del content["imported"]
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def _convert(source: Path, upstream: Upstream, path: Path) -> None:
    from safetensors.torch import save_file

    save_file({name: tensor.clone().contiguous() for name, tensor in upstream.state(source).items()}, path)


def _joined(source: Path, lock: Lock, upstream: Upstream | None, info: ModelInfo) -> Lock:
    """Compare imported weights with what the upstream file beside them gives; from then on they are its own."""
    loaded = source.with_name(lock.loaded)
    if upstream is not None:
        with atomic.workspace(source.parent) as folder:
            _convert(source, upstream, folder / loaded.name)
            _expect(lock.loaded_sha256, sha256(folder / loaded.name), f"made from {source.name}", loaded, info)
    joined = replace(lock, imported=False)
    with written(lock_path(source)) as part:
        write_lock(part, joined)
    return joined


def _expect(actual: str, expected: str | None, origin: str, path: Path, info: ModelInfo) -> None:
    if expected is not None and actual != expected.lower():
        raise WeightsError(
            f"{path}: expected SHA-256 {expected} ({origin}), found {actual}: the file was changed, swapped or only "
            f"partly copied; {_start_over(info, path)}"
        )


def _start_over(info: ModelInfo, path: Path) -> str:
    if info.weights_url is None:
        return f"if you meant to change it, it is another model: give it another version, and delete {lock_path(path)}"
    return (
        f"if you did not mean to change it, delete {path.stem}.* in {path.parent} and run "
        f"`cxr-dicom models pull {info.name}`"
    )
