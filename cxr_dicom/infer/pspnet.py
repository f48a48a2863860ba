"""The forward pass of a PSPNet with half of upstream's arithmetic, and the same result.

Upstream computes an auxiliary head that only training needs. And its last convolution, the largest,
sees the pyramid's few cells enlarged to the full feature map; enlarging and convolving are both
linear, so the cells can be weighed before they are enlarged. What is left of that convolution, and the
others of 3 x 3, need fewer multiplications by Winograd's way.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch


def logits(network: Any, pixels: torch.Tensor) -> torch.Tensor:
    """Compute what ``torchxrayvision.baseline_models.chestx_det.ptsemseg.pspnet`` does.

    Parameters
    ----------
    network
        The upstream network, whose forward pass is not called.
    pixels
        (1, 3, rows, columns).

    Returns
    -------
    Tensor
        (1, structures, rows, columns).
    """
    from torch.nn.functional import interpolate, max_pool2d

    stem = network.convbnrelu1_3(network.convbnrelu1_2(network.convbnrelu1_1(pixels)))
    features = network.res_block3(network.res_block2(max_pool2d(stem, kernel_size=3, stride=2, padding=1)))
    features = network.res_block5(network.res_block4(features))
    found = network.classification(_pyramid(network, features))
    return interpolate(found, size=pixels.shape[2:], mode="bilinear")


def _pyramid(network: Any, features: torch.Tensor) -> torch.Tensor:
    """Pool to cells at each level, join what they say to the features, and convolve all."""
    from torch.nn.functional import avg_pool2d

    from cxr_dicom.infer.winograd import convolve

    rows, columns = features.shape[2:]
    convolution, *norm_and_relu = network.cbr_final.cbr_unit
    branches = network.pyramid_pooling.path_module_list
    of_features, *of_branches = convolution.weight.split(
        [features.shape[1], *(branch.cbr_unit[0].out_channels for branch in branches)], dim=1
    )
    joined = convolve(features, of_features)
    for size, branch, weight in zip(network.pyramid_pooling.pool_sizes, branches, of_branches, strict=True):
        cells = branch(avg_pool2d(features, (rows // size, columns // size)))
        joined = joined + _convolve_enlarged(cells, weight, (rows, columns))
    for layer in norm_and_relu:
        joined = layer(joined)
    return joined


def _convolve_enlarged(cells: torch.Tensor, weight: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """Convolve (3 x 3, zeros around) the ``cells`` enlarged to ``size``, without enlarging each channel.

    Parameters
    ----------
    cells
        (1, channels, few, few).
    weight
        (outputs, channels, 3, 3).

    Returns
    -------
    Tensor
        (1, outputs, *size).
    """
    import torch
    from torch.nn.functional import interpolate, unfold

    count = cells.shape[2] * cells.shape[3]
    alone = torch.eye(count, device=cells.device).view(count, 1, *cells.shape[2:])  # each cell, the others 0
    reach = unfold(interpolate(alone, size=size, mode="bilinear"), kernel_size=3, padding=1)  # (cells, 9, places)
    weighed = torch.einsum("ock,cn->onk", weight.flatten(2), cells[0].flatten(1))  # (outputs, cells, 9)
    return (weighed.flatten(1) @ reach.flatten(0, 1)).view(1, -1, *size)
