"""Stored pixel data to model input: decode, undo the storage, scale, turn.

``intensity = "xrv"`` gives what ``torchxrayvision.utils.read_xray_dcm`` gives, to the bit, where
that function works at all (unsigned pixels without a Modality LUT).
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.encaps import get_frame
from pydicom.multival import MultiValue
from pydicom.pixels.decoders.base import Decoder, get_decoder
from pydicom.pixels.processing import apply_rescale, apply_windowing
from pydicom.uid import RLELossless

from cxr_dicom.config import PixelSettings, SelectSettings
from cxr_dicom.dicom.files import PARSING_ERRORS, read_whole
from cxr_dicom.errors import ImageError
from cxr_dicom.records import ChestImage, Radiograph, Reason
from cxr_dicom.records.plane import Shape, row_blocks

Array = NDArray[Any]

_FULL_SCALE = 1024  # TorchXRayVision's models expect -1024 to 1024
_FEWEST_GREY_LEVELS = 64
_LEAST_SPAN = 1 / 16  # of the range that Bits Stored allows
_MOST_PIXELS = SelectSettings().max_pixels
_SAMPLED_ROWS = 64  # one in so many is enough to see that a picture has both

_AS_STORED: dict[str, Any] = {"correct_unused_bits": False}  # pydicom's correction ignores High Bit

_FASTEST = {RLELossless: "pylibjpeg"}  # where pydicom would take a slower decoder first: eight times here

_J2K_START = b"\xff\x4f\xff\x51"  # SOC, SIZ (ISO/IEC 15444-1 A.4.1, A.5.1)
_JPEG_START = b"\xff\xd8"  # SOI (ISO/IEC 10918-1 B.1.1.3)
_END_MARKER = b"\xff\xd9"  # EOI, EOC
_LONGEST_PADDING = 64
_JPEG_FRAME_MARKERS = {*range(0xC0, 0xD0), 0xF7} - {0xC4, 0xC8, 0xCC}  # SOF; 0xF7: JPEG-LS


def read(image: ChestImage, settings: PixelSettings) -> Radiograph:
    """Decode the pixels of an eligible image.

    Returns
    -------
    Radiograph
        Pixels in the standard view from -1024 to 1024, bright where the patient is dense.

    Raises
    ------
    ImageError
        ``UNREADABLE`` when the file cannot be read any more, ``UNDECODABLE_TRANSFER_SYNTAX``
        without a decoder, ``CORRUPT_PIXEL_DATA`` when the pixel data are not what the header
        says, ``INVALID_ATTRIBUTES`` when a lookup table or window cannot be applied.
    """
    dataset = read_whole(image.instance.path)
    dataset.PhotometricInterpretation = str(dataset.PhotometricInterpretation).strip().upper()  # as viewers read it
    words = _decode(dataset, image.shape)
    values = _values(words.itemsize, dataset)
    try:
        fractions = _displayed(values, dataset) if settings.intensity == "voi" else _of_full_range(values, dataset)
    except PARSING_ERRORS as error:
        expected = "expected a Modality LUT and a VOI LUT or window that can be applied"
        raise ImageError(Reason.INVALID_ATTRIBUTES, f"{expected}, got {type(error).__name__}") from error
    scaled = (2 * fractions - 1.0) * _FULL_SCALE
    return Radiograph(
        image=image,
        pixels=_looked_up(scaled, image.orientation.to_standard(words)),
        sha256=hashlib.sha256(dataset.PixelData).hexdigest(),
        warnings=tuple(_warnings(dataset, words, values, fractions)),
    )


def is_whole(path: Path) -> bool:
    """Whether the pixels of a file can be decoded, whatever they show; not asked of more than a radiograph has."""
    try:
        dataset = read_whole(path)
        rows, columns = int(dataset.Rows), int(dataset.Columns)
        if rows * columns > _MOST_PIXELS:
            return False
        _decode(dataset, (rows, columns))
    except (ImageError, *PARSING_ERRORS):
        return False
    return True


# --- decode --------------------------------------------------------------------------------------


def _decode(dataset: Dataset, shape: Shape) -> Array:
    """Return the stored words (rows, columns), unsigned, with the bits that are not used."""
    decoder = _decoder(dataset)
    try:
        _expect_codestream_of(shape, dataset)
        plugin = _FASTEST.get(decoder.UID, "")
        pixels, _ = decoder.as_array(dataset, index=0, raw=True, decoding_plugin=plugin, **_AS_STORED)
        _expect_shape(shape, pixels.shape)
        return pixels.view(pixels.dtype.str.replace("i", "u"))
    except (ImageError, KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # decoders are foreign code: a panic of one in Rust is no Exception
        expected = f"expected {shape[0]} x {shape[1]} pixels in {decoder.UID.name}"
        raise ImageError(Reason.CORRUPT_PIXEL_DATA, f"{expected}, got {type(error).__name__}") from error


def _decoder(dataset: Dataset) -> Decoder:
    syntax = dataset.file_meta.TransferSyntaxUID
    try:
        decoder = get_decoder(syntax)
    except NotImplementedError as error:
        raise ImageError(Reason.UNDECODABLE_TRANSFER_SYNTAX, f"no decoder is known for {syntax}") from error
    if not decoder.is_available:
        needed = "; ".join(decoder.missing_dependencies)
        raise ImageError(Reason.UNDECODABLE_TRANSFER_SYNTAX, f"no decoder for {syntax} is installed: {needed}")
    return decoder


def _expect_codestream_of(shape: Shape, dataset: Dataset) -> None:
    """Compare sizes before decoding: a codestream may claim a matrix that fills the memory."""
    if dataset.file_meta.TransferSyntaxUID.is_encapsulated:
        _expect_shape(shape, _codestream_shape(_frame(dataset)) or shape)


def _frame(dataset: Dataset) -> bytes:
    """The one compressed frame, its fragments joined."""
    return get_frame(dataset.PixelData, 0, number_of_frames=1)


def _is_cut_off(dataset: Dataset) -> bool:
    """Whether a codestream lacks the marker at its end; some decoders make up the rest without a word."""
    if not dataset.file_meta.TransferSyntaxUID.is_encapsulated:
        return False
    frame = _frame(dataset)
    return _codestream_shape(frame) is not None and _END_MARKER not in frame[-_LONGEST_PADDING:]


def _codestream_shape(frame: bytes) -> Shape | None:
    """Rows and columns that a JPEG, JPEG-LS or JPEG 2000 codestream states; None for others."""
    start = frame.find(_J2K_START, 0, 1024)  # a few writers put a JP2 header before it
    if start >= 0:
        right, bottom, left, top = struct.unpack_from(">4L", frame, start + 8)
        return bottom - top, right - left
    if not frame.startswith(_JPEG_START):
        return None
    position = len(_JPEG_START)
    while frame[position + 1] not in _JPEG_FRAME_MARKERS:
        position += 2 + int.from_bytes(frame[position + 2 : position + 4], "big")
    rows, columns = struct.unpack_from(">HH", frame, position + 5)
    return rows, columns


def _expect_shape(expected: Shape, found: tuple[int, ...]) -> None:
    if found != expected:
        raise ImageError(Reason.CORRUPT_PIXEL_DATA, f"expected {expected} rows and columns, found {found}")


def _values(size: int, dataset: Dataset) -> Array:
    """The value of every word of ``size`` bytes, signed or unsigned as Pixel Representation says.

    Whatever is done with values is done with these, 2**16 at most, and not with every pixel.
    Bits Stored bits below High Bit count: the others may hold an overlay (PS3.5 8.1.1).
    """
    syntax, width = dataset.file_meta.TransferSyntaxUID, 8 * size
    keeps_bit_positions = not syntax.is_encapsulated or syntax == RLELossless
    high_bit = dataset.HighBit if keeps_bit_positions else dataset.BitsStored - 1
    words = np.arange(2**width, dtype=f"u{size}").view(f"i{size}" if dataset.PixelRepresentation else f"u{size}")
    values: Array = np.right_shift(np.left_shift(words, width - 1 - high_bit), width - dataset.BitsStored)
    return values


# --- scale ---------------------------------------------------------------------------------------


def _of_full_range(stored: Array, dataset: Dataset) -> NDArray[np.float32]:
    """Scale what the storage allows to 0 (air) to 1 (dense), as TorchXRayVision does.

    A linear rescale with a positive slope changes nothing relative to the full range.
    """
    inverted = dataset.PhotometricInterpretation == "MONOCHROME1"
    if dataset.get("ModalityLUTSequence"):
        values, (lowest, highest) = _look_up(stored, dataset.ModalityLUTSequence[0], dataset)
    else:
        values = stored.astype(np.int32)
        lowest = -(2 ** (dataset.BitsStored - 1)) if dataset.PixelRepresentation else 0
        highest = lowest + 2**dataset.BitsStored - 1
        inverted ^= float(dataset.get("RescaleSlope") or 1) < 0
    above = highest - values if inverted else values - lowest
    return above.astype(np.float32) / np.float32(highest - lowest)


def _displayed(stored: Array, dataset: Dataset) -> NDArray[np.float32]:
    """Apply Modality LUT, then VOI LUT or the first window (PS3.4 N.2.1): 0 (air) to 1 (dense)."""
    if dataset.get("ModalityLUTSequence"):
        values, _ = _look_up(stored, dataset.ModalityLUTSequence[0], dataset)
    else:
        values = apply_rescale(stored, dataset)
    if dataset.get("VOILUTSequence"):
        looked_up, (_, highest) = _look_up(np.rint(values), dataset.VOILUTSequence[0], dataset)
        shown = looked_up / highest
    elif dataset.get("WindowWidth") is not None and dataset.get("WindowCenter") is not None:
        shown = _windowed(values, dataset)
    else:
        return _of_full_range(stored, dataset)
    if dataset.PhotometricInterpretation == "MONOCHROME1":
        shown = 1 - shown
    return shown.astype(np.float32)


def _look_up(values: Array, table: Dataset, dataset: Dataset) -> tuple[Array, tuple[int, int]]:
    """Apply a lookup table (PS3.3 C.11.1.1): the result, and the range that it may take.

    pydicom's own functions fail on tables of 12 bits and wrap around in long tables of 8 bits.
    """
    length, first, bits = table.LUTDescriptor
    length = length or 2**16
    data = table.LUTData
    if isinstance(data, bytes):
        data = np.frombuffer(data, "<u2" if dataset.original_encoding[1] else ">u2")
    entries = np.asarray(data, np.int32)[:length]
    index = np.clip(values.astype(np.int32) - first, 0, len(entries) - 1)
    return entries[index], (0, 2**bits - 1)


def _windowed(values: Array, dataset: Dataset) -> Array:
    """Apply the first window; pydicom scales to the full range of the stored bits, here 0 to 1."""
    window = Dataset()
    window.PhotometricInterpretation = "MONOCHROME2"
    window.PixelRepresentation, window.BitsStored = 0, 1
    window.WindowCenter, window.WindowWidth = _first(dataset.WindowCenter), _first(dataset.WindowWidth)
    window.VOILUTFunction = dataset.get("VOILUTFunction") or "LINEAR"
    return apply_windowing(values, window)


def _first(value: Any) -> Any:
    return value[0] if isinstance(value, MultiValue) else value


def _looked_up(values: NDArray[np.float32], words: Array) -> NDArray[np.float32]:
    found = np.empty(words.shape, np.float32)
    for rows in row_blocks(len(words)):
        values.take(words[rows], out=found[rows], mode="wrap")  # no word is beyond: spares looking for one
    return found


# --- judge ---------------------------------------------------------------------------------------


def _warnings(dataset: Dataset, words: Array, values: Array, fractions: NDArray[np.float32]) -> Iterator[str]:
    if _is_cut_off(dataset):
        yield "the compressed pixel data have no end marker: the picture may be incomplete"
    if not any(_range_problems(words[::_SAMPLED_ROWS], values, fractions)):
        return  # more pixels cannot narrow the range
    yield from _range_problems(words, values, fractions)


def _range_problems(words: Array, values: Array, fractions: NDArray[np.float32]) -> Iterator[str]:
    is_found = np.zeros(len(values), bool)
    is_found[words] = True
    found = np.flatnonzero(is_found)
    levels = np.unique(values[found]).size
    if levels < _FEWEST_GREY_LEVELS:
        yield f"low dynamic range: {levels} grey levels, expected {_FEWEST_GREY_LEVELS} or more"
    span = float(np.ptp(fractions[found]))
    if span < _LEAST_SPAN:
        yield f"low dynamic range: {span:.1%} of the possible range is used, expected {_LEAST_SPAN:.1%}"
