"""The image branch: a small strided 3D network, and hazard networks that fuse what it says with the other findings.

Two graphs, because the embedding is computed once for a case and asked about many times. An image is absent for most
patients after surgery, so its absence is learned and trained on: a masked image and no image are one and the same.
Source of the choices: ConvNeXt-like depthwise blocks, GroupNorm because batch statistics differ between sites.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from inference.contract import ImageInput, ModelContract
from training.engineering import Engineering
from training.network import HazardNetwork, IllnessDeath

FUSED = 8  # covariates that an image becomes
_GROUPS = 4
_WIDTHS = (16, 32, 64)
_CLIP = 6.0
_EPSILON = 1e-5
_FIRST_WEIGHT = 0.2
_HALF = 0.5
_SMALLEST_SCALE = 0.5  # rounding is not blown up beyond two-fold


class GroupNorm(nn.Module):
    """As `torch.nn.GroupNorm`, but exported as means along one axis after another.

    One mean over a whole grid, as the exporter writes torch's own, is off by 2e-5 in onnxruntime, which adds up in
    single precision: more than the 1e-5 within which a bundle must answer the same everywhere.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(channels)), nn.Parameter(torch.zeros(channels))

    def forward(self, cells: Tensor) -> Tensor:
        """(B, channels, slices, rows, columns)."""
        if self.training:  # the same to rounding, and three times as fast
            return nn.functional.group_norm(cells, _GROUPS, self.weight, self.bias, _EPSILON)
        grouped = cells.unflatten(1, (_GROUPS, cells.shape[1] // _GROUPS))
        apart = grouped - _mean(grouped, 4)
        even = apart * torch.rsqrt(_mean(apart.square(), 4) + _EPSILON)
        return even.flatten(1, 2) * self.weight[:, None, None, None] + self.bias[:, None, None, None]


def _mean(cells: Tensor, axes: int) -> Tensor:
    """Over the last axes, one after another; the axes stay, with one cell each."""
    for axis in range(1, axes + 1):
        cells = cells.mean(-axis, keepdim=True)
    return cells


class DepthwiseBlock(nn.Module):
    """A filter of its own for each channel, then a mix of channels; a skip path where the shape stays."""

    def __init__(self, inside: int, outside: int, stride: int) -> None:
        super().__init__()
        self.kept = inside == outside and stride == 1
        self.body = nn.Sequential(
            nn.Conv3d(inside, inside, 3, stride=stride, padding=1, groups=inside, bias=False),
            GroupNorm(inside),
            nn.Conv3d(inside, outside, 1, bias=False),
            GroupNorm(outside),
            nn.SiLU(),
        )

    def forward(self, cells: Tensor) -> Tensor:
        """(B, inside, slices, rows, columns)."""
        after: Tensor = self.body(cells)
        return cells + after if self.kept else after


class ImageEncoder(nn.Module):
    """A crop in HU, (B, 1, slices, rows, columns), to an embedding, (B, E), z-scored over the training patients."""

    mean: Tensor
    scale: Tensor

    def __init__(self, image: ImageInput) -> None:
        super().__init__()
        self.window = image.window_hu
        first, second, third = _WIDTHS
        self.body = nn.Sequential(
            nn.Conv3d(1, first, 3, stride=2, padding=1, bias=False),
            GroupNorm(first),
            nn.SiLU(),
            DepthwiseBlock(first, second, 2),
            DepthwiseBlock(second, second, 1),
            DepthwiseBlock(second, third, 2),
            DepthwiseBlock(third, third, 1),
        )
        self.head = nn.Linear(2 * third, image.embedding)
        self.register_buffer("mean", torch.zeros(image.embedding))
        self.register_buffer("scale", torch.ones(image.embedding))

    def forward(self, image: Tensor) -> Tensor:
        """Window to -1 to 1, convolutions, mean and maximum over the grid, one linear layer, z-score, clip at 6."""
        low, high = self.window
        cells = self.body((image.clamp(low, high) - (low + high) / 2.0) * (2.0 / (high - low)))
        embedding = self.head(torch.cat([_mean(cells, 3).flatten(1), cells.amax((2, 3, 4))], dim=1))
        return ((embedding - self.mean) / self.scale).clamp(-_CLIP, _CLIP)

    def standardise(self, embeddings: Tensor) -> Tensor:
        """Set the z-score from embeddings of training patients, (N, E), made with the former one; return them anew."""
        plain = embeddings * self.scale + self.mean
        self.mean, self.scale = plain.mean(0), plain.std(0).clamp(min=_SMALLEST_SCALE)
        return ((plain - self.mean) / self.scale).clamp(-_CLIP, _CLIP)


class FusedHazardNetwork(HazardNetwork):
    """Hazard networks on findings, (P), and on what a gate lets through of an image, (FUSED).

    A row holds the findings, the embedding and whether there is one: P + E + 1 columns. Without an image the learned
    absent vector takes the embedding's place, whatever stands there.
    """

    def __init__(self, width: int, embedding: int, members: int, generator: torch.Generator) -> None:
        """width: P. embedding: E."""
        super().__init__(width + FUSED, members, generator)

        def drawn(*shape: int) -> nn.Parameter:
            return nn.Parameter(torch.randn(shape, generator=generator) * _FIRST_WEIGHT)

        self.width = width
        self.absent = nn.Parameter(torch.zeros(members, 1, embedding))
        self.seen = drawn(members, embedding, FUSED)
        self.gate = drawn(members, width + embedding, FUSED)
        self.gate_bias = nn.Parameter(torch.zeros(members, 1, FUSED))

    def predictors(self, covariates: Tensor, dropout: float = 0.0) -> tuple[Tensor, Tensor]:
        """As `HazardNetwork.predictors`, for rows of P + E + 1 columns."""
        several = covariates.dim() > self.gate_bias.dim() - 1
        rows = covariates if several else covariates.unsqueeze(0).expand(self.members, -1, -1)
        findings, image = rows[..., : self.width], rows[..., self.width : -1]
        present = (rows[..., -1:] > _HALF).to(rows.dtype)
        image = present * image + (1.0 - present) * self.absent
        opened = torch.sigmoid(torch.cat([findings, image], dim=2) @ self.gate + self.gate_bias)
        return super().predictors(torch.cat([findings, opened * (image @ self.seen)], dim=2), dropout)


class MultimodalIllnessDeath(IllnessDeath):
    """The risk graph of a model that reads images: as `IllnessDeath`, with an embedding and whether there is one."""

    def __init__(
        self, contract: ModelContract, engineering: Engineering, ensemble: FusedHazardNetwork, *, resampled: int
    ) -> None:
        super().__init__(contract, engineering, ensemble, student=ensemble, resampled=resampled)

    def combined(self, covariates: Tensor, place: Tensor) -> tuple[Tensor, Tensor]:
        """As `IllnessDeath.combined`; without a teacher there is no student beside the ensemble."""
        members = self.ensemble(covariates, place)
        return members.mean(1), members

    def forward(  # type: ignore[override]  # noqa: PLR0917  # the order of the graph's inputs, two more
        self,
        static: Tensor,
        static_mask: Tensor,
        sequence: Tensor,
        sequence_mask: Tensor,
        years_since_surgery: Tensor,
        image_embedding: Tensor,
        image_present: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
        """As `IllnessDeath.forward`. image_embedding: (B, E). image_present: (B, 1), 0 or 1.

        Typicality is that of the findings alone: how usual an image is, it does not say.
        """
        findings = self.engineering(static, static_mask, sequence, sequence_mask)
        rows = torch.cat([findings, image_embedding, image_present], dim=1)
        return self.forecast(rows, years_since_surgery, self.typicality(findings))


def count_parameters(network: nn.Module) -> int:
    """How many numbers were fitted."""
    return sum(parameter.numel() for parameter in network.parameters())
