"""What the content check adds to an image that is plausible as declared, against the anatomy that it rests on."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from time import process_time

from benchmarks._harness import Plan, Row, in_turn, ratios


def measure(plan: Plan) -> Iterator[Row]:
    """Yield the row: processor time, one thread."""
    pairs = plan.apart(compare, plan.repeats, 64 if plan.is_quick else 2048, threads=1)
    yield ratios("content check: time on a plausible image, against offline-anatomy", pairs)


def compare(repeats: int, size: int) -> list[tuple[float, float]]:
    """Measure pairs; a first one, which warms up, does not count."""
    from cxr_dicom import gate, synthetic
    from cxr_dicom.config import Settings
    from cxr_dicom.infer import build_models
    from cxr_dicom.synthetic.contract import read

    models = build_models(Settings.model_validate({"models": {"names": ["offline-anatomy"]}}))
    with TemporaryDirectory() as folder:
        radiograph = read(synthetic.radiograph(size, size), Path(folder))
    predictions = [model.predict(radiograph, ()) for model in models]

    def anatomy() -> float:
        start = process_time()
        models[0].predict(radiograph, ())
        return process_time() - start

    def content() -> float:
        start = process_time()
        gate.judge(radiograph, predictions, models)
        return process_time() - start

    return in_turn(content, anatomy, repeats + 1)[1:]
