"""Rows of a cohort that never was: as many as wanted, alike in every run, with what real archives do wrong."""

import random
from collections.abc import Iterator
from math import exp, log

FINDINGS = (
    ("atelectasis", 0.28, 0.07),
    ("cardiomegaly", 0.2, 0.1),
    ("consolidation", 0.18, 0.04),
    ("edema", 0.16, 0.02),
    ("effusion", 0.3, 0.1),
    ("emphysema", 0.12, 0.01),
    ("fibrosis", 0.2, 0.03),
    ("fracture", 0.25, 0.2),
    ("hernia", 0.04, None),
    ("lung_opacity", 0.36, 0.3),
    ("nodule", 0.24, 0.14),
    ("pneumonia", 0.2, 0.05),
    ("pneumothorax", 0.14, 0.09),
)
SECOND = ("cardiomegaly", "effusion", "pneumothorax")
REFUSED = (
    ("NOT_FRONTAL", "skipped", "View Position is LL", 0.12),
    ("WRONG_SOP_CLASS", "skipped", "expected a CR or a DX image for presentation, found Secondary Capture", 0.03),
    ("NOT_CHEST", "skipped", "Body Part Examined is KNEE", 0.02),
    ("FOR_PROCESSING", "skipped", "Presentation Intent Type is FOR PROCESSING", 0.015),
    ("NOT_A_CHEST_CONTENT", "skipped", "right lung covers 0.0% of the image, expected 1% to 50%", 0.006),
    ("CORRUPT_PIXEL_DATA", "skipped", "expected 163840 bytes of Pixel Data, found 100", 0.002),
    ("NOT_DICOM", "skipped", "expected 'DICM' at byte 128, found a PDF document", 0.004),
    ("MODEL_FAILED", "failed", "OutOfMemoryError", 0.001),
    ("WORKER_DIED", "failed", "its worker process died three times", 0.0005),
)
FIRST_MODEL, SECOND_MODEL = "xrv-densenet121-all", "xrv-resnet50-all"
ANATOMY, SECOND_ANATOMY = "chestx-det", "offline-anatomy"
HOSTILE = "</script><script>alert('x')</script>"  # in a text that a header or a setting may hold
RUN = {
    "package_version": "9.9",
    "models": [{"name": "chestx-det", "version": "1", "weights_sha256": "ab" * 32}],
    "settings": {"select": {"no_lungs": HOSTILE}, "models": {"folder": "/home/doe", "device": "cpu"}, "listener": {}},
    "settings_digest": "d1" * 32,
    "manifest": {"kind": "table", "digest": "aa" * 32, "entries": 3},
    "totals": {"studies": 12_345, "objects": 6},
    "engine": {"name": "local", "workers": 2, "devices": ["cpu", "cuda:0"]},
    "platform": {"system": "Linux", "machine": "x86_64"},
    "sessions": [
        {"started": "2026-01-01T00:00:00Z", "seconds": 10, "images": 40, "studies": 4, "timeline": [[0, 0], [10, 40]]},
        {
            "started": "2026-01-02T00:00:00Z",
            "seconds": 30,
            "images": 30,
            "studies": 3,
            "timeline": [[10, 20], [30, 30]],
            "ended": None,
            "stopped_by": None,
        },
    ],
    "seconds_per_stage": {"read": 1.0, "encode": 3.0},
}


def rows(number: int, seed: int = 1) -> Iterator[dict]:
    """Yield the same rows at each call."""
    dice = random.Random(seed)
    for _ in range(number):
        yield _row(dice)


def processed(**changes) -> dict:
    """One row with results."""
    return _with_results(random.Random(1), _blank(random.Random(1))) | changes


def skipped(reason: str, **changes) -> dict:
    """One row of an image that was refused."""
    emptied = {"content": None, "measurements": {}, "scores": {}}
    return processed() | {"outcome": "skipped", "reason": reason} | emptied | changes


def with_ratio(value: float | None, **changes) -> dict:
    """One row with this cardiothoracic ratio."""
    row = processed(**changes)
    row["measurements"]["cardiothoracic_ratio"]["value"] = value
    return row


def scored(probability: float, call: str, point: float | None = 0.3, model: str = "one") -> dict:
    """One score."""
    return {"probability": probability, "raw": probability, "operating_point": point, "call": call, "model": model}


