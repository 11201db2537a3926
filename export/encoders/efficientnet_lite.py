"""EfficientNet-Lite, cut after the last tapped block, with the picture's normalisation inside.

Architecture: Tan and Le, "EfficientNet" (ICML 2019), in the Lite form of the TensorFlow TPU models: no squeeze-and-excite,
ReLU6, fixed stem and first stage. The parameter names are those of the published PyTorch checkpoints, so weights load
without renaming.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional

PIXEL_MEAN = 127.0
PIXEL_SCALE = 128.0
BATCH_NORM_EPS = 1e-3
STEM_CHANNELS = 32


@dataclass(frozen=True)
class Stage:
    """One row of the EfficientNet table, before width and depth scaling."""

    kernel: int
    stride: int
    expand: int
    channels: int
    repeats: int


STAGES = (
    Stage(3, 1, 1, 16, 1),
    Stage(3, 2, 6, 24, 2),
    Stage(5, 2, 6, 40, 2),
    Stage(3, 2, 6, 80, 3),
    Stage(5, 1, 6, 112, 3),
    Stage(5, 2, 6, 192, 4),
    Stage(3, 1, 6, 320, 1),
)


@dataclass(frozen=True)
class Variant:
    """Width and depth multipliers of one family member."""

    width: float
    depth: float


VARIANTS = {"efficientnet-lite0": Variant(1.0, 1.0), "efficientnet-lite2": Variant(1.1, 1.2)}


def scaled_channels(channels: int, width: float, divisor: int = 8) -> int:
    """Scale a channel count and round it to a multiple of 8, never down by more than 10% (EfficientNet, TPU reference)."""
    scaled = channels * width
    rounded = max(divisor, int(scaled + divisor / 2) // divisor * divisor)
    return rounded + divisor if rounded < 0.9 * scaled else rounded


@dataclass(frozen=True)
class BlockRow:
    """One block of the scaled table."""

    stage: Stage
    inputs: int
    outputs: int
    stride: int


def block_rows(variant: Variant) -> list[BlockRow]:
    """All blocks of a variant in order. The first and the last stage keep their depth, as in the Lite models."""
    rows: list[BlockRow] = []
    inputs = STEM_CHANNELS
    for stage in STAGES:
        fixed = stage in (STAGES[0], STAGES[-1])
        outputs = scaled_channels(stage.channels, variant.width)
        for repeat in range(stage.repeats if fixed else math.ceil(stage.repeats * variant.depth)):
            rows.append(BlockRow(stage, inputs, outputs, stage.stride if repeat == 0 else 1))
            inputs = outputs
    return rows


class SamePadConv(nn.Conv2d):
    """Convolution with TensorFlow's SAME padding, which is asymmetric at stride 2 on even sizes."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1) -> None:
        super().__init__(inputs, outputs, kernel, stride=stride, groups=groups, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Convolve `[B, C, H, W]` to `[B, C', ceil(H / stride), ceil(W / stride)]`."""
        kernel, stride = self.kernel_size[0], self.stride[0]
        pads: list[int] = []
        for size in (x.shape[3], x.shape[2]):
            total = max((math.ceil(size / stride) - 1) * stride + kernel - size, 0)
            pads += [total // 2, total - total // 2]
        return functional.conv2d(functional.pad(x, pads), self.weight, None, self.stride, 0, 1, self.groups)


class MBConv(nn.Module):
    """Inverted bottleneck: expand, depthwise, project; skip connection where the shape allows."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, expand: int) -> None:
        super().__init__()
        hidden = inputs * expand
        self.skip = stride == 1 and inputs == outputs
        self.expands = expand != 1
        if self.expands:
            self._expand_conv = SamePadConv(inputs, hidden, 1)
            self._bn0 = nn.BatchNorm2d(hidden, eps=BATCH_NORM_EPS)
        self._depthwise_conv = SamePadConv(hidden, hidden, kernel, stride, groups=hidden)
        self._bn1 = nn.BatchNorm2d(hidden, eps=BATCH_NORM_EPS)
        self._project_conv = SamePadConv(hidden, outputs, 1)
        self._bn2 = nn.BatchNorm2d(outputs, eps=BATCH_NORM_EPS)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map `[B, C, H, W]` to `[B, C', H / stride, W / stride]`."""
        y: torch.Tensor = x
        if self.expands:
            y = functional.relu6(self._bn0(self._expand_conv(y)))
        y = functional.relu6(self._bn1(self._depthwise_conv(y)))
        y = self._bn2(self._project_conv(y))
        return x + y if self.skip else y


class EfficientNetLite(nn.Module):
    """Frozen encoder: `uint8 [B, H, W, 3]` RGB in, one `float32 [B, h * w, D]` of patch tokens per tap out.

    `taps` are indices of blocks, counted through all stages. Blocks behind the last tap are not built.
    """

    def __init__(self, name: str, taps: tuple[int, ...]) -> None:
        super().__init__()
        self._conv_stem = SamePadConv(3, STEM_CHANNELS, 3, stride=2)
        self._bn0 = nn.BatchNorm2d(STEM_CHANNELS, eps=BATCH_NORM_EPS)
        rows = block_rows(VARIANTS[name])[: max(taps) + 1]
        self._blocks = nn.ModuleList(
            MBConv(row.inputs, row.outputs, row.stage.kernel, row.stride, row.stage.expand) for row in rows
        )
        self.tap_blocks = taps
        self.tap_strides = tuple(2 * math.prod(row.stride for row in rows[: tap + 1]) for tap in taps)
        self.tap_dims = tuple(rows[tap].outputs for tap in taps)

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Encode `uint8 [B, H, W, 3]` RGB to one `float32 [B, h * w, D]` per tap, rows from top left."""
        x = (images.permute(0, 3, 1, 2).to(torch.float32) - PIXEL_MEAN) / PIXEL_SCALE
        x = functional.relu6(self._bn0(self._conv_stem(x)))
        tokens: list[torch.Tensor] = []
        for index, block in enumerate(self._blocks):
            x = block(x)
            if index in self.tap_blocks:
                tokens.append(x.flatten(2).transpose(1, 2))
        return tuple(tokens)
