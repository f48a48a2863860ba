"""Networks of strangers, exported from PyTorch as people do it, with the tables that describe them."""

import warnings

import torch
from torch import nn

SIZE = 64
ABOUT = {"licence": "MIT", "citation": "nobody"}
IMAGENET = {"channels": 3, "mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}


class Classifier(nn.Module):
    """Convolutions, a global average, a linear layer."""

    def __init__(self, channels=1, outputs=3):
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(channels, 8, 3, 2, 1), nn.ReLU(), nn.Conv2d(8, 16, 3, 2, 1), nn.BatchNorm2d(16), nn.ReLU()
        )
        self.linear = nn.Linear(16, outputs)

    def forward(self, pixels):
        return self.linear(nn.functional.adaptive_avg_pool2d(self.features(pixels), 1).flatten(1))


class Segmenter(nn.Module):
    """Down, and up again."""

    def __init__(self, channels=1, outputs=2):
        super().__init__()
        self.down = nn.Sequential(nn.Conv2d(channels, 8, 5, 2, 2), nn.ReLU(), nn.Conv2d(8, 8, 3, 2, 1), nn.ReLU())
        self.up = nn.ConvTranspose2d(8, outputs, 4, 4)

    def forward(self, pixels):
        return 40 * self.up(self.down(pixels))  # far from one half nearly everywhere


class Brightness(nn.Module):
    """Knows no weights: scores how bright it is, outlines what is bright."""

    def __init__(self, threshold=0.5):
        super().__init__()
        self.threshold = threshold

    def forward(self, pixels):
        return (pixels[:, :1] - self.threshold) * 1000


class Numbers(nn.Module):
    """The number of a structure at each pixel."""

    def forward(self, pixels):
        return (pixels[:, 0] > 0.25).long() + (pixels[:, 0] > 0.5).long()


def made(kind, seed=0, **options):
    torch.manual_seed(seed)
    return kind(**options).eval()


def export(network, path, channels=1, size=SIZE, batch=1, dynamic=False, outputs=("out",)):
    """Write an ONNX file; ``dynamic``: of any batch and size."""
    axes = {"pixels": {0: "images", 2: "rows", 3: "columns"}} if dynamic else None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter itself is old; that it still works is what counts
        torch.onnx.export(
            network,
            (torch.zeros(batch, channels, size, size),),
            str(path),
            dynamo=False,
            input_names=["pixels"],
            output_names=list(outputs),
            dynamic_axes=axes,
        )
    return path


def table(path, output, name="mine", **given):
    """Return a table of ``[[models.own]]`` as TOML would give it."""
    about = {"size": SIZE, "range": (0.0, 1.0), **given}
    return {"name": name, "file": str(path), "input": about, "output": output, **ABOUT}


def scores(*names, activation="sigmoid", point=0.5):
    labels = [{"name": name, "operating_point": point} if name else {"name": name} for name in names]
    return {"kind": "scores", "activation": activation, "labels": labels}


def masks(*names, activation="sigmoid"):
    return {"kind": "masks", "activation": activation, "labels": [{"name": name} for name in names]}


def boxes(*names, labels=None, layout="separate", **given):
    names = given.pop("names", names)
    labels = labels or [{"name": name} for name in names]
    return {"kind": "boxes", "layout": layout, "labels": labels, **given}


class Halves(nn.Module):
    """Outlines the two halves of what it sees."""

    def forward(self, pixels):
        left = torch.cat([pixels[..., :32] * 0 + 1, pixels[..., 32:] * 0], dim=-1)
        return torch.cat([left, 1 - left], dim=1)


class Unsure(nn.Module):
    """Outlines what is bright as the second of three labels, and gives none of them a half."""

    def forward(self, pixels):
        bright = (pixels > 0.5).float()
        return torch.cat([0.45 - 0.1 * bright, 0.35 + 0.07 * bright, 0.2 + 0.03 * bright], dim=1).log()


def fcos():
    """A detector of torchvision (Tian et al., ICCV 2019), small, and sure enough of something."""
    from torchvision.models.detection import FCOS
    from torchvision.models.detection.anchor_utils import AnchorGenerator

    torch.manual_seed(0)
    backbone = nn.Sequential(nn.Conv2d(3, 8, 3, 4, 1), nn.ReLU(), nn.Conv2d(8, 32, 3, 4, 1))
    backbone.out_channels = 32
    anchors = AnchorGenerator(((16,),), ((1.0,),))
    network = FCOS(backbone, 3, anchor_generator=anchors, min_size=SIZE, max_size=SIZE, detections_per_img=20)
    for layer in (network.head.classification_head.cls_logits, network.head.regression_head.bbox_reg):
        nn.init.normal_(layer.weight, std=0.5)
        nn.init.constant_(layer.bias, 0.5)
    return network.eval()


class Given(nn.Module):
    """Knows its boxes beforehand: (boxes, 4), the score of each, and the number of its label."""

    def __init__(self, found, scores, numbers, labels=2, layout="separate", across=False, **_):
        super().__init__()
        found, scores, numbers = (torch.tensor(each, dtype=torch.float32) for each in (found, scores, numbers))
        self.layout = layout
        if layout == "classes":
            each = torch.zeros(len(scores), labels)
            each[range(len(scores)), numbers.long()] = scores
            rows = torch.cat([found.reshape(-1, 4), each], 1)
            self.values = [rows.T.contiguous() if across else rows]
        elif layout == "rows":
            self.values = [torch.cat([found.reshape(-1, 4), scores[:, None], numbers[:, None]], 1)]
        else:
            self.values = [found.reshape(-1, 4), scores, numbers]

    def forward(self, pixels):
        nothing = pixels.mean() * 0
        found = tuple(value + nothing for value in self.values)
        return found if len(found) > 1 else found[0][None]