def failed() -> dict:
    """One row of an image on which a model broke."""
    return _blank(random.Random("failed")) | {
        "outcome": "failed",
        "reason": "MODEL_FAILED",
        "detail": "OutOfMemoryError",
    }


def _row(dice: random.Random) -> dict:
    row, chance = _blank(dice), dice.random()
    for reason, outcome, detail, probability in REFUSED:
        chance -= probability
        if chance < 0:
            return row | _refused(dice, reason, outcome, detail)
    return _with_results(dice, row)


def _content(dice: random.Random) -> str:
    return dice.choices(("as_declared", "turned_90", "mirrored", "inverted"), (990, 4, 4, 2))[0]


def _refused(dice: random.Random, reason: str, outcome: str, detail: str) -> dict:
    changes = {"outcome": outcome, "reason": reason, "detail": detail}
    if reason == "NOT_DICOM":
        changes |= dict.fromkeys(("study_instance_uid", "series_instance_uid", "sop_instance_uid"))
    if reason == "NOT_A_CHEST_CONTENT":
        changes |= {"modality": "CR", "rows": 2500, "columns": 2048}
        changes |= {"body_part_examined": dice.choice(["CHEST", "CHEST", "THORAX", None])}
    return changes


def _blank(dice: random.Random) -> dict:
    study, series, instance = (f"2.25.{dice.getrandbits(124)}" for _ in range(3))
    return {
        "path": f"archive/DOE^JANE/{instance[-6:]}.dcm",
        "study_instance_uid": study,
        "series_instance_uid": series,
        "sop_instance_uid": instance,
        "outcome": "processed",
        "reason": None,
        "detail": "",
        "view": None,
        "modality": None,
        "body_part_examined": None,
        "view_position": None,
        "rows": None,
        "columns": None,
        "spacing_mm": None,
        "patient_age_years": None,
        "patient_sex": None,
        "manufacturer": None,
        "sender": None,
        "models": [],
        "scores": {},
        "measurements": {},
        "statements": {},
        "boxes": {},
        "detections": {},
        "objects": [],
        "exports": [],
        "content": None,
        "warnings": [],
        "seconds": {},
        "geometry": "viewer",
        "settings_digest": "d1" * 32,
        "package_version": "0.1.0",
    }


def _with_results(dice: random.Random, row: dict) -> dict:
    view = dice.choices(["PA", "AP", None], [70, 22, 8])[0]
    age = min(90, max(0, round(dice.gauss(60 if view == "AP" else 54, 18))))
    sex = dice.choices(["F", "M", "O", None], [47, 50, 0.5, 2.5])[0]
    part = dice.choices(["CHEST", "THORAX", None, "CHEST PORTABLE", "UNKNOWN"], [80, 8, 8, 3, 1])[0]
    illness = max(0.0, dice.gauss(0, 1))
    return row | {
        "view": view,
        "modality": dice.choices(["DX", "CR"], [70, 30])[0],
        "body_part_examined": part,
        "view_position": view,
        "rows": 2500,
        "columns": 2048,
        "spacing_mm": [0.14, 0.14],
        "patient_age_years": age if sex else None,
        "patient_sex": sex,
        "manufacturer": "Maker A" if part == "CHEST" else "Maker B",
        "sender": "ER" if view == "AP" else "WARD",
        "models": [
            {"name": ANATOMY, "version": "1", "weights_sha256": "ab" * 32},
            {"name": SECOND_ANATOMY, "version": "1", "weights_sha256": "cd" * 32},
            {"name": FIRST_MODEL, "version": "1.2", "weights_sha256": "ef" * 32},
            {"name": SECOND_MODEL, "version": "1.2", "weights_sha256": "01" * 32},
        ],
        "scores": _scores(dice, illness),
        **_measured(dice, view, age, sex),
        "objects": [_object(dice, row, kind) for kind in ("segmentation", "measurement_report", "findings_report")],
        "content": _content(random.Random(row["sop_instance_uid"])),  # of its own: the others stay as they were
        "warnings": _warnings(dice, part, view),
        "seconds": {
            stage: round(dice.lognormvariate(0, 0.2) * typical, 3)
            for stage, typical in (
                ("read", 0.09),
                (ANATOMY, 0.34),
                ("measure", 0.03),
                (FIRST_MODEL, 0.12),
                ("select", 0.01),
                ("encode", 0.21),
            )
        },
    }


