"""``cxr-dicom models add``: look into a file, ask what it does not say, try it, and write its table."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cxr_dicom.cli import Refused
from cxr_dicom.cli._asked import Asked
from cxr_dicom.cli._options import OutputFile, refusals
from cxr_dicom.cli._own_output import ACTIVATIONS, COORDINATES, FORMATS, KINDS, LAYOUTS, output_table

if TYPE_CHECKING:
    from cxr_dicom.cli._own_trial import Trial
    from cxr_dicom.config import Settings
    from cxr_dicom.infer.own.look import Facts, Output

_ARCHITECTURES = ("densenet121", "resnet50", "pspnet", "unet")
_OPTIONAL = ("mean", "std", "fit", "resize", "intensity", "transposed")  # of `input`, in its order


class _Numbers(click.ParamType[list[float]]):
    """Numbers with commas between them."""

    name = "numbers"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> list[float]:
        """Return the numbers."""
        try:
            return [float(part) for part in str(value).replace(",", " ").split()] if isinstance(value, str) else value
        except ValueError:
            self.fail(f"expected numbers with commas between them, got {value!r}", param, ctx)


@click.command()
@click.argument("file", type=click.Path(exists=True, path_type=Path))
@click.option("--config", type=click.Path(dir_okay=False, path_type=Path), help="Settings file that gets the table.")
@click.option("--name", help="Its name in models.names; default: made from the file's.")
@click.option("--size", type=click.IntRange(16, 4096), help="Rows and columns of its input.")
@click.option("--channels", type=click.Choice(["1", "3"]), help="Channels of its input.")
@click.option("--range", "range_", type=_Numbers(), metavar="BLACK,WHITE", help="What black and white become: 0,1.")
@click.option("--mean", type=_Numbers(), metavar="NUMBER,...", help="Of each channel, subtracted.")
@click.option("--std", type=_Numbers(), metavar="NUMBER,...", help="Of each channel, divided by.")
@click.option("--fit", type=click.Choice(["crop", "pad", "stretch"]), help="How an image becomes a square.")
@click.option("--resize", type=click.Choice(["bilinear", "bicubic", "nearest"]), help="Interpolation.")
@click.option("--intensity", type=click.Choice(["xrv", "voi", "image"]), help="How grey values are read.")
@click.option("--transposed", is_flag=True, default=None, help="It sees columns as rows, as MONAI reads pictures.")
@click.option("--kind", type=click.Choice(KINDS), help="What it gives.")
@click.option("--activation", type=click.Choice(ACTIVATIONS), help="What makes probabilities of that.")
@click.option("--labels", metavar="NAME[=POINT],...", help="Its outputs in their order, with operating points.")
@click.option("--unit", metavar="UCUM", help="Of values.")
@click.option("--tensor", metavar="NAME", help="Its output, where it has several; of boxes BOXES,SCORES,LABELS.")
@click.option("--layout", type=click.Choice(LAYOUTS), help="Of boxes: three outputs, or rows with a label or with all.")
@click.option("--box-format", type=click.Choice(FORMATS), help="Of boxes: corners, or centre and size.")
@click.option("--coordinates", type=click.Choice(COORDINATES), help="Of boxes: pixels of the input, or 0 to 1.")
@click.option("--width", type=click.IntRange(1, 16_384), help="How many numbers an embedding has.")
@click.option("--architecture", type=click.Choice(_ARCHITECTURES), help="Of a .safetensors file.")
@click.option("--licence", help="Under which it may be used.")
@click.option("--citation", help="Who made it: a paper, or a name.")
@click.option("--metadata-only", is_flag=True, help="Of a MONAI bundle: leave its configs alone, code in them too.")
@click.option("--radiograph", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="Try it on this one.")
@click.option("--picture", type=OutputFile(), help="What it found there, PNG; default: NAME.png.")
def add(file: Path, config: Path | None, **given: Any) -> None:
    """Make a model of FILE: ONNX, TorchScript, safetensors, or a MONAI bundle (folder or ZIP).

    FILE is looked into, by the checks of a run, and not run. On a terminal you are asked what it does not say;
    elsewhere the options say it. Then it is tried on the radiograph of the demo, and its table goes to the end of
    the settings file, or to the screen.
    """
    from cxr_dicom.infer.own import table

    confine(file, config, given["picture"])
    with refusals(), _writing(), warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # torch says of TorchScript that it is old
        asked = Asked(given)
        facts = _looked(file, asked)
        name = given["name"] or facts.name
        if config is not None:
            table.expect_free(config, name)
        click.echo("\n".join(_told(facts)), err=True)
        about = _table(name, facts, asked, file)
        asked.expect_all(file)
        checked = table.checked(about)
        picture = given["picture"] or Path(f"{name}.png")
        trial = _tried(config, about, facts, given["radiograph"], picture)
        written = table.text(about, f"{len(facts.content)} bytes")
        if config is not None:
            table.append(config, written)
    _show(trial, picture)
    if config is None:
        click.echo(f"\n{written}", nl=False)
    else:
        click.echo(f"{config}: has the table of {checked.name}; --models auto,{checked.name} runs it")


@contextmanager
def _writing() -> Iterator[None]:
    """End the command with one line where a file cannot be written."""
    try:
        yield
    except OSError as error:
        raise Refused(f"{error.filename or 'a file'}: {error.strerror or type(error).__name__}") from error


def confine(file: Path, config: Path | None, picture: Path | None) -> None:
    """Let this process write only where the answer goes, whatever is in the file (see `system.confinement`)."""
    import tempfile

    from cxr_dicom.system import confinement

    places = [picture or Path("here"), *([config.resolve()] if config else []), *([file] if file.is_file() else [])]
    folders = (next(folder for folder in place.absolute().parents if folder.is_dir()) for place in places)
    confinement.confine([Path(tempfile.gettempdir()), *folders])


def _looked(file: Path, asked: Asked) -> Facts:
    """Look into a file; once more when its input is known, for then the sizes of its outputs are."""
    from cxr_dicom.infer.own.look import look

    def once(size: int | None, channels: int | None) -> Facts:
        return look(
            file,
            size=size,
            channels=channels,
            architecture=asked.given["architecture"],
            metadata_only=asked.given["metadata_only"],
        )

    channels = int(asked.given["channels"]) if asked.given["channels"] else None
    facts = once(asked.given["size"], channels)
    if facts.size and facts.channels:
        return facts
    size = asked.need("size", facts.size, "rows and columns of its input", convert=int)
    channels = asked.need("channels", facts.channels, "channels of its input, 1 or 3", convert=int)
    return once(size, channels) if size and channels else facts


def _table(name: str, facts: Facts, asked: Asked, file: Path) -> dict[str, Any]:
    """Make the table, of what the file says and of what was asked."""
    given: dict[str, Any] = {
        "size": asked.optional("size") or facts.size,
        "range": asked.need("range", facts.range, "what black and white become, two numbers", convert=_two),
        "channels": int(asked.optional("channels") or facts.channels or 1),
    }
    given |= facts.input
    given |= {key: value for key in _OPTIONAL if (value := asked.optional(key)) is not None}
    architecture = {"architecture": facts.architecture} if facts.architecture else {}
    return {
        "name": name,
        "file": facts.place or file.absolute().with_name(facts.network),
        **architecture,
        "sha256": facts.sha256,
        "input": given,
        "output": output_table(facts, asked),
        "licence": asked.need("licence", facts.licence, "licence under which it may be used"),
        "citation": asked.need("citation", facts.citation, "who made it: a paper, or a name"),
        **({"title": facts.title} if facts.title else {}),
    }


def _two(text: str) -> list[float]:
    numbers = [float(part) for part in text.replace(",", " ").split()]
    if len(numbers) != 2:
        raise ValueError(f"expected two numbers, got {len(numbers)}")
    return numbers


def _tried(config: Path | None, about: Mapping[str, Any], facts: Facts, source: Path | None, picture: Path) -> Trial:
    """Run it as a run would; a network of an archive gets its place first, and loses it where it fails."""
    from cxr_dicom.cli._own_trial import tried
    from cxr_dicom.errors import SettingsError
    from cxr_dicom.system import atomic

    place: Path = about["file"]
    is_new = facts.place is None and not place.exists()
    if is_new:
        with atomic.open_bytes(place, atomic.FILE_OF_ALL) as written:
            written.write(facts.content)
    elif facts.place is None and place.read_bytes() != facts.content:
        raise SettingsError(f"{place}: is there already, with something else")
    try:
        return tried(_settings(config, about), source, picture)
    except BaseException:
        if is_new:
            place.unlink(missing_ok=True)
        raise


def _settings(config: Path | None, about: Mapping[str, Any]) -> Settings:
    from cxr_dicom.config import load

    return load(config, {"models": {"names": (about["name"],), "own": [dict(about)]}})


def _told(facts: Facts) -> list[str]:
    """Say in a few lines what is in the file."""
    size = f"{facts.size} x {facts.size}" if facts.size else "any size"
    outputs = ", ".join(_output_words(output) for output in facts.outputs)
    return [
        f"{facts.network!a}: {facts.format}, {len(facts.content)} bytes, SHA-256 {facts.sha256}",
        f"  input: {facts.channels or 'any'} x {size}; outputs: {outputs}",
        *(f"  {note}" for note in facts.notes),
    ]


def _output_words(output: Output) -> str:
    shape = "" if output.shape is None else " x ".join("any" if side is None else str(side) for side in output.shape)
    end = f", ends in {output.ends_in}" if output.ends_in else ""
    return f"{ascii(output.name)[1:-1][:80]} ({shape or 'not known before it runs'}{end})"


def _show(trial: Trial, picture: Path) -> None:
    click.echo(f"tried on {trial.radiograph}:")
    for line in trial.lines:
        click.echo(f"  {line}")
    for doubt in trial.doubts:
        click.echo(f"  DOUBTFUL: {doubt}")
    click.echo(f"  picture: {picture}")
