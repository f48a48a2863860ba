"""Weights as one tar file, for machines without a network. What is in it is what is loaded: no pickles."""

from __future__ import annotations

import tarfile
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from cxr_dicom.config import Settings
from cxr_dicom.errors import WeightsError
from cxr_dicom.infer import weights
from cxr_dicom.records import ModelInfo
from cxr_dicom.system import atomic
from cxr_dicom.system.digest import sha256


def pack(infos: Iterable[ModelInfo], settings: Settings, path: Path) -> list[Path]:
    """Write the files that models load, and their locks, to the tar file ``path``.

    Parameters
    ----------
    infos
        Models whose weights were used or verified once, so that they are converted.

    Returns
    -------
    list of Path
        What was packed.
    """
    packed: list[Path] = []
    with weights.written(path) as part, tarfile.open(part, "w") as archive:
        for info in infos:
            source = weights.source_path(info, settings)
            lock = weights.read_lock(source)
            if lock is None:
                raise WeightsError(f"{info.name}: not verified yet; run `cxr-dicom models verify {info.name}`")
            for file in (source.with_name(lock.loaded), weights.lock_path(source)):
                archive.add(file, arcname=file.name)
                packed.append(file)
    return packed


def unpack(path: Path, infos: Iterable[ModelInfo], settings: Settings) -> list[ModelInfo]:
    """Bring the weights of a tar file into their place, all or none.

    Parameters
    ----------
    path
        A file that `pack` wrote; nothing in it is believed.
    infos
        Every model: a member that is the file of none is refused.

    Returns
    -------
    list of ModelInfo
        The models that have weights now.

    Raises
    ------
    WeightsError
        If a member is not a plain file of a known name, if a digest is not the one in its lock, or if
        other weights of that name were recorded here.
    """
    known = {weights.source_path(info, settings).stem: info for info in infos if info.weights_file}
    folder = weights.folder(settings)
    try:
        atomic.sweep(folder)
        with atomic.workspace(folder) as staging:
            staged = _extract(path, staging, set(known))
            locks = [file for file in staged if file.name.endswith(".lock.json")]
            made = [_check(lock, known, settings) for lock in locks]
            if len(staged) != 2 * len(locks):
                raise WeightsError(f"{path.name}: expected one file beside each lock, found {len(staged)} files in all")
            for file in sorted(staged, key=lambda file: file in locks):  # the locks last
                atomic.move(file, folder / file.name)
    except (tarfile.TarError, EOFError) as error:
        raise WeightsError(f"{path.name}: expected a tar file of `models export`, found something else") from error
    except OSError as error:
        raise WeightsError(f"{folder}: cannot be written ({error.strerror})") from error
    return made


def _extract(path: Path, staging: Path, stems: set[str]) -> list[Path]:
    """Copy the members out; only plain files whose name is that of a model's own file."""
    staged = []
    with tarfile.open(path, "r:") as archive:
        for member in archive:
            stem = member.name.removesuffix(".lock.json")
            is_known = stem in stems or Path(member.name).stem in stems
            is_plain = member.isreg() and not member.issparse()  # holes would become more bytes than the file has
            content = archive.extractfile(member) if is_plain and is_known else None
            if content is None or Path(member.name).name != member.name:
                raise WeightsError(
                    f"{path.name}: expected files of known models, found {member.name!r}; nothing was imported"
                )
            target = staging / member.name
            with target.open("xb") as file:
                while chunk := content.read(1 << 20):
                    file.write(chunk)
            staged.append(target)
    return staged


def _check(lock_file: Path, known: dict[str, ModelInfo], settings: Settings) -> ModelInfo:
    """Compare a staged file with its lock, and its lock with what is recorded or pinned here."""
    info = known[lock_file.name.removesuffix(".lock.json")]
    lock = weights.read_lock(lock_file.with_name(lock_file.name.removesuffix(".lock.json") + ".pt"))
    assert lock is not None  # noqa: S101  it was just staged
    loaded = lock_file.with_name(lock.loaded)
    if lock.source != info.weights_file or not loaded.is_file() or sha256(loaded) != lock.loaded_sha256:
        raise WeightsError(f"{info.name}: the weights in the file are not those of their lock; nothing was imported")
    source = weights.source_path(info, settings)
    lock = replace(lock, imported=lock.loaded != lock.source)  # then the digest of its source is only what it says
    if source.is_file():
        weights.expect(sha256(source), info, settings)
    else:
        weights.expect_pinned(lock, info, settings)
    weights.expect_recorded(lock.source_sha256, info, settings)
    weights.write_lock(lock_file, lock)
    return info
