"""The package from Python: one image to an `Analysis`, many to a table, an output folder read back.

Nothing is computed here. What a notebook has becomes a `Study`; the one `cxr_dicom.pipeline.Pipeline`
makes a `StudyAnalysis` of it; and that is given names, arrays, tables and data sets.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from cxr_dicom import pipeline as spine
from cxr_dicom.analysis import Analysis, unwritten_rows
from cxr_dicom.config import Settings, load
from cxr_dicom.errors import CxrDicomError, ImageError, ModelError
from cxr_dicom.ingest.folder import read_instance, scan
from cxr_dicom.ingest.memory import InMemory, as_file
from cxr_dicom.records import Outcome, Reason, Skipped, Study, StudyAnalysis
from cxr_dicom.results import frames, rows
from cxr_dicom.results.folder import Results
from cxr_dicom.system import telemetry

if TYPE_CHECKING:
    from types import TracebackType

    import pandas as pd

PathLike: TypeAlias = str | os.PathLike[str]
Models: TypeAlias = str | Sequence[str]
SettingsLike: TypeAlias = Settings | PathLike | Mapping[str, Mapping[str, Any]]


def analyse(
    image: PathLike | InMemory, *, models: Models | None = None, settings: SettingsLike | None = None
) -> Analysis:
    """Analyse one chest radiograph.

    The models are loaded for this one image; where there are more, make a `Pipeline`.

    Parameters
    ----------
    image
        See `Pipeline.analyse`.
    models, settings
        See `Pipeline`.

    Raises
    ------
    ImageError, ModelError, SettingsError
        See `Pipeline` and `Pipeline.analyse`.
    """
    with Pipeline(models=models, settings=settings) as pipeline:
        return pipeline.analyse(image)


def read_results(out: PathLike) -> Results:
    """Read back what ``cxr-dicom run -o OUT`` wrote: ``frame``, ``masks`` and ``objects``.

    Raises
    ------
    CxrDicomError
        If ``out`` is not the output of a run.
    """
    return Results(Path(out))


class Pipeline:
    """Models that are loaded once, for many images: ``with Pipeline(models=[...]) as pipeline:``.

    It holds a `cxr_dicom.pipeline.Pipeline`, the same that the command line and the service run. Several
    threads may use it at once; the networks run one after another.

    Parameters
    ----------
    models
        Names, as ``cxr-dicom models list`` shows them, in the order in which they run; None for those of
        the settings.
    settings
        `Settings`, the path of a settings file, or tables of it: ``{"encode": {"geometry": "strict"}}``.
        Environment variables count as for the command line, but not beside `Settings`. None for defaults.

    Raises
    ------
    SettingsError
        If a setting is wrong, or a model does not exist; the text lists those that do.
    WeightsError
        If weights are missing or damaged.
    """

    def __init__(self, *, models: Models | None = None, settings: SettingsLike | None = None) -> None:
        self.settings = _settings(models, settings)
        if models is None:
            self.settings.expect_one_way()
        self._spine = spine.Pipeline(self.settings)
        self._names = tuple(model.info.name for model in self._spine.models)
        self._condition = threading.Condition()
        self._at_work = 0
        self._is_closed = False

    def __enter__(self) -> Pipeline:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Pipeline: {', '.join(self._names)}{'; closed' if self._is_closed else ''}>"

    def close(self) -> None:
        """Give the models' memory back, once the analyses that other threads began are finished.

        What was analysed stays usable.
        """
        with self._condition:
            self._is_closed = True
            self._condition.wait_for(lambda: not self._at_work)
            self._spine.close()

    def analyse(self, image: PathLike | InMemory) -> Analysis:
        """Analyse one chest radiograph.

        Parameters
        ----------
        image
            A path, the bytes of a file, a binary stream, or a pydicom data set (see `ingest.memory`).

        Raises
        ------
        ImageError
            If the image is not eligible; ``reason`` is explained in ``docs/reasons.md``.
        ModelError
            If a model failed on it.
        CxrDicomError
            If something else did, or the pipeline is closed.
        TypeError
            If ``image`` is none of these.
        """
        with self._working(), _as_path(image) as path:
            done = self._spine.analyse(_study(path))
        if not done.images:
            raise _error(done.skipped[0])
        return Analysis(done.images[0], done, self.settings, is_file=isinstance(image, str | os.PathLike))

    def analyse_all(self, paths: PathLike | Iterable[PathLike]) -> Analyses:
        """Analyse files and folders, one study after the other, on demand.

        Images of one study belong together, as in ``cxr-dicom run``. An input without a result does not
        stop the others: it is in `Analyses.skipped`, and has its line in the table.

        Parameters
        ----------
        paths
            Files, and folders that are searched to any depth. They are listed at once.
        """
        given = [paths] if isinstance(paths, str | os.PathLike) else paths
        studies, skipped = scan([Path(path) for path in given])
        return Analyses(self._process, studies, skipped, self.settings)

    def _process(self, study: Study) -> StudyAnalysis:
        with self._working():
            return self._spine.analyse(study)

    @contextmanager
    def _working(self) -> Iterator[None]:
        with self._condition:
            if self._is_closed:
                raise CxrDicomError("the pipeline is closed: make a new one")
            self._at_work += 1
        try:
            yield
        finally:
            with self._condition:
                self._at_work -= 1
                self._condition.notify_all()


class Analyses(Iterator[Analysis]):
    """The analyses of many images, each made when its turn comes and not kept.

    It can be iterated once: ``for analysis in analyses``, or `to_frame`, which processes what is left.
    """

    def __init__(
        self,
        process: Callable[[Study], StudyAnalysis],
        studies: Iterable[Study],
        skipped: Iterable[Skipped],
        settings: Settings,
    ) -> None:
        self.skipped = list(skipped)
        """What has no result so far: ``path``, ``outcome``, ``reason``, ``detail``."""
        self._process = process
        self._studies = deque(studies)
        self._ready: deque[Analysis] = deque()
        self._settings = settings
        self._rows = [rows.skipped_row(skip, settings) for skip in self.skipped]

    def __next__(self) -> Analysis:
        while not self._ready:
            if not self._studies:
                raise StopIteration
            done = self._next_study()
            self._ready.extend(Analysis(image, done, self._settings) for image in done.images)
        return self._ready.popleft()

    def __length_hint__(self) -> int:
        return len(self._ready) + sum(len(study.instances) for study in self._studies)

    def __repr__(self) -> str:
        return f"<Analyses: {len(self._rows)} inputs done, {sum(len(s.instances) for s in self._studies)} left>"

    def to_frame(self) -> pd.DataFrame:
        """Return one line per input, with the columns of ``results.parquet``, in the order of the paths.

        Images without results have theirs. Nothing is written, so ``objects`` and ``exports`` are 0.

        Raises
        ------
        CxrDicomError
            If pandas is not installed, or the pipeline is closed before all is done.
        """
        frames.expect_pandas()
        while self._studies:
            self._next_study()
        return frames.frame(sorted(self._rows, key=lambda row: (row["path"], row["sop_instance_uid"] or "")))

    def _next_study(self) -> StudyAnalysis:
        """Analyse a study; one that is interrupted is begun again the next time."""
        study = self._studies[0]
        try:
            done = self._process(study)
        except CxrDicomError:
            raise
        except Exception as error:  # one bad study never stops the others
            telemetry.failure("study", error, study_instance_uid=study.study_instance_uid)
            done = _failed(study, telemetry.safe_description(error))
        self._studies.popleft()
        self.skipped.extend(done.skipped)
        self._rows.extend(unwritten_rows(done, self._settings))
        return done


def _settings(models: Models | None, settings: SettingsLike | None) -> Settings:
    """Bring together what was given; what ``models`` says counts most."""
    if isinstance(settings, Settings) and models is None:
        return settings
    path = Path(settings) if isinstance(settings, str | os.PathLike) else None
    tables: dict[str, Any] = {}
    if isinstance(settings, Settings):
        tables = settings.model_dump()
    elif isinstance(settings, Mapping):
        tables = dict(settings)
    elif settings is not None and path is None:
        accepted = "Settings, the path of a settings file or tables of it"
        raise TypeError(f"settings: expected {accepted}, got {type(settings).__name__}")
    if isinstance(models, str):
        models = [models]
    if models is not None:
        if not isinstance(models, Sequence):
            raise TypeError(f"models: expected names, got {type(models).__name__}")
        table = tables.get("models", {})
        tables["models"] = {**table, "names": list(models)} if isinstance(table, Mapping) else table
    return load(path, tables)


@contextmanager
def _as_path(image: PathLike | InMemory) -> Iterator[Path]:
    if not isinstance(image, str | os.PathLike):
        with as_file(image) as path:
            yield path
        return
    if Path(image).is_dir():
        raise ImageError(Reason.UNREADABLE, "expected a file, found a folder, which `analyse_all` takes")
    yield Path(image)


def _study(path: Path) -> Study:
    instance = read_instance(path)
    if instance is None:
        raise ImageError(Reason.WRONG_SOP_CLASS, "expected an image, found a DICOMDIR, which `analyse_all` takes")
    return Study(study_instance_uid=instance.study_instance_uid, instances=(instance,))


def _error(skipped: Skipped) -> CxrDicomError:
    """Say as an error why an image has no result."""
    if skipped.outcome is Outcome.SKIPPED:
        return ImageError(skipped.reason, skipped.detail)
    if skipped.reason is Reason.MODEL_FAILED:
        return ModelError(skipped.detail)
    return CxrDicomError(f"{skipped.reason}: {skipped.detail}")


def _failed(study: Study, detail: str) -> StudyAnalysis:
    skipped = tuple(
        Skipped(
            path=instance.path, reason=Reason.INTERNAL_ERROR, detail=detail, outcome=Outcome.FAILED, instance=instance
        )
        for instance in study.instances
    )
    return StudyAnalysis(study_instance_uid=study.study_instance_uid, images=(), skipped=skipped)
