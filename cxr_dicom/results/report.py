"""Rows and pictures to one self-contained HTML page: no network, no script, no patient data.

The page names images by UID and by their line in ``results.jsonl``; file names stay out of it,
because archives put names of patients into them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from cxr_dicom import __version__, pictures
from cxr_dicom.dicom.codes import WRAPPER
from cxr_dicom.dicom.files import values
from cxr_dicom.infer import model_infos
from cxr_dicom.pictures import INFERNO, RGB, Colour, Grey, Line
from cxr_dicom.records import Detection, ImageAnalysis, ModelInfo, Outcome, Prediction, Presence, SpacingSource
from cxr_dicom.results import pages
from cxr_dicom.results.schema import MeasurementRow, Row
from cxr_dicom.system import atomic

Figure = dict[str, Any]
FiguresOf = Callable[[Row], list[Figure]]

CLASSIFIER = "xrv-densenet121-all"  # the model that a report without finding scores points to

COLOUR_MAP = ", ".join(f"rgb{colour}" for colour in INFERNO)  # in CSS, from 0 to 1

_RADIOGRAPH = "Radiograph"  # title of the first picture
_THUMBNAIL = 192  # pixels on the longer side
_LINE_COLOURS: tuple[RGB, ...] = ((255, 255, 255), (255, 214, 10), (64, 224, 255), (255, 128, 171))


def figures(analysis: ImageAnalysis) -> list[Figure]:
    """Draw the radiograph, the anatomy of each model that outlines, the boxes of each that finds any, every heatmap.

    Returns
    -------
    list of dict
        ``title``, ``model``, ``source`` (a ``data:`` URI), ``note``, ``legend`` (name and colour), ``is_heat``, and
        ``layer``: another URI, of what the picture shows besides the radiograph; empty for the radiograph itself.
        The radiograph has ``hanging``, too: how it is turned, and its marks.
    """
    if analysis.preview is None:
        return []
    return list(_draw(_Hanging(analysis), analysis, analysis.preview()))


def thumbnail(analysis: ImageAnalysis) -> list[Figure]:
    """Draw one small picture: the radiograph with the anatomy of the first model that outlines."""
    if analysis.preview is None:
        return []
    small = analysis.preview(_THUMBNAIL)
    masks = next((prediction.masks for prediction in analysis.predictions if prediction.masks), ())
    return [_figure("Anatomy", pictures.hung(pictures.overlay(small, masks), analysis.image.orientation))]


def is_drawn(figures: Sequence[Figure]) -> bool:
    """Whether these are the pictures of `figures`, and not one small one."""
    return any(figure["title"] == _RADIOGRAPH for figure in figures)


def write(path: Path, rows: Sequence[Row], figures_of: FiguresOf, infos: Mapping[str, ModelInfo] | None = None) -> None:
    """Write the page for the rows of a run, whose models are described by ``infos``; default: those installed."""
    numbered = list(enumerate(rows, start=1))
    processed = [row for row in rows if row["outcome"] == Outcome.PROCESSED]
    page = pages.template("report.html.jinja").stream(
        package_version=__version__,
        settings_digests=sorted({row["settings_digest"] for row in rows}),
        geometries=sorted({row["geometry"] for row in rows}),
        counts={str(outcome): sum(row["outcome"] == outcome for row in rows) for outcome in Outcome},
        object_count=len({object_row["path"] for row in rows for object_row in row["objects"]}),
        models=_models(processed, infos),
        has_scores=any(row["scores"] for row in processed),
        classifier=CLASSIFIER,
        colour_map=COLOUR_MAP,
        images=[described(row, line) for line, row in numbered if row["outcome"] == Outcome.PROCESSED],
        figures_of=lambda row: _arranged(figures_of(row)),
        others=[{**row, "line": line} for line, row in numbered if row["outcome"] != Outcome.PROCESSED],
    )
    with atomic.open_text(path) as file:
        file.writelines(page)


class _Hanging:
    """How the pictures of one image hang: in the standard view, the right marked, with a bar of 5 cm."""

    def __init__(self, analysis: ImageAnalysis) -> None:
        image = analysis.image
        stated = {str(direction).strip().upper()[:1] for direction in values(image.header, "PatientOrientation")}
        is_made_up = values(image.header, "Manufacturer") == [WRAPPER]
        self._marks_right = bool(stated & {"L", "R"} and stated & {"H", "F"}) and not is_made_up
        self._orientation, self._shape = image.orientation, image.shape
        self._spacing = image.spacing

    def layer(self, draw: Callable[[Grey], Colour], preview: Grey) -> str:
        """Return what is drawn on a preview, turned like it, without the preview and without marks."""
        made = pictures.layer(draw, (preview.shape[0], preview.shape[1]))
        return pictures.data_uri(pictures.hung(made, self._orientation))

    def framed(self, preview: Grey, detections: Sequence[Detection]) -> tuple[Colour, str]:
        """Return the picture with boxes, whose labels are upright however it is stored; and the boxes as a layer."""
        shape = self._shape[::-1] if self._orientation.transpose else self._shape
        boxes = [(self._upright(each), each.label) for each in detections]
        hung = pictures.hung(preview, self._orientation)
        layer = pictures.layer(lambda grey: pictures.framed(grey, boxes, shape), (hung.shape[0], hung.shape[1]))
        return self._marked(pictures.framed(hung, boxes, shape)), pictures.data_uri(layer)

    def _upright(self, detection: Detection) -> pictures.Extent:
        left, top, right, bottom = detection.box
        (x0, y0), (x1, y1) = self._orientation.points_to_standard([(left, top), (right, bottom)], self._shape)
        return min(x0, x1), min(y0, y1), max(x0, x1), max(y0, y1)

    @property
    def _width_mm(self) -> float | None:
        """Of a picture that hangs; None where it is not known."""
        columns = self._shape[0] if self._orientation.transpose else self._shape[1]
        spacing = self._spacing.rows_mm if self._orientation.transpose else self._spacing.columns_mm
        return spacing * columns if self._spacing.is_physical else None

    @property
    def _where(self) -> str:
        return "at the detector" if self._spacing.source is SpacingSource.IMAGER_PIXEL_SPACING else ""

    def facts(self) -> dict[str, Any]:
        """Return what is needed to hang and mark other pictures of the image in the same way."""
        return {
            "turn": [self._orientation.transpose, self._orientation.flip_rows, self._orientation.flip_columns],
            "marks_right": self._marks_right,
            "width_mm": self._width_mm,
            "where": self._where,
        }

    def __call__(self, picture: Grey | Colour) -> Colour:
        """Turn and mark a picture of the stored matrix."""
        return self._marked(pictures.hung(picture, self._orientation))

    def _marked(self, hung: Colour) -> Colour:
        width_mm = self._width_mm
        pixel_mm = width_mm / hung.shape[1] if width_mm else None
        return pictures.annotated(hung, marks_right=self._marks_right, pixel_mm=pixel_mm, where=self._where)


def _draw(hang: _Hanging, analysis: ImageAnalysis, preview: Grey) -> Iterator[Figure]:
    yield {**_figure(_RADIOGRAPH, hang(preview)), "hanging": hang.facts()}
    for prediction in analysis.predictions:
        if prediction.masks:
            yield _anatomy(hang, prediction, preview)
    for prediction in analysis.predictions:
        if prediction.detections:
            picture, layer = hang.framed(preview, prediction.detections)
            yield _figure("Boxes", picture, model=prediction.model.name, layer=layer)
    for prediction in analysis.predictions:
        for heatmap in prediction.heatmaps:
            heat = pictures.heated(preview.shape[:2], heatmap, analysis.image.shape)
            draw = partial(pictures.stained, stains=[heat])
            yield _figure(
                heatmap.title,
                hang(draw(preview)),
                model=prediction.model.name,
                layer=hang.layer(draw, preview),
                note=heatmap.definition,
                is_heat=True,
            )


def _anatomy(hang: _Hanging, prediction: Prediction, preview: Grey) -> Figure:
    masks = sorted(prediction.masks, key=lambda mask: -mask.region.area)  # small ones on top
    measured = [m for m in prediction.measurements if len(m.points) == 2]
    drawn = [Line(m.points, colour) for m, colour in zip(measured, _LINE_COLOURS, strict=False)]

    outlines = list(pictures.outlined(preview.shape[:2], masks))

    def draw(preview: Grey) -> Colour:
        picture = pictures.stained(preview, outlines)
        return pictures.lines(picture, drawn, masks[0].region.shape) if drawn else picture

    return _figure(
        "Anatomy",
        hang(draw(preview)),
        model=prediction.model.name,
        layer=hang.layer(draw, preview),
        legend=[
            *({"name": mask.structure.title, "colour": _css(mask.structure.colour)} for mask in prediction.masks),
            *(
                {"name": m.code.meaning, "colour": _css(line.colour), "is_line": True}
                for m, line in zip(measured, drawn, strict=False)
            ),
        ],
    )


def _figure(
    title: str,
    picture: Grey | Colour,
    *,
    model: str = "",
    layer: str = "",
    note: str = "",
    legend: Sequence[dict[str, Any]] = (),
    is_heat: bool = False,
) -> Figure:
    return {
        "title": title,
        "model": model,
        "source": pictures.data_uri(picture),
        "layer": layer,
        "note": note,
        "legend": list(legend),
        "is_heat": is_heat,
    }


def _arranged(figures: Sequence[Figure]) -> dict[str, list[Any]]:
    """Separate many heatmaps, which are shown small, from the rest; give what explains several only once."""
    heatmaps = [figure for figure in figures if figure["is_heat"]]
    main = [figure for figure in figures if len(heatmaps) == 1 or not figure["is_heat"]]
    return {
        "main": main,
        "heatmaps": heatmaps if len(heatmaps) > 1 else [],
        "notes": list(dict.fromkeys((figure["model"], figure["note"]) for figure in heatmaps)),
    }


def described(row: Row, line: int) -> dict[str, Any]:
    """Return a row with what ``image.html.jinja`` says of it: numbers in groups, scores by rank."""
    ratio = row["measurements"].get("cardiothoracic_ratio")
    present = [name for name, score in row["scores"].items() if score["call"] == Presence.PRESENT]
    return {
        **row,
        "line": line,
        "ratio": ratio["value"] if ratio else None,
        "present": present,
        "measured": _grouped(row["measurements"].values()),
        "ranked": sorted(row["scores"].items(), key=lambda item: -item[1]["probability"]),
    }


def _grouped(measurements: Iterable[MeasurementRow]) -> list[tuple[str, list[MeasurementRow]]]:
    """Bring together what one model measured by one method, in the order of the first of each."""
    groups: dict[str, list[MeasurementRow]] = {}
    for measurement in measurements:
        how = "; ".join(text.rstrip(".") for text in (measurement["model"], measurement["method"]) if text)
        groups.setdefault(how, []).append(measurement)
    return list(groups.items())


def _models(rows: Sequence[Row], infos: Mapping[str, ModelInfo] | None) -> list[dict[str, Any]]:
    infos = model_infos() if infos is None else infos
    ran = {(m["name"], m["version"], m["weights_sha256"]): m for row in rows for m in row["models"]}
    return [{**model, "info": infos.get(model["name"])} for model in ran.values()]


def _css(colour: RGB) -> str:
    return "#{:02x}{:02x}{:02x}".format(*colour)
