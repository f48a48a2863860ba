"""Random weights in the file formats of TorchXRayVision, one function for each model."""

import json
import sys
import zipfile
from functools import cache
from importlib.resources import files
from io import BytesIO
from types import ModuleType, SimpleNamespace

import numpy as np
import torch
import torchvision
import torchxrayvision as xrv

from cxr_dicom import synthetic

CHEXPERT_TASKS = ("No Finding", "Cardiomegaly", "Edema", "Consolidation", "Atelectasis", "Pleural Effusion")


def as_imagenet(pixels):
    return (pixels / 512).repeat(1, 3, 1, 1)


def as_bytes(pixels):
    return ((pixels + 1024) / 2048 * 255).repeat(1, 3, 1, 1)


def settled(network, size, feed=as_imagenet):
    """Give a network with random weights the statistics that chests have in it, so that scores differ.

    ``feed`` makes pixels from -1024 to 1024 into what the network is fed.
    """
    pictures = np.stack([synthetic.frontal_chest(size, size, seed) for seed in range(2)])
    pixels = torch.from_numpy(pictures)[:, None] * 2048 - 1024
    for module in network.modules():
        if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
            module.momentum = 1.0
    with torch.no_grad():
        network.train()(feed(pixels))
    return network.eval()


def prefixed(prefix, network):
    return {prefix + key: tensor for key, tensor in network.state_dict().items()}


@cache
def densenet():
    return settled(xrv.models.DenseNet(num_classes=18), 96, feed=torch.clone)


def densenet_file(path):
    """As torch before 1.6 wrote whole modules; the same tensors for every training set."""
    torch.save(densenet(), path, _use_new_zipfile_serialization=False)


def resnet50_file(path):
    network = torchvision.models.resnet50(num_classes=18)
    network.conv1 = torch.nn.Conv2d(1, 64, kernel_size=7, stride=2, padding=3, bias=False)
    torch.save(settled(network, 96, feed=torch.clone).state_dict(), path)


def pspnet_file(path):
    network = settled(xrv.baseline_models.chestx_det.pspnet(14), 96)
    torch.save(prefixed("module.", network), path)


def cxas_file(path):
    network = xrv.baseline_models.chestx_anatomy.UNetResNet50(weights=False)
    forward, network.forward = network.forward, network._forward
    settled(network, 96)
    network.forward = forward
    shallow = {key.replace("backbone.backbone.", "backbone."): value for key, value in network.state_dict().items()}
    torch.save({"model": {"module." + key: value for key, value in shallow.items()}, "epoch": 1}, path)


def jfhealthcare_network():
    text = files("torchxrayvision.baseline_models.jfhealthcare").joinpath("config/example.json").read_text()
    configuration = SimpleNamespace(**{**json.loads(text), "pretrained": False})
    network = xrv.baseline_models.jfhealthcare.classifier.Classifier(configuration)
    settled(network.backbone, 96)
    for index in range(5):
        torch.nn.init.normal_(getattr(network, f"fc_{index}").weight, std=0.05)
    return network


def jfhealthcare_file(path):
    torch.save(jfhealthcare_network().state_dict(), path)


