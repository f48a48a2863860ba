"""The networks of this package can be computed in batches, and prove it."""

from dataclasses import replace

import pytest
import torch

from cxr_dicom.config import ModelSettings, Settings
from cxr_dicom.infer import choose
from cxr_dicom.infer.batches import building_for
from cxr_dicom.infer.batches.network import LoadedNetworks
from cxr_dicom.infer.models import chexpert
from tests.infer import random_weights

# Not that of jfhealthcare: which of nearly equal numbers is greatest decides its maps, so it may be refused.
NAMES = sorted({*random_weights.MAKERS, "xrv-densenet121-all", "offline-anatomy"} - {"jfhealthcare"})
SIDE = 128  # at which they are computed, to save time


class Small(LoadedNetworks):
    """Networks that are computed on small squares."""

    def register(self, compute, info, channels):
        return super().register(compute, replace(info, input_size=SIDE), channels)


@pytest.mark.parametrize("name", NAMES)
def test_an_answer_does_not_depend_on_neighbours_and_hardly_on_the_place(name, home, monkeypatch):
    monkeypatch.setattr(chexpert, "MEMBERS", 1)
    if name in random_weights.MAKERS or name.startswith("xrv-"):
        home.weights(name)
    settings = Settings(models=ModelSettings(names=(name,), device="cpu", batch=3, accept_licence=("cxas",)))
    networks = Small("cpu")
    with building_for(networks):
        choose(name, settings).build("models.names", name, settings)
    (network,) = networks.networks
    network.verify(3, "cpu")
    images = (torch.rand(4, *network.signature.input, generator=torch.Generator().manual_seed(2)) * 2 - 1) * 1024
    ways = [network(images[chosen]) for chosen in ([0, 1, 2], [0, 3, 3], [2, 1, 0])]
    for found, beside_others, elsewhere, shape in zip(*ways, network.signature.outputs, strict=True):
        assert torch.equal(found[0], beside_others[0])
        assert torch.allclose(found[0], elsewhere[2], rtol=1e-4, atol=1e-5)
        assert found.shape[1:] == shape
