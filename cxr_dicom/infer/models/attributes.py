"""``view``, ``age``, ``sex`` and ``race``: what a radiograph gives away beside findings.

``view`` distinguishes frontal from lateral. The others are for audit: is a classifier fair to a group, is
an image filed under the wrong patient? They run only when named, are measurements and never
findings, and must not be used to diagnose or to decide about a person.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cxr_dicom.config import Settings
from cxr_dicom.dicom.codes import private
from cxr_dicom.infer import weights
from cxr_dicom.infer.backend import on_backend
from cxr_dicom.infer.base import Model
from cxr_dicom.infer.device import choose, running
from cxr_dicom.infer.segmenter import imagenet
from cxr_dicom.infer.torchscript import read
from cxr_dicom.infer.weights.pickles import read_state
from cxr_dicom.records import Code, Measurement, ModelInfo, Prediction, Radiograph

if TYPE_CHECKING:
    import torch

_NOT_STATED = "not stated by its authors"
_PROBABILITY = Code(value="1", scheme="UCUM", meaning="no units")
_YEAR = Code(value="a", scheme="UCUM", meaning="year")


def _info(name: str, title: str, predicts: tuple[str, ...], size: int, file: str, **who: str) -> ModelInfo:
    return ModelInfo(
        name=name,
        version="1",
        title=title,
        predicts=predicts,
        input_size=size,
        weights_file=file,
        weights_url=weights.RELEASE + file,
        manufacturer=who["manufacturer"],
        licence=who["licence"],
        citation=who["citation"],
        trained_on=who.get("trained_on", ""),
        failures=("For audit. It reads what an image gives away, and may be wrong about any one person.",)
        if name != "view"
        else (),
    )


MODELS = (
    _info(
        "view",
        "Frontal or lateral, ResNet-50",
        ("view_frontal", "view_lateral"),
        224,
        "xinario_chestViewSplit_resnet-50.pt",
        manufacturer="Xin Yi",
        licence=_NOT_STATED,
        citation="https://github.com/xinario/chestViewSplit",
    ),
    _info(
        "age",
        "Age of the patient, SENet-154; for audit, not for diagnosis",
        ("apparent_age",),
        320,
        "baseline_models_riken_xray_age_every_model_age_senet154_v2_tl_26_ft_7_fp32.pt",
        manufacturer="RIKEN",
        licence="Apache-2.0",
        citation=(
            "Ieki et al. Deep learning-based age estimation from chest X-rays indicates cardiovascular prognosis. "
            "Communications Medicine 2022. https://doi.org/10.1038/s43856-022-00220-6"
        ),
    ),
    _info(
        "sex",
        "Sex of the patient, ResNet-34; for audit, not for diagnosis",
        ("apparent_sex_male", "apparent_sex_female"),
        224,
        "mira_sex_resnet-all_epoch_13-step_7125.ckpt",
        manufacturer="Imperial College London, MIRA",
        licence=_NOT_STATED,
        citation=(
            "Glocker et al. Algorithmic encoding of protected characteristics in chest X-ray disease detection models. "
            "eBioMedicine 2023. https://doi.org/10.1016/j.ebiom.2023.104467"
        ),
    ),
    _info(
        "race",
        "Race as recorded in MIMIC-CXR, ResNet-34; for audit, not for diagnosis",
        ("apparent_race_asian", "apparent_race_black", "apparent_race_white"),
        320,
        "resnet_race_detection_val-loss_0.157_mimic_public.pt",
        manufacturer="Emory University, HITI Lab",
        licence=_NOT_STATED,
        citation=(
            "Gichoya et al. AI recognition of patient race in medical imaging: a modelling study. "
            "The Lancet Digital Health 2022. https://doi.org/10.1016/S2589-7500(22)00063-2"
        ),
        trained_on="MIMIC-CXR",
    ),
)

CODES: Mapping[str, Code] = {
    "view_frontal": private("VIEW_FRONTAL", "Probability of a frontal view"),
    "view_lateral": private("VIEW_LATERAL", "Probability of a lateral view"),
    "apparent_age": private("APPARENT_AGE", "Apparent age of the patient"),
    "apparent_sex_male": private("APPARENT_MALE", "Probability of apparent sex male"),
    "apparent_sex_female": private("APPARENT_FEMALE", "Probability of apparent sex female"),
    "apparent_race_asian": private("APPARENT_ASIAN", "Probability of apparent race Asian"),
    "apparent_race_black": private("APPARENT_BLACK", "Probability of apparent race Black"),
    "apparent_race_white": private("APPARENT_WHITE", "Probability of apparent race White"),
}


@dataclass(frozen=True, kw_only=True, eq=False)
class Attribute:
    """A network that gives one number for each name it predicts."""

    info: ModelInfo
    network: Callable[[torch.Tensor], torch.Tensor]  # (1, 1, size, size), -1024 to 1024 -> (n,)
    device: str

    def predict(self, radiograph: Radiograph, earlier: Sequence[Prediction]) -> Prediction:
        """Measure, and say nothing of findings."""
        with running(self.info, radiograph, self.device) as (pixels, _):
            values = self.network(pixels).tolist()
        measurements = tuple(
            Measurement(
                name=name,
                code=CODES[name],
                value=value,
                unit=_YEAR if name == "apparent_age" else _PROBABILITY,
                method=self.info.title,
            )
            for name, value in zip(self.info.predicts, values, strict=True)
        )
        return Prediction(model=self.info, measurements=measurements)

    def close(self) -> None:
        """Nothing to give back but the memory of the network, which goes with this object."""


def build(name: str, settings: Settings) -> Model:
    """Load the network ``name``."""
    info = next(info for info in MODELS if info.name == name)
    device = choose(settings.models)
    make = {"view": _view, "age": _age, "sex": _sex, "race": _race}[name]
    network, lock = make(info, settings, device)
    compute, info = on_backend(network, weights.identified(info, lock), settings)
    return Attribute(info=info, network=compute, device=device)


def _view(info: ModelInfo, settings: Settings, device: str) -> tuple[Callable[[Any], Any], weights.Lock]:
    from torchvision.models import resnet50

    network, lock = _filled(resnet50, info, settings, device)
    classes = len(info.predicts)  # the other outputs are left from ImageNet
    return lambda pixels: network(imagenet(pixels))[0, :classes].softmax(dim=0), lock


def _age(info: ModelInfo, settings: Settings, device: str) -> tuple[Callable[[Any], Any], weights.Lock]:

    lock = weights.verify(info, settings, None)
    network = read(weights.source_path(info, settings), device, weights.identified(info, lock))
    return lambda pixels: network(imagenet(pixels)).flatten(), lock


def _sex(info: ModelInfo, settings: Settings, device: str) -> tuple[Callable[[Any], Any], weights.Lock]:
    from torchvision.models import resnet34

    network, lock = _filled(lambda: resnet34(num_classes=len(info.predicts)), info, settings, device, "model.")
    return lambda pixels: network(((pixels + 1024) / 2048 * 255).repeat(1, 3, 1, 1))[0].softmax(dim=0), lock


def _race(info: ModelInfo, settings: Settings, device: str) -> tuple[Callable[[Any], Any], weights.Lock]:
    import torch
    from torchvision.models import resnet34

    def make() -> Any:
        network = resnet34()
        network.fc = torch.nn.Sequential(torch.nn.Linear(512, len(info.predicts)), torch.nn.LogSoftmax(dim=1))
        return network

    network, lock = _filled(make, info, settings, device, "module.")
    return lambda pixels: network(imagenet(pixels))[0].exp(), lock


def _filled(
    make: Callable[[], Any], info: ModelInfo, settings: Settings, device: str, prefix: str = ""
) -> tuple[Any, weights.Lock]:
    """Make a network, and fill it with the tensors of a checkpoint whose names begin with ``prefix``."""
    import torch

    upstream = weights.Upstream(
        state=lambda path: {key.removeprefix(prefix): tensor for key, tensor in read_state(path).items()},
        targets=info.predicts,
    )
    tensors, lock = weights.load(info, settings, upstream)
    with torch.device("meta"):
        network = make()
    weights.fill(network, tensors, device)
    return network, lock
