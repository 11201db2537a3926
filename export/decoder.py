"""The matching decoder as a graph. The bank is an input, so one engine serves all products.

A token is anomalous when it is unlike the tokens of normal parts (Mahalanobis distance to the bank) and unlike every other
token of its own picture that is not its neighbour (a texture repeats itself, a defect does not). The two are multiplied.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

from edge.bank import MEDIAN_WEIGHT, METHOD, NORM_LEAST, TOP_SHARE
from edge.engines.package import BankTensor, DecoderSpec, Tap

NEIGHBOUR_RADIUS = {16: 3, 32: 1}
"""By stride, in tokens: a defect's own neighbours share it and must not vouch for it."""
MAP_LEAST = 1e-9
ALONE_LEAST = 1e-6
LEAST_INSIDE = 0.01
COUNTER_GAIN = 200.0
"""How strongly a token that is recognised as a counter-example is raised, per unit of cosine above the limit."""
DECODER_FILE = "decoder.onnx"


class MatchingDecoder(nn.Module):
    """Tokens and bank in; anomaly map at the encoder's input size, image score and unlikeness out."""

    def __init__(self, taps: tuple[Tap, ...], input_size: tuple[int, int]) -> None:
        super().__init__()
        self.taps = taps
        self.input_size = input_size
        for index, tap in enumerate(taps):
            self.register_buffer(f"near_{index}", neighbours(tap.grid, NEIGHBOUR_RADIUS[tap.stride]))

    def forward(
        self, tokens: tuple[torch.Tensor, ...], bank: tuple[torch.Tensor, ...]
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Match.

        Args:
            tokens: one `float32 [B, N, D]` per tap, the finest first.
            bank: in the order of `describe`; see `edge.bank.fit_bank`.

        Returns:
            The map `float32 [B, H, W]`, the score and the unlikeness `float32 [B]`; in all, higher is worse. The unlikeness
            is the median distance of the finest tap: a defect on less than half of the part leaves it as it is.
        """
        rank_weights, median_weights, counter, counter_limit = bank[-4:]
        units = [t / t.norm(dim=2, keepdim=True).clamp_min(NORM_LEAST) for t in tokens]
        foreign = [((x @ bank[3 * i] - bank[3 * i + 1]) ** 2).sum(dim=2) for i, x in enumerate(units)]
        logs = [self._tap_map(i, unit, foreign[i], bank[3 * i + 2]) for i, unit in enumerate(units)]
        recognised = ((units[0] @ counter.T).amax(dim=2) - counter_limit).clamp_min(0.0)
        rows, columns = self.taps[0].grid
        raised = torch.exp(torch.stack(logs).mean(dim=0)) * (1.0 + COUNTER_GAIN * recognised.reshape(-1, rows, columns))
        inside = bank[2].reshape(rows, columns)
        grid_map = raised * inside
        full = functional.interpolate(grid_map[:, None], self.input_size, mode="bilinear", align_corners=False)
        score = (ranked(grid_map.flatten(1), bank[2]) * rank_weights).sum(dim=1)
        unlikeness = (ranked(foreign[0], bank[2]) * median_weights).sum(dim=1)
        return full[:, 0], score, unlikeness

    def _tap_map(self, index: int, unit: torch.Tensor, foreign: torch.Tensor, inside: torch.Tensor) -> torch.Tensor:
        """Logarithm of one tap's map on the finest grid, `[B, h, w]`."""
        alike = unit @ unit.transpose(1, 2) - self.get_buffer(f"near_{index}") - 4.0 * (1.0 - inside)
        alone = (2.0 - 2.0 * alike.amax(dim=2)).clamp_min(ALONE_LEAST)
        rows, columns = self.taps[index].grid
        grid = (foreign * alone).reshape(-1, rows, columns)
        if index > 0:
            # What lies outside the region of interest must not leak into it when the coarse grid is refined.
            weight = inside.reshape(1, 1, rows, columns)
            whole = self._refine(grid[:, None])
            share = self._refine(weight)
            grid = torch.where(
                share > LEAST_INSIDE, self._refine(grid[:, None] * weight) / share.clamp_min(LEAST_INSIDE), whole
            )[:, 0]
        return torch.log(grid.clamp_min(MAP_LEAST))

    def _refine(self, grid: torch.Tensor) -> torch.Tensor:
        """`[B, 1, h, w]` of a coarse tap on the finest grid."""
        return functional.interpolate(grid, self.taps[0].grid, mode="bilinear", align_corners=False)


def ranked(values: torch.Tensor, inside: torch.Tensor) -> torch.Tensor:
    """`[B, N]` sorted from the highest, what is not inside `[N]` last and as 0."""
    ordered = torch.topk(torch.where(inside > 0, values, -1.0), values.shape[1], dim=1).values
    return ordered.clamp_min(0.0)


def neighbours(grid: tuple[int, int], radius: int) -> torch.Tensor:
    """`float32 [N, N]`: large where two tokens are at most `radius` apart (each is its own neighbour), else 0."""
    rows = torch.arange(grid[0]).repeat_interleave(grid[1])
    columns = torch.arange(grid[1]).repeat(grid[0])
    apart = torch.maximum((rows[:, None] - rows).abs(), (columns[:, None] - columns).abs())
    return torch.where(apart <= radius, 4.0, 0.0)


def describe(taps: tuple[Tap, ...]) -> DecoderSpec:
    """What the package says about the decoder; the order is that of the graph's inputs."""
    bank: list[BankTensor] = []
    for index, tap in enumerate(taps):
        bank += [
            BankTensor(f"whiten_{index}", (tap.dim, 0)),
            BankTensor(f"centre_{index}", (0,)),
            BankTensor(f"inside_{index}", (tap.grid[0] * tap.grid[1],)),
        ]
    tokens = taps[0].grid[0] * taps[0].grid[1]
    bank += [BankTensor("rank_weights", (tokens,)), BankTensor("median_weights", (tokens,))]
    bank += [BankTensor("counter", (0, taps[0].dim)), BankTensor("counter_limit", (1,))]
    parameters = {"top_share": TOP_SHARE, "median_weight": MEDIAN_WEIGHT}
    return DecoderSpec(METHOD, DECODER_FILE, tuple(bank), parameters)
