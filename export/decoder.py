"""The matching decoder as a graph. The bank is an input, so one engine serves all products.

A token is anomalous when it is unlike the tokens of normal parts (Mahalanobis distance to the bank) and unlike every other
token of its own picture that is not its neighbour (a texture repeats itself, a defect does not). The two are multiplied.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

from edge.bank import METHOD, NORM_LEAST
from edge.engines.package import BankTensor, DecoderSpec, Tap

TOP_SHARE = 0.05
MEDIAN_WEIGHT = 0.25
NEIGHBOUR_RADIUS = {16: 3, 32: 1}
"""By stride, in tokens: a defect's own neighbours share it and must not vouch for it."""
MAP_LEAST = 1e-9
ALONE_LEAST = 1e-6
DECODER_FILE = "decoder.onnx"


class MatchingDecoder(nn.Module):
    """Tokens and bank in; anomaly map at the encoder's input size, image score and unlikeness out."""

    def __init__(self, taps: tuple[Tap, ...], input_size: tuple[int, int]) -> None:
        super().__init__()
        self.taps = taps
        self.input_size = input_size
        self.grid = max((tap.grid for tap in taps), key=lambda grid: grid[0] * grid[1])
        for index, tap in enumerate(taps):
            self.register_buffer(f"near_{index}", neighbours(tap.grid, NEIGHBOUR_RADIUS[tap.stride]))

    def forward(
        self, tokens: tuple[torch.Tensor, ...], bank: tuple[torch.Tensor, ...]
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Match.

        Args:
            tokens: one `float32 [B, N, D]` per tap.
            bank: `whiten [D, K]` and `centre [K]` per tap, in turn.

        Returns:
            The map `float32 [B, H, W]`, the score and the unlikeness `float32 [B]`; in all, higher is worse. The unlikeness
            is the median distance of the finest tap: a defect on less than half of the part leaves it as it is.
        """
        units = [t / t.norm(dim=2, keepdim=True).clamp_min(NORM_LEAST) for t in tokens]
        foreign = [((x @ bank[2 * i] - bank[2 * i + 1]) ** 2).sum(dim=2) for i, x in enumerate(units)]
        logs = [self._tap_map(i, unit, foreign[i]) for i, unit in enumerate(units)]
        grid_map = torch.exp(torch.stack(logs).mean(dim=0))
        flat = grid_map.flatten(1)
        ranked = torch.topk(flat, flat.shape[1] // 2 + 1, dim=1).values
        top = ranked[:, : max(1, round(TOP_SHARE * flat.shape[1]))].mean(dim=1)
        score = top - MEDIAN_WEIGHT * ranked[:, -1]
        full = functional.interpolate(grid_map[:, None], self.input_size, mode="bilinear", align_corners=False)
        unlikeness = torch.topk(foreign[0], foreign[0].shape[1] // 2 + 1, dim=1).values[:, -1]
        return full[:, 0], score, unlikeness

    def _tap_map(self, index: int, unit: torch.Tensor, foreign: torch.Tensor) -> torch.Tensor:
        """Logarithm of one tap's map on the common grid, `[B, h, w]`."""
        alike = unit @ unit.transpose(1, 2) - self.get_buffer(f"near_{index}")
        alone = (2.0 - 2.0 * alike.amax(dim=2)).clamp_min(ALONE_LEAST)
        rows, columns = self.taps[index].grid
        grid = (foreign * alone).reshape(-1, rows, columns)
        if (rows, columns) != self.grid:
            grid = functional.interpolate(grid[:, None], self.grid, mode="bilinear", align_corners=False)[:, 0]
        return torch.log(grid.clamp_min(MAP_LEAST))


def neighbours(grid: tuple[int, int], radius: int) -> torch.Tensor:
    """`float32 [N, N]`: large where two tokens are at most `radius` apart (each is its own neighbour), else 0."""
    rows = torch.arange(grid[0]).repeat_interleave(grid[1])
    columns = torch.arange(grid[1]).repeat(grid[0])
    apart = torch.maximum((rows[:, None] - rows).abs(), (columns[:, None] - columns).abs())
    return torch.where(apart <= radius, 4.0, 0.0)


def describe(taps: tuple[Tap, ...]) -> DecoderSpec:
    """What the package says about the decoder."""
    bank: list[BankTensor] = []
    for index, tap in enumerate(taps):
        bank += [BankTensor(f"whiten_{index}", (tap.dim, 0)), BankTensor(f"centre_{index}", (0,))]
    parameters = {"top_share": TOP_SHARE, "median_weight": MEDIAN_WEIGHT}
    return DecoderSpec(METHOD, DECODER_FILE, tuple(bank), parameters)