def chexpert_file(path):
    """One network for each group of tasks, where upstream has thirty."""
    text = files("torchxrayvision.baseline_models.chexpert").joinpath("predict_configs.json").read_text()
    firsts = {each[0]["ckpt_path"]: each[0]["is_3class"] for each in json.loads(text)["task2models"].values()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, has_three_classes in firsts.items():
            network = torchvision.models.densenet121(num_classes=len(CHEXPERT_TASKS) * (3 if has_three_classes else 1))
            content = {
                "task_sequence": {task: index for index, task in enumerate(CHEXPERT_TASKS)},
                "model_state": prefixed("module.model.", settled(network, 96)),
                "ckpt_info": {"epoch": 1},
            }
            stream = BytesIO()
            torch.save(content, stream)
            archive.writestr(name, stream.getvalue())


def resnetae_file(path):
    network = settled(xrv.autoencoders.ResNetAE101(), 224, feed=torch.clone)
    network.conv1_1.weight.data *= 100
    torch.save(network.state_dict(), path)


VQGAN = {"ch": 32, "ch_mult": [1, 1, 1, 1, 2, 2], "num_res_blocks": 1, "attn_resolutions": [48], "z_channels": 8}
VQGAN |= {"double_z": False, "resolution": 768, "in_channels": 3, "out_ch": 3, "dropout": 0.0}


def vqgan_file(path):
    """As Lightning writes it: with parts of the training, and classes that are not installed here."""
    network = xrv.baseline_models.ieee8023.VQModel(VQGAN, n_embed=16, embed_dim=8)
    torch.nn.init.normal_(network.quantize.embedding.weight)
    packages = ["pytorch_lightning", "pytorch_lightning.callbacks", "pytorch_lightning.callbacks.model_checkpoint"]
    sys.modules.update({package: ModuleType(package) for package in packages})
    callback = type("ModelCheckpoint", (), {"__module__": packages[-1]})
    sys.modules[packages[-1]].ModelCheckpoint = callback
    state = {**network.state_dict(), "loss.discriminator.weight": torch.zeros(3)}
    torch.save({"state_dict": state, "callbacks": {callback: {"best": 0.1}}, "callback": callback()}, path)
    for package in packages:
        del sys.modules[package]


def view_file(path):
    torch.save(settled(torchvision.models.resnet50(), 96).state_dict(), path)


def sex_file(path):
    network = settled(torchvision.models.resnet34(num_classes=2), 96, feed=as_bytes)
    torch.save({"state_dict": prefixed("model.", network), "hyper_parameters": {"num_classes": 2}}, path)


def race_file(path):
    network = torchvision.models.resnet34()
    network.fc = torch.nn.Sequential(torch.nn.Linear(512, 3), torch.nn.LogSoftmax(dim=1))
    torch.save(prefixed("module.", settled(network, 96)), path)


def age_file(path):
    """A traced network with the layers of a SENet: squeeze and excitation, both global pools."""

    class Excite(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.squeeze, self.excite = torch.nn.Conv2d(8, 4, 1), torch.nn.Conv2d(4, 8, 1)

        def forward(self, x):
            mean = torch.nn.functional.adaptive_avg_pool2d(x, 1)
            return x * self.excite(self.squeeze(mean).relu()).sigmoid() + x

    class Age(torch.nn.Module):
        def __init__(self):
            super().__init__()
            nn = torch.nn
            stem = (nn.Conv2d(3, 8, 7, 4), nn.BatchNorm2d(8), nn.ReLU(inplace=True), nn.MaxPool2d(3, ceil_mode=True))
            self.features = nn.Sequential(*stem, Excite())
            self.head = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(16), nn.Dropout(0.5), nn.Linear(16, 1))

        def forward(self, x):
            x = self.features(x)
            pools = torch.nn.functional.adaptive_avg_pool2d(x, 1), torch.nn.functional.adaptive_max_pool2d(x, 1)
            return self.head(torch.cat(pools, dim=1))

    torch.jit.trace(settled(Age(), 320), torch.zeros(1, 3, 320, 320)).save(str(path))


MAKERS = {
    "xrv-resnet50-all": resnet50_file,
    "chestx-det": pspnet_file,
    "cxas": cxas_file,
    "jfhealthcare": jfhealthcare_file,
    "chexpert": chexpert_file,
    "xrv-resnetae": resnetae_file,
    "xrv-vqgan": vqgan_file,
    "view": view_file,
    "sex": sex_file,
    "race": race_file,
    "age": age_file,
}


def write(name, path):
    """Write the upstream file of the model ``name``; the same name gives the same weights."""
    torch.manual_seed(1)
    MAKERS.get(name, densenet_file)(path)
