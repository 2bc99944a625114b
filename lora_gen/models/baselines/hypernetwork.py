"""A one-pass hypernetwork: description and module in, that module's factors out.

Source: Text-to-LoRA (Charakorn et al., arXiv 2506.06105), its largest head. Letters as in
`lora_gen`; M modules, W latent width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lora_gen.codec.layout import TokenLayout
from lora_gen.conditioning.condition import Condition
from lora_gen.models.baselines.pooled_text import PooledText


class ResidualPerceptron(nn.Module):
    """Pre-norm perceptron of four times the width, added to its input."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.LayerNorm(width),
            nn.Linear(width, 4 * width),
            nn.SiLU(),
            nn.Linear(4 * width, width),
            nn.SiLU(),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Same shape as the input."""
        out: Tensor = x + self.net(x)
        return out


class Hypernetwork(nn.Module):
    """[text; depth; role] through residual perceptrons to one linear head for each role.

    Deterministic: a text has one adapter.

    Args:
        layout: Which tokens are written.
        text_dim: Width of the text encoder's states.
        hidden_dim: Latent width W; a multiple of 4.
    """

    depth_M: Tensor
    role_M: Tensor

    def __init__(self, layout: TokenLayout, text_dim: int, hidden_dim: int) -> None:
        super().__init__()
        self.rank, self.width = layout.rank, layout.width + 1
        roles = sorted({module.role for module in layout.modules})
        depths = sorted({module.depth for module in layout.modules})
        self.roles = [module.role for module in layout.modules]
        self.register_buffer(
            "depth_M", torch.tensor([depths.index(m.depth) for m in layout.modules]), False
        )
        self.register_buffer("role_M", torch.tensor([roles.index(r) for r in self.roles]), False)
        self.text = PooledText(text_dim, hidden_dim // 2)
        self.depth = nn.Sequential(
            nn.Embedding(len(depths), hidden_dim // 4), nn.LayerNorm(hidden_dim // 4)
        )
        self.role = nn.Sequential(
            nn.Embedding(len(roles), hidden_dim // 4), nn.LayerNorm(hidden_dim // 4)
        )
        self.body = nn.Sequential(
            nn.Linear(hidden_dim, 4 * hidden_dim),
            nn.SiLU(),
            nn.Linear(4 * hidden_dim, hidden_dim),
            nn.SiLU(),
            ResidualPerceptron(hidden_dim),
            ResidualPerceptron(hidden_dim),
            nn.LayerNorm(hidden_dim),
        )
        self.slots = {
            m.role: layout.chunks(m.in_features) + layout.chunks(m.out_features)
            for m in layout.modules
        }
        self.heads = nn.ModuleDict(
            {
                role: nn.Linear(hidden_dim, self.rank * self.slots[role] * self.width, bias=False)
                for role in roles
            }
        )
        for head in self.heads.values():
            # A small start, as the generator's own: the first adapters hardly disturb the base.
            nn.init.normal_(head.weight, std=0.3 / hidden_dim**0.5)  # type: ignore[arg-type]

    def forward(self, condition: Condition) -> Tensor:
        """Tokens, (B, N, D + 1)."""
        text_BW = self.text(condition)
        module_MW = torch.cat([self.depth(self.depth_M), self.role(self.role_M)], -1)
        batch, modules = len(text_BW), len(module_MW)
        x_BMW = torch.cat(
            [
                text_BW[:, None].expand(-1, modules, -1),
                module_MW[None].expand(batch, -1, -1),
            ],
            -1,
        )
        x_BMW = self.body(x_BMW)
        parts = [
            self.heads[role](x_BMW[:, i]).view(batch, self.rank, -1, self.width)
            for i, role in enumerate(self.roles)
        ]
        return torch.cat(parts, 2).flatten(1, 2)

    def write(self, condition: Condition, generator: torch.Generator) -> Tensor:
        """The one answer; nothing is drawn."""
        tokens_BND: Tensor = self(condition)
        return tokens_BND