def _warnings(dice: random.Random, part: str | None, view: str | None) -> list[str]:
    found = []
    if part in (None, "UNKNOWN"):
        found.append("no attribute names the part of the body: taken for a chest")
    if view is None:
        found.append("no attribute names the view: taken for frontal")
    if dice.random() < 0.01:
        found.append(f"Pixel Data has {dice.randrange(2, 900)} bytes more than Rows and Columns say")
    return found


def _scores(dice: random.Random, illness: float) -> dict:
    scores = {}
    for name, point, prevalence in FINDINGS:
        probability = _squeezed(dice.gauss(-1.9 + 0.5 * illness, 0.9) + 4 * (prevalence or 0.05))
        scores[name] = _score(FIRST_MODEL, probability, point if prevalence is not None else None)
        if name in SECOND:
            other = _squeezed(log(probability / (1 - probability)) + dice.gauss(-0.1, 0.4))
            scores[f"{name}__{SECOND_MODEL.replace('-', '_')}"] = _score(SECOND_MODEL, other, point)
    return scores


def _squeezed(value: float) -> float:
    return 1 / (1 + exp(-value))


def _score(model: str, probability: float, point: float | None) -> dict:
    call = "indeterminate" if point is None else "present" if probability > 0.5 else "absent"
    raw = probability * 2 * (point or 0.5) if probability < 0.5 else 1 - (1 - probability) * 2 * (1 - (point or 0.5))
    return {"probability": probability, "raw": raw, "operating_point": point, "call": call, "model": model}


def _measured(dice: random.Random, view: str | None, age: int, sex: str | None) -> dict:
    ratio = dice.gauss(
        0.435 + 0.0011 * (age - 50) + (0.015 if sex == "F" else 0) + (0.05 if view == "AP" else 0), 0.042
    )
    right, left = dice.gauss(17500, 3200), dice.gauss(15200, 3000)
    if dice.random() < 0.01:
        left *= dice.uniform(0.15, 0.6)
    measurements = {
        "cardiothoracic_ratio": _measurement("Cardiothoracic ratio", ratio, "{ratio}"),
        "cardiothoracic_ratio__offline_anatomy": _measurement(
            "Cardiothoracic ratio", ratio + dice.gauss(0.006, 0.018), "{ratio}", model=SECOND_ANATOMY
        ),
        "right_lung_area": _measurement("Area", max(right, 900), "mm2", "Lung", "Right"),
        "left_lung_area": _measurement("Area", max(left, 900), "mm2", "Lung", "Left"),
    }
    call = "indeterminate" if view != "PA" else "present" if ratio > 0.5 else "absent"
    return {
        "measurements": measurements,
        "statements": {
            "cardiothoracic_ratio_above_limit": {
                "meaning": "Cardiothoracic ratio above limit",
                "call": call,
                "rule": "Cardiothoracic ratio above 0.5 on a PA radiograph of an adult.",
                "measurement": "cardiothoracic_ratio",
                "model": ANATOMY,
            }
        },
        "boxes": {
            "heart": {"box": [700, 1200, 700 + round(2000 * ratio), 1900], "model": ANATOMY},
            "right_lung": {"box": [150, 200, 950, 1900], "model": ANATOMY},
        },
    }


def _measurement(meaning: str, value: float, unit: str, site=None, laterality=None, model: str = ANATOMY) -> dict:
    return {
        "value": value,
        "unit": unit,
        "meaning": meaning,
        "site": site,
        "laterality": laterality,
        "points": [],
        "method": "as in the paper",
        "reason": "",
        "model": model,
    }


def _object(dice: random.Random, row: dict, kind: str) -> dict:
    uid = f"2.25.{dice.getrandbits(124)}"
    return {
        "path": f"{row['study_instance_uid']}/{uid}.dcm",
        "kind": kind,
        "sop_class_uid": "1.2.840.10008.5.1.4.1.1.66.4",
        "sop_instance_uid": uid,
        "series_instance_uid": f"{uid}.1",
    }
