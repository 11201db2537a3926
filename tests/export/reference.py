"""EfficientNet-Lite once more, from the checkpoint's own tensors and the published table, sharing no code with ours."""

from __future__ import annotations

import torch
from torch.nn import functional

# Strides of all blocks: stages of the EfficientNet paper, repeats ceil(repeats * depth) with depth 1.0 and 1.2; the first and
# the last stage are never repeated.
STRIDES = {
    "efficientnet-lite0": [1, 2, 1, 2, 1, 2, 1, 1, 1, 1, 1, 2, 1, 1, 1, 1],
    "efficientnet-lite2": [1, 2, 1, 1, 2, 1, 1, 2, 1, 1, 1, 1, 1, 1, 1, 2, 1, 1, 1, 1, 1],
}
State = dict[str, torch.Tensor]


def convolve(x: torch.Tensor, weight: torch.Tensor, stride: int) -> torch.Tensor:
    """TensorFlow's SAME: as many outputs as ceil(size / stride), the odd pixel of padding at the end. Depthwise if it fits."""
    for axis in (3, 2):
        size, kernel = x.shape[axis], weight.shape[axis]
        outputs = (size + stride - 1) // stride
        total = max(0, (outputs - 1) * stride + kernel - size)
        before = torch.zeros_like(x.narrow(axis, 0, 1)).repeat_interleave(total // 2, axis)
        after = torch.zeros_like(x.narrow(axis, 0, 1)).repeat_interleave(total - total // 2, axis)
        x = torch.cat([before, x, after], dim=axis)
    groups = x.shape[1] if weight.shape[1] == 1 and x.shape[1] > 1 else 1
    return functional.conv2d(x, weight, stride=stride, groups=groups)


def normalise(x: torch.Tensor, state: State, name: str) -> torch.Tensor:
    """Batch normalisation at inference, with TensorFlow's epsilon."""
    scale = state[f"{name}.weight"] / torch.sqrt(state[f"{name}.running_var"] + 1e-3)
    shift = state[f"{name}.bias"] - state[f"{name}.running_mean"] * scale
    return x * scale[:, None, None] + shift[:, None, None]


def relu6(x: torch.Tensor) -> torch.Tensor:
    """The Lite models' only activation."""
    return x.clamp(0.0, 6.0)


def block_outputs(name: str, state: State, images: torch.Tensor) -> list[torch.Tensor]:
    """The output `[B, C, H, W]` of each block for `uint8 [B, H, W, 3]` RGB, normalised as the Lite models were trained."""
    x = (images.permute(0, 3, 1, 2).float() - 127.0) / 128.0
    x = relu6(normalise(convolve(x, state["_conv_stem.weight"], 2), state, "_bn0"))
    found: list[torch.Tensor] = []
    for index, stride in enumerate(STRIDES[name]):
        block = f"_blocks.{index}"
        y = x
        if f"{block}._expand_conv.weight" in state:
            y = relu6(normalise(convolve(y, state[f"{block}._expand_conv.weight"], 1), state, f"{block}._bn0"))
        y = relu6(normalise(convolve(y, state[f"{block}._depthwise_conv.weight"], stride), state, f"{block}._bn1"))
        y = normalise(convolve(y, state[f"{block}._project_conv.weight"], 1), state, f"{block}._bn2")
        x = x + y if x.shape == y.shape else y
        found.append(x)
    return found
