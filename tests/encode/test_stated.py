"""Objects do not depend on the last bits of a processor; calls and results keep all of theirs."""

import json
import os
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch

from cxr_dicom import synthetic
from cxr_dicom.encode import stated
from cxr_dicom.records import Presence, SiteOperatingPoint
from tests import ROOT, instruction_set, painted

OLD = {"ATEN_CPU_CAPABILITY": "default", "ONEDNN_MAX_CPU_ISA": "SSE41", "OMP_NUM_THREADS": "2"}


def test_another_instruction_set_and_more_threads_give_other_scores_and_the_same_objects(tmp_path):
    if torch.backends.cpu.get_cpu_capability() == "DEFAULT":
        pytest.skip("this processor has one instruction set")
    line = [sys.executable, "-m", "tests.instruction_set", tmp_path / "old"]
    environment = {**os.environ, **OLD, "PYTHONPATH": str(ROOT)}
    old = subprocess.run(line, env=environment, stdout=subprocess.PIPE, check=True, timeout=300)
    here, there = instruction_set.outcome(tmp_path / "here"), json.loads(old.stdout)
    assert here["scores"] != there["scores"]
    assert here["scores"] == pytest.approx(there["scores"], abs=5e-6)
    assert here["objects"] == there["objects"]
    assert len(here["objects"]) == 7


@pytest.mark.parametrize(
    ("value", "expected"),
    [(0, 0), (1, 1), (0.60225236, 0.602), (0.00224904, 0.00225), (0.9996412, 0.999641), (0.5, 0.5), (1e-9, 1e-9)],
)
def test_a_score_has_three_digits_of_itself_or_of_what_it_lacks_to_one(value, expected):
    assert stated.score(value) == expected


def test_a_score_stays_on_its_side_of_what_it_was_compared_with():
    random = np.random.default_rng(5)
    points = random.uniform(0.001, 0.999, 4000)
    for point, step in zip(points, random.normal(0, 1e-3, len(points)), strict=True):
        value = float(np.clip(point + step, 0.0005, 0.9995))
        for given in (value, float(point)):
            said = stated.score(given, float(point))
            assert (said >= point) == (given >= point), (given, point)
            assert said == pytest.approx(given, rel=0.01)


def test_what_networks_gave_is_rounded_and_what_outlines_gave_is_not(selected):
    image = selected(synthetic.radiograph(96, 80))
    site = SiteOperatingPoint(sha256="0" * 64, upstream=0.2, probability=0.123456)
    (finding, *_) = (scores := painted.scores(image)).findings
    odd = replace(finding, raw=0.2004321, probability=0.4996, call=Presence.ABSENT, site_point=site)
    (number, *_) = scores.measurements
    boxes = painted.boxes(image)
    (box, *_) = boxes.detections
    given = painted.study(
        painted.analysis(
            image,
            (
                painted.anatomy(image),
                replace(scores, findings=(odd,), measurements=(replace(number, value=63.27612),)),
                replace(boxes, detections=(replace(box, score=0.87512, box=(1.00000012, 2.126, 3.5, 4.0)),)),
            ),
        )
    )
    anatomy, scored, boxed = stated.stated(given).images[0].predictions
    assert anatomy.measurements == given.images[0].predictions[0].measurements
    (said,) = scored.findings
    assert (said.raw, said.probability, said.site_point.probability, said.call) == (0.2, 0.499, 0.123, odd.call)
    assert scored.measurements[0].value == 63.28
    assert (boxed.detections[0].score, boxed.detections[0].box) == (0.875, (1.0, 2.13, 3.5, 4.0))
