"""The pipeline of a service with routes: one for each, with models that all of them share."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from cxr_dicom.config import Settings
from cxr_dicom.infer import build_models, resolve, running
from cxr_dicom.infer.base import Model
from cxr_dicom.pipeline import Pipeline
from cxr_dicom.records import Study, StudyResult
from cxr_dicom.service.routes import Router


class RoutedPipeline:
    """Processes the images of a study that take one route together, as a study of their own.

    No object speaks of what goes another way. Whose the images are is compared across all routes.

    Raises
    ------
    SettingsError, WeightsError
        As `Pipeline`, for any route that an image can take.
    """

    def __init__(self, settings: Settings) -> None:
        by_route = {name: each.decided(service=True) for name, each in settings.by_route.items()}
        names = running(settings)
        loaded = build_models(settings, names) if names else []
        models = {model.info.name: model for model in loaded}
        made: dict[object, Pipeline] = {}  # most routes differ in destinations only
        self._router = Router(settings.routes)
        self._loaded = loaded
        self._pipelines: dict[str, Pipeline] = {}
        for route, each in by_route.items():
            same = (each.models.names, each.encode.objects)
            if same not in made:
                made[same] = Pipeline(each, models=[models[name] for name in resolve(each)])
            self._pipelines[route] = made[same]

    @property
    def models(self) -> Sequence[Model]:
        """The models of all routes."""
        return self._loaded

    def job_key(self, study: Study) -> str:
        """Identify what a result depends on, the parts of a study together."""
        parts = self._router.parts(study).items()
        keys = sorted(self._pipelines[route].job_key(part) for route, part in parts)
        return keys[0] if len(keys) == 1 else hashlib.sha256(repr(keys).encode()).hexdigest()

    def process(self, study: Study, folder: Path) -> StudyResult:
        """Process each part, and say of each image which route it took."""
        seconds: dict[str, float] = {}
        instances = []
        for route, part in self._router.parts(study).items():
            result = self._pipelines[route].process(part, folder)
            instances += [replace(instance, route=route) for instance in result.instances]
            for stage, taken in result.seconds.items():
                seconds[stage] = seconds.get(stage, 0.0) + taken
        return StudyResult(
            study_instance_uid=study.study_instance_uid,
            job_key=self.job_key(study),
            instances=tuple(instances),
            seconds=seconds,
        )

    def close(self) -> None:
        """Give the models' memory back."""
        while self._loaded:
            self._loaded.pop().close()
