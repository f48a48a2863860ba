"""The spine: a study is selected, its images are inferred and measured, and the results are encoded.

Every way in ends here: `run`, the listener, the poller, a cohort and a notebook. Data moves one way,
and nothing of one image can stop another.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache, cached_property, partial
from pathlib import Path
from time import perf_counter

from cxr_dicom import __version__
from cxr_dicom.config import Settings
from cxr_dicom.dicom.pixels import read
from cxr_dicom.encode import build_encoders, schemes
from cxr_dicom.encode.base import Encoded, Encoder
from cxr_dicom.encode.common import write
from cxr_dicom.encode.shared import sharing
from cxr_dicom.encode.stated import stated
from cxr_dicom.errors import EncodingError, ImageError, ModelError, PlaceError
from cxr_dicom.gate import admit
from cxr_dicom.infer import build_models, strangers
from cxr_dicom.infer.base import Model
from cxr_dicom.measure import measure
from cxr_dicom.pictures import preview
from cxr_dicom.records import (
    ChestImage,
    EncodedObject,
    ImageAnalysis,
    InstanceResult,
    Outcome,
    Prediction,
    Radiograph,
    Reason,
    Skipped,
    Study,
    StudyAnalysis,
    StudyResult,
)
from cxr_dicom.select import select
from cxr_dicom.system import telemetry, wants, watch
from cxr_dicom.system.digest import sha256


class Pipeline:
    """Models and encoders, loaded once, and the way of a study through them.

    Parameters
    ----------
    names
        Models, where ``auto`` was resolved elsewhere, on a machine that speaks for several; None: as the settings say.
    models
        Those that another pipeline loaded; None: they are loaded here. Without any, no eligible image is processed.

    Raises
    ------
    SettingsError, WeightsError
        If the settings name what does not exist, or weights are missing.
    """

    def __init__(
        self, settings: Settings, names: Sequence[str] | None = None, *, models: Sequence[Model] | None = None
    ) -> None:
        self.settings = settings
        self.models = build_models(settings, names) if models is None else list(models)
        self.encoders = build_encoders(settings)

    def process(self, study: Study, folder: Path) -> StudyResult:
        """Analyse ``study`` and write its objects to ``folder``."""
        clock = Clock()
        analysis = self.analyse(study)
        with clock.stage("encode"):
            objects = self._write(analysis, folder)
        return StudyResult(
            study_instance_uid=study.study_instance_uid,
            job_key=self.job_key(study),
            instances=tuple(results(analysis, objects)),
            seconds={**analysis.seconds, **clock.seconds},
        )

    def analyse(self, study: Study) -> StudyAnalysis:
        """Select what is eligible, predict and measure; nothing is written."""
        clock = Clock()
        with clock.stage("select"):
            selection = select(study, self.settings.select)
        outcomes = [self._analyse(image) for image in selection.images]
        return StudyAnalysis(
            study_instance_uid=study.study_instance_uid,
            images=tuple(outcome for outcome in outcomes if isinstance(outcome, ImageAnalysis)),
            skipped=selection.skipped + tuple(outcome for outcome in outcomes if isinstance(outcome, Skipped)),
            earlier=study.earlier,
            seconds=clock.seconds,
        )

    def job_key(self, study: Study) -> str:
        """Identify what a result depends on: sources, weights, settings, version."""
        sources, beside = (
            sorted((i.sop_instance_uid, i.sha256 or sha256(i.path)) for i in instances)
            for instances in (study.instances, study.beside)
        )
        identified = (sources, self.identity, beside) if beside else (sources, self.identity)
        return hashlib.sha256(repr(identified).encode()).hexdigest()

    @property
    def identity(self) -> tuple[object, ...]:
        """All that a result depends on but the sources."""
        weights = tuple((model.info.name, model.info.version, model.info.weights_sha256) for model in self.models)
        own = weights, self.settings.digest, __version__
        return (*own, self.strangers) if self.strangers else own

    @cached_property
    def strangers(self) -> tuple[tuple[str, str, str, str], ...]:
        """Models and encoders of other packages: seam, name, distribution and version."""
        return strangers(self.settings, [model.info.name for model in self.models])

    def close(self) -> None:
        """Give the models' memory back."""
        while self.models:
            self.models.pop().close()

    def _analyse(self, image: ChestImage) -> ImageAnalysis | Skipped:
        """Infer and measure; an image that cannot be used becomes a reason."""
        if not self.models:
            return _refuse(image, Outcome.SKIPPED, Reason.NO_MODELS, "no model runs on images of this route")
        try:
            return self._infer_and_measure(image)
        except ImageError as error:
            return _refuse(image, Outcome.SKIPPED, error.reason, error.detail)
        except ModelError as error:
            return _refuse(image, Outcome.FAILED, Reason.MODEL_FAILED, str(error))
        except PlaceError:  # no fault of the image
            raise
        except Exception as error:  # one bad file never stops a run; the text may hold patient data, the log does not
            wants.raise_if_lacking(error)
            telemetry.failure("analyse", error, sop_instance_uid=image.instance.sop_instance_uid)
            return _refuse(image, Outcome.FAILED, Reason.INTERNAL_ERROR, telemetry.safe_description(error))

    def _infer_and_measure(self, image: ChestImage) -> ImageAnalysis:
        clock = Clock()
        with clock.stage("read"):
            radiograph = read(image, self.settings.pixels)
        passed = admit(radiograph, self.models, lambda taken: self._predict(taken, clock), self.settings.select)
        taken = passed.radiograph
        return ImageAnalysis(
            image=taken.image,
            pixel_sha256=taken.sha256,
            predictions=passed.predictions,
            content=passed.content,
            preview=cache(  # few look at it
                partial(preview, taken.image.orientation.to_source(taken.pixels), window=taken.window)
            ),
            warnings=image.warnings + radiograph.warnings + passed.warnings,
            seconds=clock.seconds,
        )

    def _predict(self, radiograph: Radiograph, clock: Clock) -> tuple[Prediction, ...]:
        """Let every model see the radiograph, each with what those before it found, and measure."""
        predictions: list[Prediction] = []
        for model in self.models:
            with clock.stage(model.info.name):
                prediction = model.predict(radiograph, predictions)
            with clock.stage("measure"):
                predictions.append(measure(radiograph.image, prediction))
        return tuple(predictions)

    def _write(self, analysis: StudyAnalysis, folder: Path) -> list[EncodedObject] | EncodingError:
        """Write all objects of a study, or none."""
        objects: list[EncodedObject] = []
        try:
            with sharing():
                objects.extend(write(encoded, folder) for encoded in encode(analysis, self.encoders))
        except Exception as error:  # as in _analyse: the study fails, the run goes on
            for written in objects:
                written.path.unlink(missing_ok=True)
            wants.raise_if_lacking(error, folder)
            telemetry.failure("encode", error, study_instance_uid=analysis.study_instance_uid)
            return EncodingError(telemetry.safe_description(error))
        return objects


