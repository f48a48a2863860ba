"""Stored pixel data to model input: decode, undo the storage, scale, turn.

``intensity = "xrv"`` gives what ``torchxrayvision.utils.read_xray_dcm`` gives, to the bit, where
that function works at all (unsigned pixels without a Modality LUT).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.encaps import encapsulate, get_frame
from pydicom.multival import MultiValue
from pydicom.pixels.decoders.base import Decoder, get_decoder
from pydicom.pixels.processing import apply_rescale, apply_windowing
from pydicom.uid import JPEGLSLossless, JPEGLSNearLossless, RLELossless

from cxr_dicom.config import PixelSettings, SelectSettings
from cxr_dicom.dicom import codestream
from cxr_dicom.dicom.files import PARSING_ERRORS, read_whole
from cxr_dicom.errors import ImageError
from cxr_dicom.records import ChestImage, Radiograph, Reason
from cxr_dicom.records.plane import Shape, row_blocks

Array = NDArray[Any]

_FULL_SCALE = 1024  # TorchXRayVision's models expect -1024 to 1024
_FEWEST_GREY_LEVELS = 64
_LEAST_SPAN = 1 / 16  # of the range that Bits Stored allows
_MOST_PIXELS = SelectSettings().max_pixels
_COUNTED_ROWS = 256  # of an image; more do not move a quantile

_AS_STORED: dict[str, Any] = {"correct_unused_bits": False}  # pydicom's correction ignores High Bit

_STRICT = {  # where pydicom would take a decoder that is slower (eight times here), or makes up what is cut off
    RLELossless: "pylibjpeg",
    JPEGLSLossless: "pyjpegls",
    JPEGLSNearLossless: "pyjpegls",
}

_LEAST_QUANTILE, _GREATEST_QUANTILE = 0.005, 0.995  # what a marker or a collimated edge is beyond


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
    decoded = _decode(dataset, image.shape)
    try:
        fractions, done = _fractions(decoded, dataset, settings.intensity)
    except PARSING_ERRORS as error:
        expected = "expected a Modality LUT and a VOI LUT or window that can be applied"
        raise ImageError(Reason.INVALID_ATTRIBUTES, f"{expected}, got {type(error).__name__}") from error
    scaled = (2 * fractions - 1.0) * _FULL_SCALE
    return Radiograph(
        image=image,
        pixels=_looked_up(scaled, image.orientation.to_standard(decoded.words)),
        sha256=hashlib.sha256(dataset.PixelData).hexdigest(),
        warnings=(*_warnings(dataset, decoded), *done),
        window=_window(decoded, dataset, scaled),
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


@dataclass(frozen=True, eq=False)
class _Decoded:
    """The stored words of an image, and where in them a value lies."""

    words: Array  # (rows, columns), unsigned, with the bits that are not used
    bits: int  # that count
    high_bit: int
    is_signed: bool
    range_bits: int  # what the values may use: fewer than `bits` where the header says so and none is beyond

    @property
    def values(self) -> Array:
        """The value of every word, 2**16 at most: whatever is done with values is done with these, not every pixel.

        Only the bits up to the high bit count: the others may hold an overlay (PS3.5 8.1.1).
        """
        size = self.words.itemsize
        width = 8 * size
        words = np.arange(2**width, dtype=f"u{size}").view(f"i{size}" if self.is_signed else f"u{size}")
        values: Array = np.right_shift(np.left_shift(words, width - 1 - self.high_bit), width - self.bits)
        return values

    @cached_property
    def counts(self) -> NDArray[np.intp]:
        """How often each word stands in some of the rows."""
        return np.bincount(self.words[:: max(1, len(self.words) // _COUNTED_ROWS)].ravel())


def _decode(dataset: Dataset, shape: Shape) -> _Decoded:
    """Return the stored words, and where their values lie."""
    decoder = _decoder(dataset)
    try:
        if not decoder.UID.is_encapsulated or RLELossless == decoder.UID:
            words = _decoded_words(decoder, dataset)
            _expect_shape(shape, words.shape)
            bits = int(dataset.BitsStored)
            return _Decoded(words, bits, int(dataset.HighBit), bool(dataset.PixelRepresentation), bits)
        return _decode_stream(decoder, dataset, shape)
    except (ImageError, MemoryError, KeyboardInterrupt, SystemExit):  # a want of memory says nothing of the image
        raise
    except BaseException as error:  # decoders are foreign code: a panic of one in Rust is no Exception
        expected = f"expected {shape[0]} x {shape[1]} pixels in {decoder.UID.name}"
        raise ImageError(Reason.CORRUPT_PIXEL_DATA, f"{expected}, got {type(error).__name__}") from error


def _decode_stream(decoder: Decoder, dataset: Dataset, shape: Shape) -> _Decoded:
    """Decode a JPEG, JPEG-LS or JPEG 2000 code stream, which knows better than the header what it holds."""
    frame = _frame(dataset)
    try:
        stream = codestream.read(frame, decoder.UID)
    except ValueError as error:
        raise ImageError(Reason.CORRUPT_PIXEL_DATA, f"{error} in {decoder.UID.name}") from error
    if stream is None:
        raise ImageError(
            Reason.CORRUPT_PIXEL_DATA, f"expected a code stream in {decoder.UID.name}, found another start"
        )
    _expect_shape(shape, stream.shape)  # before decoding: one may claim a matrix that fills the memory
    if not stream.marker and not codestream.has_end(frame):
        raise ImageError(Reason.CORRUPT_PIXEL_DATA, "expected an end marker of the code stream, found none: cut off")
    module = _image_pixel_module(dataset, stream)

    def decode(content: bytes) -> Array:
        module.PixelData = encapsulate([content])
        return _decoded_words(decoder, module)

    frame = codestream.repaired(frame, stream)
    words = decode(frame)
    _expect_shape(shape, words.shape)
    if not codestream.is_exact(frame, stream, decode, words):
        raise ImageError(Reason.CORRUPT_PIXEL_DATA, "expected data for every pixel and no more, found others: cut off")
    stated = bool(dataset.PixelRepresentation)
    found = _Decoded(words, stream.precision, stream.precision - 1, stated, stream.precision)
    if stream.is_signed not in (None, stated):
        by_stream = replace(found, is_signed=bool(stream.is_signed))
        found = found if 2 * _roughness(found) < _roughness(by_stream) else by_stream
    return replace(found, range_bits=_range_bits(found, int(dataset.BitsStored)))


def _decoded_words(decoder: Decoder, dataset: Dataset) -> Array:
    plugin = _STRICT.get(decoder.UID, "")
    pixels, _ = decoder.as_array(dataset, index=0, raw=True, decoding_plugin=plugin, **_AS_STORED)
    return pixels.view(pixels.dtype.str.replace("i", "u"))


def _image_pixel_module(dataset: Dataset, stream: codestream.Codestream) -> Dataset:
    """Return a data set for the decoder that says of the bits what the code stream says."""
    module = Dataset()
    module.file_meta = dataset.file_meta
    module.Rows, module.Columns, module.SamplesPerPixel = *stream.shape, 1
    module.PhotometricInterpretation = dataset.PhotometricInterpretation
    module.BitsAllocated, module.BitsStored = stream.bits_allocated, stream.precision
    module.HighBit, module.PixelRepresentation = stream.precision - 1, int(bool(stream.is_signed))
    return module


def _roughness(decoded: _Decoded) -> int:
    """How much neighbours differ: a picture that is read with the wrong sign is torn where its values wrap around.

    A few encoders were told the wrong sign, so that the header is right (pydicom's J2K_pixelrep_mismatch).
    """
    return int(np.abs(np.diff(decoded.values.astype(np.int32)[decoded.words], axis=0)).sum(dtype=np.int64))


def _range_bits(decoded: _Decoded, stated: int) -> int:
    """Bits of the range: those of the code stream, or fewer, where the header says so and every value is within."""
    if stated >= decoded.bits:
        return decoded.bits
    values = decoded.values[decoded.words]
    lowest, highest = _range(stated, is_signed=decoded.is_signed)
    return stated if lowest <= values.min() and values.max() <= highest else decoded.bits


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


def _frame(dataset: Dataset) -> bytes:
    """The one compressed frame, its fragments joined."""
    return get_frame(dataset.PixelData, 0, number_of_frames=1)


def _expect_shape(expected: Shape, found: tuple[int, ...]) -> None:
    if found != expected:
        raise ImageError(Reason.CORRUPT_PIXEL_DATA, f"expected {expected} rows and columns, found {found}")


# --- scale ---------------------------------------------------------------------------------------


def _fractions(decoded: _Decoded, dataset: Dataset, intensity: str) -> tuple[NDArray[np.float32], tuple[str, ...]]:
    """Scale every value to 0 (air) to 1 (dense), and say what was done where that was not asked for."""
    full = _of_full_range(decoded, dataset)
    if intensity == "xrv":
        return full, ()
    if intensity == "voi":
        shown = _displayed(decoded, dataset)
        return (full, ()) if shown is None else (shown, ())
    if _quantile_span(decoded.counts, full) >= _LEAST_SPAN:
        return full, ()
    shown = _displayed_if_possible(decoded, dataset)
    if shown is not None and _quantile_span(decoded.counts, shown) >= _LEAST_SPAN:
        return shown, ("pixels.intensity is auto: scaled by the VOI LUT or window of the image",)
    low, high = _quantiles(decoded.counts, full)
    if high <= low:
        return full, ()
    spread = np.clip((full - low) / (high - low), 0, 1).astype(np.float32)
    return spread, (f"pixels.intensity is auto: scaled from the quantiles {_LEAST_QUANTILE} to {_GREATEST_QUANTILE}",)


def _of_full_range(decoded: _Decoded, dataset: Dataset) -> NDArray[np.float32]:
    """Scale what the storage allows to 0 (air) to 1 (dense), as TorchXRayVision does.

    It looks at no Modality LUT or rescale, and a rising one changes nothing relative to the full
    range. A falling one turns bright and dark.
    """
    inverted = dataset.PhotometricInterpretation == "MONOCHROME1"
    if dataset.get("ModalityLUTSequence"):
        entries, _ = _entries(dataset.ModalityLUTSequence[0], dataset)
        inverted ^= bool(entries[0] > entries[-1])
    else:
        inverted ^= float(dataset.get("RescaleSlope") or 1) < 0
    values = decoded.values.astype(np.int32)
    lowest, highest = _range(decoded.range_bits, is_signed=decoded.is_signed)
    above = highest - values if inverted else values - lowest
    fractions: NDArray[np.float32] = np.clip(above.astype(np.float32) / np.float32(highest - lowest), 0, 1)
    return fractions


def _range(bits: int, *, is_signed: bool) -> tuple[int, int]:
    lowest = -(2 ** (bits - 1)) if is_signed else 0
    return lowest, lowest + 2**bits - 1


def _displayed(decoded: _Decoded, dataset: Dataset) -> NDArray[np.float32] | None:
    """Apply Modality LUT, then VOI LUT or the first window (PS3.4 N.2.1): 0 (air) to 1 (dense); None without them."""
    stored = decoded.values
    if dataset.get("ModalityLUTSequence"):
        values, _ = _look_up(stored, dataset.ModalityLUTSequence[0], dataset)
    else:
        values = apply_rescale(stored, dataset)
    if dataset.get("VOILUTSequence"):
        looked_up, highest = _look_up(np.rint(values), dataset.VOILUTSequence[0], dataset)
        shown = looked_up / highest
    elif dataset.get("WindowWidth") is not None and dataset.get("WindowCenter") is not None:
        shown = _windowed(values, dataset)
    else:
        return None
    if dataset.PhotometricInterpretation == "MONOCHROME1":
        shown = 1 - shown
    return np.clip(shown, 0, 1).astype(np.float32)


def _displayed_if_possible(decoded: _Decoded, dataset: Dataset) -> NDArray[np.float32] | None:
    try:
        return _displayed(decoded, dataset)
    except PARSING_ERRORS:
        return None  # a window that cannot be applied is no reason where nobody asked for it


def _window(
    decoded: _Decoded, dataset: Dataset, scaled: NDArray[np.float32]
) -> tuple[NDArray[np.float32], NDArray[np.float32]] | None:
    """What the VOI LUT or window shows of each scaled value; None without one, and for one that shows nothing."""
    shown = _displayed_if_possible(decoded, dataset)
    if shown is None or _quantile_span(decoded.counts, shown) < _LEAST_SPAN:
        return None
    values, first = np.unique(scaled, return_index=True)
    return values, shown[first]


def _quantile_span(counts: NDArray[np.intp], fractions: NDArray[np.float32]) -> float:
    low, high = _quantiles(counts, fractions)
    return high - low


def _quantiles(counts: NDArray[np.intp], fractions: NDArray[np.float32]) -> tuple[float, float]:
    """Two quantiles of the fractions of words, each as often as it was counted: those of `numpy.quantile`."""
    words = np.flatnonzero(counts)
    rising = words[np.argsort(fractions[words], kind="stable")]  # mostly are so, or fall
    upto = np.cumsum(counts[rising])

    def quantile(share: float) -> float:
        rank, part = divmod(share * (upto[-1] - 1), 1)
        around = rising[np.searchsorted(upto, (rank, min(rank + 1, upto[-1] - 1)), side="right")]
        return float(np.quantile(fractions[around], (part,))[0])

    return quantile(_LEAST_QUANTILE), quantile(_GREATEST_QUANTILE)


def _look_up(values: Array, table: Dataset, dataset: Dataset) -> tuple[Array, int]:
    """Apply a lookup table (PS3.3 C.11.1.1): the result, and the greatest value that it may have.

    pydicom's own functions fail on tables of 12 bits and wrap around in long tables of 8 bits.
    """
    entries, bits = _entries(table, dataset)
    index = np.clip(values.astype(np.int32) - table.LUTDescriptor[1], 0, len(entries) - 1)
    return entries[index], 2**bits - 1


def _entries(table: Dataset, dataset: Dataset) -> tuple[Array, int]:
    """Entries of a lookup table, and their bits: fewer than it says, where all of them need fewer."""
    length, _, bits = table.LUTDescriptor
    data = table.LUTData
    if isinstance(data, bytes):
        data = np.frombuffer(data, "<u2" if dataset.original_encoding[1] else ">u2")
    entries = np.asarray(data, np.int32)[: length or 2**16]
    return entries, min(bits, max(int(entries.max()).bit_length(), 1))


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


def _warnings(dataset: Dataset, decoded: _Decoded) -> Iterator[str]:
    if dataset.file_meta.TransferSyntaxUID.is_encapsulated and dataset.file_meta.TransferSyntaxUID != RLELossless:
        if not codestream.has_end(_frame(dataset)):
            yield "the compressed pixel data have no end marker, but data for every pixel"
        if (decoded.range_bits, decoded.is_signed) != (int(dataset.BitsStored), bool(dataset.PixelRepresentation)):
            found = f"{decoded.bits} bits, {'signed' if decoded.is_signed else 'unsigned'}"
            yield f"Bits Stored, High Bit or Pixel Representation contradict the code stream, which has {found}"
    fractions = _of_full_range(decoded, dataset)
    levels = np.unique(decoded.values[np.flatnonzero(decoded.counts)]).size
    if levels < _FEWEST_GREY_LEVELS:
        levels = np.unique(decoded.values[np.unique(decoded.words)]).size  # more pixels may have more
    if levels < _FEWEST_GREY_LEVELS:
        yield f"low dynamic range: {levels} grey levels, expected {_FEWEST_GREY_LEVELS} or more"
    span = _quantile_span(decoded.counts, fractions)
    if span < _LEAST_SPAN:
        yield f"low dynamic range: {span:.1%} of the possible range is used, expected {_LEAST_SPAN:.1%}"
