"""Whether models and encoders load and work here."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import psutil

from cxr_dicom import synthetic
from cxr_dicom.config import Settings
from cxr_dicom.config.routes import DEFAULT
from cxr_dicom.dicom.pixels import read
from cxr_dicom.encode import build_encoders
from cxr_dicom.infer import build_models, resolve
from cxr_dicom.ingest.folder import scan
from cxr_dicom.records import Prediction, Radiograph
from cxr_dicom.select import select
from cxr_dicom.service.checks.answer import Check, ok, tried, warning
from cxr_dicom.system import confinement


def check(settings: Settings) -> Iterator[Check]:
    """Load each model and let it see a synthetic radiograph, for weights take their memory when they are used."""
    ways = {"encode.objects": settings, **{f"routes.{name}.objects": each for name, each in settings.by_route.items()}}
    tried_objects = set()
    for key, each in ways.items():
        way = each.decided(service=True)
        if way.encode.objects not in tried_objects:
            tried_objects.add(way.encode.objects)
            yield tried(key, partial(_encoders, way))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "radiograph.dcm"
        synthetic.radiograph(1024, 1024).save_as(path, enforce_file_format=True)
        (study,), _ = scan([path])
        radiograph = read(
            select(study, settings.select.model_copy(update={"max_pixels": 1 << 20})).images[0], settings.pixels
        )
    if settings.models.own:
        said = f"the process that runs their networks {confinement.words()}"
        yield ok("models.own", said) if confinement.version() else warning("models.own", said)
    found: dict[tuple[str, ...], list[Prediction]] = {}  # by the models that ran, in their order
    for route, each in {DEFAULT: settings, **settings.by_route}.items():
        names = resolve(each)
        earlier: list[Prediction] = []
        for number, name in enumerate(names, start=1):
            ran = names[:number]
            if ran not in found:
                key = "models.names" if route == DEFAULT else f"routes.{route}.models"
                yield tried(f"{key}: {name}", partial(_model, name, settings, radiograph, earlier))
                found[ran] = list(earlier)
            earlier = list(found[ran])


def _encoders(settings: Settings) -> str:
    return f"{len(build_encoders(settings))} kinds of objects"


def _model(name: str, settings: Settings, radiograph: Radiograph, earlier: list[Prediction]) -> str:
    import torch  # noqa: F401  its own memory is no model's

    before = _peak_memory_mb()
    only = settings.models.model_copy(update={"names": (name,)})
    (model,) = build_models(settings.model_copy(update={"models": only}))
    earlier.append(model.predict(radiograph, earlier))
    model.close()
    return f"works; {_peak_memory_mb() - before:.0f} MB of memory more, {_peak_memory_mb():.0f} MB in all"


def _peak_memory_mb() -> float:
    """Greatest resident set of this process so far."""
    try:
        import resource
    except ImportError:  # Windows, where psutil knows the peak
        now = psutil.Process().memory_info()
        return getattr(now, "peak_wset", now.rss) / 1e6
    unit = 1 if sys.platform == "darwin" else 1024  # of ru_maxrss, in bytes
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6
