"""The linear read-out of weights in closed form, kept as a few directions of each slot.

Shapes: N entries, T modules, F raw features, D directions, E embedding width.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from lora_gen.models.adapter_encoder import AdapterEncoder
from lora_gen.retrieval.corpus import Corpus
from lora_gen.retrieval.fit import modules_of


class ReadoutFit:
    """Ridge regression from all features of all modules, solved in the dual.

    What a slot adds to the prediction is then kept along its largest directions alone (reduced-rank
    regression: Izenman, 1975), which lose far less than the main directions of the features would.

    Args:
        model: Its centers and units are set at once, its read-out by `solve`.
        corpus: Features of modules.
        slots_T: The slot of each module.
        entries: Adapters to fit to.
    """

    def __init__(
        self, model: AdapterEncoder, corpus: Corpus, slots_T: Tensor, entries: Sequence[int]
    ) -> None:
        self.model, self.corpus, self.count = model, corpus, len(entries)
        rows_T = torch.cat([modules_of(corpus, i) for i in entries])
        owners_T = torch.cat(
            [torch.full((len(modules_of(corpus, i)),), n) for n, i in enumerate(entries)]
        )
        side_TS = corpus.side[rows_T]
        model.side_mean.copy_(side_TS.mean(0))
        model.side_std.copy_(side_TS.std(0).clamp_min(1e-3))
        self._rows = {
            slot: (rows_T[slots_T[rows_T] == slot], owners_T[slots_T[rows_T] == slot])
            for slot in torch.unique(slots_T[rows_T]).tolist()
            if slot >= 0
        }
        for slot, (own_T, _) in self._rows.items():
            model.center[slot] = corpus.sketches[own_T].float().mean(0)
        self._kernel_NN = torch.zeros(self.count, self.count)
        for _, design_NF in self._designs():
            self._kernel_NN += design_NF @ design_NF.mT

    def _designs(self) -> Iterator[tuple[int, Tensor]]:
        """Slots with the sum of each entry's centered features there, (N, F)."""
        for slot, (rows_T, owners_T) in self._rows.items():
            offset_TF = self.corpus.sketches[rows_T].float() - self.model.center[slot]
            design_NF = offset_TF.new_zeros(self.count, offset_TF.shape[1])
            yield slot, design_NF.index_add_(0, owners_T, offset_TF)

    @torch.no_grad()
    def solve(self, chosen: Sequence[int], target_BE: Tensor, ridge: float) -> None:
        """Set the directions and the read-out of the encoder.

        Args:
            chosen: Places of the entries to fit to.
            target_BE: What the sum over modules of each of them should be.
            ridge: Penalty, in units of the mean squared norm of an adapter's features.
        """
        kernel_BB = self._kernel_NN[chosen][:, chosen]
        penalty = ridge * kernel_BB.diagonal().mean().clamp_min(1e-12)
        dual_BE = torch.linalg.solve(kernel_BB + penalty * torch.eye(len(chosen)), target_BE)
        self.model.basis.zero_()
        self.model.readout.zero_()
        sum_BE = torch.zeros_like(target_BE)
        for slot, design_NF in self._designs():
            design_BF = design_NF[chosen]
            weights_FE = design_BF.mT @ dual_BE
            added_BE = design_BF @ weights_FE
            main_ED = torch.linalg.eigh((added_BE.mT @ added_BE).double())[1].flip(1).float()
            main_ED = main_ED[:, : self.model.config.token_dim]
            content_BD = added_BE @ main_ED
            size = content_BD.square().mean().sqrt().clamp_min(1e-9)
            width = main_ED.shape[1]
            self.model.basis[slot, :, :width] = weights_FE @ main_ED / size
            self.model.readout[slot, :width] = main_ED.mT * size
            sum_BE += content_BD @ main_ED.mT
        self.model.readout.div_(sum_BE.norm(dim=1).mean().clamp_min(1e-6))
