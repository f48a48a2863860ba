"""What `pytest tests/integration --update-screenshots` writes into ``docs``."""

from PIL import Image

from tests import ROOT

DOCS = ROOT / "docs" / "viewers.md"
_IMAGES = DOCS.parent / "images"
_BEGIN, _END = "<!-- from the tests -->\n", "<!-- end -->\n"
_PICTURED = {  # visit and kind, name of the picture
    ("rg1-spaced", "segmentation"): "ohif-segmentation.png",
    ("rg1-spaced", "measurement_report"): "ohif-measurements.png",
    ("rg1-spaced", "structure_report"): "ohif-structures.png",
    ("rg1-spaced", "findings_report"): "ohif-findings.png",
    ("rg1-spaced-map", "parametric_map"): "ohif-parametric-map.png",
}
_STUDIES = {
    "rg1": "RG1, Pixel Spacing 0\\0",
    "rg1-spaced": "RG1 with Pixel Spacing",
    "dx": "synthetic DX",
    "dx-two-views": "synthetic DX after a lateral view in its series",
}
_OBJECTS = {
    "test_segmentation_lies_on_the_structures": "Segmentation",
    "test_measurement_lines_load_with_their_lengths": "Measurement report",
    "test_outlines_load_with_their_areas": "Structure report",
    "test_findings_report_shows_as_text": "Findings report",
    "test_parametric_map_of_one_spot_is_warm_there": "Parametric Map",
    "test_parametric_map_of_the_lungs_colours_the_lungs": "Parametric Map",
    "test_secondary_capture_shows": "Secondary Capture",
}


def cell(record_property, text):
    """Note what a test saw, for the table."""
    record_property("cell", text)


def write_screenshots(folder):
    """Copy the pictures of the guide, in 128 colours."""
    _IMAGES.mkdir(parents=True, exist_ok=True)
    for (visit, kind), name in _PICTURED.items():
        with Image.open(folder / f"{visit}-{kind}.png") as picture:
            picture.convert("RGB").quantize(128).save(_IMAGES / name, optimize=True)


def write_table(outcomes):
    """Replace the table of the guide by what these outcomes say."""
    cells = {}
    for item, report in outcomes:
        params = item.callspec.params
        if item.originalname in _OBJECTS:
            key = _OBJECTS[item.originalname], params["name"]
            cells.setdefault(key, {})[params["seen"]] = _cell(report)
    versions = sorted({version for row in cells.values() for version in row})
    lines = [
        f"| object | radiograph | {' | '.join(f'OHIF {version}' for version in versions)} |",
        "|---" * (2 + len(versions)) + "|",
    ]
    for kind in dict.fromkeys(_OBJECTS.values()):
        for study, title in _STUDIES.items():
            if row := cells.get((kind, study)):
                lines.append(f"| {kind} | {title} | {' | '.join(row.get(version, '') for version in versions)} |")
    before, _, rest = DOCS.read_text(encoding="utf-8").partition(_BEGIN)
    _, _, after = rest.partition(_END)
    DOCS.write_text(before + _BEGIN + "\n".join(lines) + "\n" + _END + after, encoding="utf-8")


def _cell(report):
    said = dict(report.user_properties).get("cell", "")
    if report.passed:
        return f"yes: {said}"
    return f"no: {report.wasxfail}" if hasattr(report, "wasxfail") else f"no {said}".strip()
