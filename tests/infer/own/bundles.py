"""MONAI bundles in the layout of the public model zoo, harmless and hostile."""

import json
import os
import pickle
import zipfile
from functools import cache

import torch

from tests.infer import hostile_torchscript
from tests.infer.own import networks

METADATA = {
    "schema": "https://example.org/meta_schema_20240725.json",
    "version": "0.1.0",
    "changelog": {"0.1.0": "first version"},
    "monai_version": "1.4.0",
    "pytorch_version": "2.4.0",
    "numpy_version": "1.24.4",
    "name": "Chest segmentation",
    "task": "Segmentation of lungs and heart",
    "authors": "Nobody et al. 2026",
    "copyright": "Copyright (c) Nobody",
    "network_data_format": {
        "inputs": {
            "image": {
                "type": "magnitude",
                "format": "magnitude",
                "modality": "CXR",
                "num_channels": 1,
                "spatial_shape": [64, 64],
                "dtype": "float32",
                "value_range": [0, 1],
                "is_patch_data": False,
                "channel_def": {"0": "image"},
            }
        },
        "outputs": {
            "pred": {
                "type": "image",
                "format": "segmentation",
                "num_channels": 3,
                "spatial_shape": [64, 64],
                "dtype": "float32",
                "value_range": [0, 1],
                "is_patch_data": False,
                "channel_def": {"0": "background", "1": "right lung", "2": "heart"},
            }
        },
    },
}
INFERENCE = {
    "bundle_root": ".",
    "preprocessing": {
        "_target_": "Compose",
        "transforms": [
            {"_target_": "LoadImaged", "keys": "image"},
            {"_target_": "ScaleIntensityd", "keys": "image"},
        ],
    },
    "dataset": {"_target_": "Dataset", "transform": "@preprocessing"},
}
IMPORTS = {**INFERENCE, "imports": ["$import os"], "run": ["$os.system('touch ran')"]}


def metadata(side="inputs", **changes):
    """Return the metadata with another word about its input or output."""
    made = json.loads(json.dumps(METADATA))
    (each,) = made["network_data_format"][side].values()
    each.update(changes)
    return made


@cache
def program():
    """A segmenter of three labels as TorchScript."""
    traced = torch.jit.trace(networks.made(networks.Segmenter, outputs=3), torch.rand(1, 1, 64, 64))
    return traced.save_to_buffer()


def write(folder, content=METADATA, inference=INFERENCE, network=None):
    """Write a bundle; texts are written as they are."""
    for name in ("configs", "models", "docs"):
        (folder / name).mkdir(parents=True)
    for name, each in (("metadata", content), ("inference", inference)):
        text = each if isinstance(each, str) else json.dumps(each)
        (folder / "configs" / f"{name}.json").write_text(text)
    (folder / "LICENSE").write_text("   Apache License\n   Version 2.0, January 2004\n")
    (folder / "docs" / "README.md").write_text("# Chest segmentation\n")
    if network is None:
        (folder / "models" / "model.ts").write_bytes(program())
    return folder


def zipped(folder, path, root=None, **more):
    """Pack a bundle as the model zoo does, below its name."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(folder.rglob("*")):
            if file.is_file():
                archive.write(file, f"{root or folder.name}/{file.relative_to(folder)}")
        for name, content in more.items():
            archive.writestr(name, content)
    return path


class Touch:
    """What a pickle can be."""

    def __reduce__(self):
        return os.system, ("touch ran",)


def _yaml(text):
    def make(folder):
        write(folder)
        (folder / "configs" / "inference.yaml").write_text(text)

    return make


def _plain(**options):
    return lambda folder: write(folder, **options)


def _checkpoint(folder):
    write(folder, network="none")
    (folder / "models" / "model.pt").write_bytes(pickle.dumps(Touch()))


def _program(folder):
    write(folder, network="none")
    (folder / "models" / "model.ts").write_bytes(hostile_torchscript.files()["a call"])


def _way_out(folder):
    write(folder, network="none")
    target = folder.parent / "elsewhere.ts"
    target.write_bytes(program())
    (folder / "models" / "model.ts").symlink_to(target)


def _pipe(folder):
    write(folder)
    (folder / "configs" / "metadata.json").unlink()
    os.mkfifo(folder / "configs" / "metadata.json")


def _many(folder):
    write(folder)
    for number in range(150):
        (folder / "configs" / f"{number}.json").write_text("{}")


_FORMULA = json.dumps(METADATA).replace('"Chest segmentation"', "\"$__import__('os').system('touch ran')\"")
HOSTILE = {  # what writes it, and what the refusal says
    "an import": (_plain(inference=IMPORTS), "found code in configs/inference.json: "),
    "an import behind an escape": (
        _plain(inference=json.dumps(IMPORTS).replace("$", "\\u0024")),
        "found code in configs/inference.json: ",
    ),
    "an import behind white space": (_plain(inference={"imports": [" \n$import os"]}), "found code in"),
    "YAML with an import": (_yaml("imports:\n- $import os\n"), "found code in configs/inference.yaml: '$import os'"),
    "YAML with an escape": (_yaml('imports: ["\\x24import os"]\n'), "found code in configs/inference.yaml"),
    "YAML with Python": (_yaml("a: !!python/object/apply:os.system ['touch ran']\n"), "found code in"),
    "a formula in the metadata": (_plain(content=_FORMULA), "found code in configs/metadata.json"),
    "metadata without end": (_plain(content='{"a":' * 100_000), "nested without end"),
    "metadata of 2 MB": (_plain(content=json.dumps({"a": "b" * (2 << 20)})), "of more than 1048576 bytes"),
    "metadata that is none": (_plain(content="[1"), "configs/metadata.json that is no JSON"),
    "metadata of nothing": (_plain(content="[]"), "without network_data_format"),
    "a volume": (_plain(content=metadata(spatial_shape=[96, 96, 96])), "3 dimensions ([96, 96, 96])"),
    "patches": (_plain(content=metadata(is_patch_data=True)), "a network of patches"),
    "an oblong": (_plain(content=metadata(spatial_shape=[736, 480])), "736 x 480, expected a square"),
    "four channels": (_plain(content=metadata(num_channels=4)), "4 channels, expected 1 or 3"),
    "a truth for a number": (_plain(content=metadata(num_channels=True)), "True channels"),
    "a pickle that runs": (_checkpoint, "a checkpoint of weights alone is no network"),
    "a program that writes": (_program, "expected nothing but tensor operations"),
    "a network elsewhere": (_way_out, "leads out of it"),
    "a pipe for a file": (_pipe, "found no configs/metadata.json"),
    "no network": (_plain(network="none"), "found no network: expected one of models/model.ts"),
    "150 configs": (_many, "found 151 configs"),
}
