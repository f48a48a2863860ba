"""What a competent user writes today: TorchXRayVision image by image, highdicom called as its manual shows.

The same outputs as ours: findings with a class activation map of the top one, 14 structures, and of
these a segmentation, a parametric map and a structured report for each image.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import highdicom as hd
import numpy as np
import torch
import torchxrayvision as xrv
from pydicom import Dataset, dcmread
from pydicom.sr.codedict import codes
from pydicom.uid import generate_uid

from benchmarks._networks import SEGMENTER, Clocked, anatomy

FINDINGS = xrv.models.DenseNet.targets
STRUCTURES = xrv.baseline_models.chestx_det.PSPNet.targets


class Loop:
    """The body of the loop, with the networks loaded; a quick run has only the classifier."""

    def __init__(self, weights: Path, out: Path, models: Sequence[str]) -> None:
        self.out = out
        self.segments = SEGMENTER in models
        self.classifier = xrv.models.DenseNet(weights="densenet121-res224-all", cache_dir=str(weights))
        self.classifier.features.forward = Clocked(self.classifier.features.forward)
        if self.segments:
            self.segmenter = xrv.baseline_models.chestx_det.PSPNet(cache_dir=str(weights))
            self.segmenter.model.forward = Clocked(self.segmenter.model.forward, anatomy(512))
        self.crop = xrv.datasets.XRayCenterCrop()
        self.resize = xrv.datasets.XRayResizer(224)

    def __call__(self, path: Path) -> None:
        """Process one image."""
        source = dcmread(path)
        picture = xrv.utils.read_xray_dcm(path)[None]
        square = self.crop(picture)
        scores, heatmap = self.classify(square)
        geometry = with_geometry(source)
        name = source.SOPInstanceUID
        if self.segments:
            masks = uncropped(self.segment(square), source)
            segmentation(geometry, masks).save_as(self.out / f"{name}.seg.dcm")
        parametric_map(geometry, uncropped(heatmap[None], source)[0]).save_as(self.out / f"{name}.pm.dcm")
        report(source, scores).save_as(self.out / f"{name}.sr.dcm")

    def classify(self, square: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Score the findings; map the top one by Grad-CAM on the last feature map."""
        pixels = torch.from_numpy(self.resize(square).astype(np.float32))[None].requires_grad_()
        features = self.classifier.features(pixels)
        scores = self.classifier.classifier(features.relu().mean((2, 3))).sigmoid()[0]
        (gradient,) = torch.autograd.grad(scores.max(), features)
        activation = (gradient.mean((2, 3), keepdim=True) * features).sum(1, keepdim=True).relu()
        activation = activation / activation.max().clamp(min=1e-9)
        heatmap = torch.nn.functional.interpolate(activation, square.shape[1:], mode="bilinear")
        return scores.detach().numpy(), heatmap[0, 0].detach().numpy()

    def segment(self, square: np.ndarray) -> np.ndarray:
        """Outline the structures."""
        with torch.inference_mode():
            probabilities = self.segmenter(torch.from_numpy(square)[None]).sigmoid()
            enlarged = torch.nn.functional.interpolate(probabilities, square.shape[1:], mode="bilinear")
        return enlarged[0].numpy() > 0.5


def uncropped(planes: np.ndarray, source: Dataset) -> np.ndarray:
    """Put planes of the central square back onto the source matrix."""
    side = planes.shape[1]
    top, left = (source.Rows - side) // 2, (source.Columns - side) // 2
    full = np.zeros((len(planes), source.Rows, source.Columns), planes.dtype)
    full[:, top : top + side, left : left + side] = planes
    return full


def with_geometry(source: Dataset) -> Dataset:
    """Add what highdicom asks of a source and a radiograph does not have."""
    copied = copy.deepcopy(source)
    copied.FrameOfReferenceUID, copied.PositionReferenceIndicator = generate_uid(), ""
    copied.ImagePositionPatient, copied.ImageOrientationPatient = [0, 0, 0], [1, 0, 0, 0, 1, 0]
    copied.SliceThickness, copied.PixelSpacing = 1.0, [0.2, 0.2]
    return copied


def identity(number: int) -> dict[str, Any]:
    """Name a new object and who made it."""
    return {
        "series_instance_uid": generate_uid(),
        "series_number": number,
        "sop_instance_uid": generate_uid(),
        "instance_number": 1,
        "manufacturer": "by hand",
        "manufacturer_model_name": "by hand",
        "software_versions": "1",
        "device_serial_number": "1",
    }


def segmentation(source: Dataset, masks: np.ndarray) -> Dataset:
    """One BINARY segment for each structure that was found."""
    algorithm = hd.AlgorithmIdentificationSequence("by hand", codes.DCM.ArtificialIntelligence, "1")
    found = [number for number, mask in enumerate(masks) if mask.any()]
    described = [
        hd.seg.SegmentDescription(
            segment_number=number,
            segment_label=STRUCTURES[index],
            segmented_property_category=codes.SCT.Organ,
            segmented_property_type=codes.SCT.Lung,
            algorithm_type="AUTOMATIC",
            algorithm_identification=algorithm,
        )
        for number, index in enumerate(found, start=1)
    ]
    planes = masks[found].astype(np.uint8).transpose(1, 2, 0)[None]
    return hd.seg.Segmentation([source], planes, "BINARY", described, **identity(100))


def parametric_map(source: Dataset, heatmap: np.ndarray) -> Dataset:
    """The class activation map as 32-bit floats."""
    mapping = hd.pm.RealWorldValueMapping(
        lut_label="cam",
        lut_explanation="class activation",
        unit=codes.UCUM.NoUnits,
        value_range=(0.0, 1.0),
        slope=1.0,
        intercept=0.0,
    )
    return hd.pm.ParametricMap(
        [source],
        heatmap[None],
        contains_recognizable_visual_features=False,
        real_world_value_mappings=[mapping],
        voi_lut_transformations=[hd.VOILUTTransformation(window_center=0.5, window_width=1)],
        **identity(101),
    )


def report(source: Dataset, scores: np.ndarray) -> Dataset:
    """One measurement group for each finding."""
    device = hd.sr.DeviceObserverIdentifyingAttributes(uid=generate_uid())
    observer = hd.sr.ObserverContext(codes.DCM.Device, device)
    groups = [
        hd.sr.MeasurementsAndQualitativeEvaluations(
            tracking_identifier=hd.sr.TrackingIdentifier(uid=generate_uid(), identifier=name),
            source_images=[hd.sr.SourceImageForMeasurementGroup.from_source_image(source)],
            measurements=[
                hd.sr.Measurement(
                    name=hd.sr.CodedConcept("score", "99HAND", name), value=float(score), unit=codes.UCUM.NoUnits
                )
            ],
        )
        for name, score in zip(FINDINGS, scores, strict=True)
    ]
    content = hd.sr.MeasurementReport(
        observation_context=hd.sr.ObservationContext(observer_device_context=observer),
        procedure_reported=hd.sr.CodedConcept("399208008", "SCT", "Plain X-ray of chest"),
        imaging_measurements=groups,
    )
    named = {key: value for key, value in identity(102).items() if key.endswith(("uid", "number"))}
    named.pop("device_serial_number")
    return hd.sr.ComprehensiveSR([source], content, manufacturer="by hand", is_complete=True, **named)