def encode(study: StudyAnalysis, encoders: Iterable[Encoder]) -> Iterator[Encoded]:
    """Yield the objects of a study, one at a time; none where no image has results."""
    study = stated(study)
    brought = schemes.brought(study)
    for encoded in (encoded for encoder in encoders if study.images for encoded in encoder.encode(study)):
        if brought:
            schemes.declare(encoded.dataset, brought)
        yield encoded


class Clock:
    """Seconds spent per stage."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Add the time of the block to stage ``name``."""
        watch.begin()
        start = perf_counter()
        try:
            yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + perf_counter() - start


def results(study: StudyAnalysis, objects: Sequence[EncodedObject] | EncodingError) -> Iterator[InstanceResult]:
    """Say of each instance of a study what became of it; ``objects`` is an error where none could be made."""
    for analysis in study.images:
        instance = analysis.image.instance
        if isinstance(objects, EncodingError):
            failed = _refuse(analysis.image, Outcome.FAILED, Reason.ENCODING_FAILED, str(objects))
            yield InstanceResult.without(failed)
            continue
        about = tuple(o for o in objects if instance.sop_instance_uid in o.source_sop_instance_uids)
        yield InstanceResult(
            path=instance.path,
            outcome=Outcome.PROCESSED,
            instance=instance,
            image=analysis.image,
            analysis=analysis,
            objects=about,
        )
    yield from map(InstanceResult.without, study.skipped)


def _refuse(image: ChestImage, outcome: Outcome, reason: Reason, detail: str) -> Skipped:
    instance = image.instance
    return Skipped(path=instance.path, reason=reason, detail=detail, outcome=outcome, instance=instance, image=image)
