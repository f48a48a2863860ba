"""The roll call: before its first study each worker says where it is, what it has, and shows that it sees what we see.

Machines of a cluster are not equal because somebody meant them to be. The parent writes down what it has itself
(`Roll`), a worker answers with what it finds (`Worker`), and the parent says why it does not fit (`Roll.refusal`).
"""

from __future__ import annotations

import hashlib
import os
import secrets
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

from cxr_dicom.cohort import credentials
from cxr_dicom.cohort.worker import Model, Models, Worker, this_machine, versions
from cxr_dicom.ingest.folder import STATE_FOLDER
from cxr_dicom.ingest.manifest import Entry
from cxr_dicom.records import ModelInfo
from cxr_dicom.system import atomic

LOOKED_AT = 20  # files of the input that every worker looks at; of more, these are spread evenly
_HEAD = 4096  # bytes of each
_FOLDER = "roll-call"


@dataclass(frozen=True, kw_only=True)
class Roll:
    """What the parent has, which every worker must have too. It is copied to them."""

    out: Path
    token: str
    versions: Mapping[str, str]
    models: Models  # digests are None where the parent does not know them
    looked_at: tuple[tuple[Path, str], ...] = ()  # files of the input, with a digest of size and head
    files: Mapping[str, Path] = field(default_factory=dict)  # that settings and credentials name
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)  # credentials: never in a log
    made: tuple[Path, ...] = ()  # folders that were not there

    @classmethod
    def call(
        cls,
        out: Path,
        entries: Sequence[Entry],
        models: Sequence[tuple[ModelInfo, str | None]],
        files: Mapping[str, Path],
    ) -> Roll:
        """Write the token, and look at the input.

        Parameters
        ----------
        models
            With the digests of their weights, where they are known here.
        files
            That a worker needs, by what names them; those that are not here are nobody's concern.

        Raises
        ------
        OSError
            If ``out`` cannot be written.
        """
        token = secrets.token_hex(16)
        made = tuple(
            folder for folder in (out / STATE_FOLDER / _FOLDER, out / STATE_FOLDER, out) if not folder.exists()
        )
        atomic.make_folder(out / STATE_FOLDER / _FOLDER)
        with atomic.open_text(_token_file(out, token)) as file:
            file.write(token)
        needs_credentials = any(credentials.needed(source) for entry in entries for source in entry.sources)
        named = {**files, **(credentials.files() if needs_credentials else {})}
        return cls(
            out=out,
            token=token,
            versions=versions(),
            models=tuple((info.name, info.version, digest) for info, digest in models),
            looked_at=tuple(_seen(entries)),
            files={name: path for name, path in named.items() if path.is_file()},
            environment=credentials.environment() if needs_credentials else {},
            made=made,
        )

    def take_credentials(self) -> None:
        """In a worker: have the credentials of the parent, where there are none of its own."""
        for name, value in self.environment.items():
            os.environ.setdefault(name, value)

    def answer(self, models: Models) -> Worker:
        """In a worker: say what is here."""
        found, proof = "", ""
        with suppress(OSError):
            found = _token_file(self.out, self.token).read_text(encoding="ascii")
            proof = f"{self.token}-{secrets.token_hex(16)}"
            with atomic.open_text(self.out / STATE_FOLDER / _FOLDER / proof) as file:
                file.write(proof)
        return replace(
            this_machine(models),
            versions=versions(),
            token=found,
            proof=proof,
            unseen=tuple(number for number, (path, digest) in enumerate(self.looked_at) if _look(path) != digest),
            missing=tuple(name for name, path in self.files.items() if not path.is_file()),
        )

    def refusal(self, worker: Worker) -> str:
        """In the parent: say why a worker may not take part; empty when it may."""
        return next(filter(None, self._objections(worker)), "")

    def end(self) -> None:
        """Remove what was written for it."""
        for path in (self.out / STATE_FOLDER / _FOLDER).glob(f"{self.token}*"):
            path.unlink(missing_ok=True)
        for folder in self.made:
            with suppress(OSError):  # it is in use by now
                folder.rmdir()

    def _objections(self, worker: Worker) -> Iterator[str]:
        for name in sorted({*self.versions, *worker.versions}):
            expected, found = self.versions.get(name), worker.versions.get(name)
            if expected != found:
                yield f"expected {name} {expected or 'not installed'}, as here, found {found or 'none'}"
        if worker.token != self.token:
            yield f"it does not see the {self.out} that is here: expected the file that was written a moment ago"
        proof = self.out / STATE_FOLDER / _FOLDER / Path(worker.proof).name
        if not worker.proof or not proof.is_file():
            yield f"what it writes to {self.out} does not arrive here"
        proof.unlink(missing_ok=True)
        unseen = [number for number in worker.unseen if _look(self.looked_at[number][0]) == self.looked_at[number][1]]
        if unseen:
            yield f"of {len(self.looked_at)} files of the input it does not find {len(unseen)} as they are here"
        if worker.missing:
            yield f"it lacks the file that {worker.missing[0]} names"
        yield self._other_models(worker)

    def _other_models(self, worker: Worker) -> str:
        pairs = zip(self.models, worker.models, strict=False)
        if len(worker.models) != len(self.models) or not all(_is_same(*pair) for pair in pairs):
            return f"expected the models {_names(self.models)}, found {_names(worker.models)}"
        for (name, _, expected), (_, _, found) in zip(self.models, worker.models, strict=True):
            if expected is not None and expected != found:
                return f"expected weights {expected} of {name}, as here, found {found or 'none'}"
        return ""


def _is_same(expected: Model, found: Model) -> bool:
    """Whether a model that was loaded is the one that was named; runtime and package may stand behind its version."""
    (name, version, _), (found_name, found_version, _) = expected, found
    return name == found_name and (
        found_version == version or found_version.startswith((f"{version};", f"{version} ("))
    )


def _names(models: Models) -> str:
    return ", ".join(f"{name} {of}" for name, of, _ in models) or "none"


def _token_file(out: Path, token: str) -> Path:
    return out / STATE_FOLDER / _FOLDER / token


def _seen(entries: Sequence[Entry]) -> Iterator[tuple[Path, str]]:
    here = [number for number, entry in enumerate(entries) if entry.study or entry.picture]
    for number in here[:: max(1, -(-len(here) // LOOKED_AT))]:
        entry = entries[number]
        path = entry.study.instances[0].path if entry.study else entry.picture
        if path is not None and (digest := _look(path)):
            yield path, digest


def _look(path: Path) -> str:
    """Digest size and head of a file; empty where it cannot be read."""
    try:
        with path.open("rb") as file:
            return hashlib.sha256(f"{os.fstat(file.fileno()).st_size} ".encode() + file.read(_HEAD)).hexdigest()
    except OSError:
        return ""
