"""The start when nothing is known: the cheap ones, and a search where they look wrong."""

from __future__ import annotations

import torch
from torch import Tensor

from ...limits import check_sizes
from ...transforms.base import Transform
from ...transforms.linear import Linear
from ..pair import Pair
from .contest import Contest
from .mass import CentresOfMass
from .moments import candidates
from .search import Search
from .simple import Centres, Header, Initialiser

_ROUNDS = 8  # of the pattern search from the cheap starts
_TURN = 20.0  # degrees: how far the nearest candidate of the search may be from the right rotation
_FAR = 0.25  # of the object's size: from here on a pose is another answer, not the same one less exactly
_SAME = 0.05


class Auto(Initialiser):
    """The best of header, centres, centres of mass and moments; where they look wrong, that of a search.

    The best cheap starts settle on a coarse level. They look right if the result, turned by as much as the search's
    candidates are apart, still beats every candidate of the search that lies elsewhere: were the truth elsewhere, a
    candidate would be near it. Otherwise the search runs. Its result is taken if it is clearly better than the cheap
    one, and stands out from its own other places: images that have little in common fit anywhere equally badly. Where
    the loss is hardly below that of unrelated images, no turn is believed: the centres of mass are laid on one another.

    Parameters
    ----------
    search
        The search, and the similarity that decides.
    margin
        By how much of the loss (counted from that of unrelated images) the search's result must be better than the
        cheap one, and than the next best place.
    least
        How far below that of unrelated images a loss must be to be believed, beside what smooth images may reach by
        chance (:attr:`Pair.chance`); with mutual information, in nats.
    """

    def __init__(self, search: Search | None = None, margin: float = 0.05, least: float = 0.2) -> None:
        check_sizes(margin=margin, least=least)
        self.search = search or Search()
        self.margin, self.least = margin, least

    def __call__(self, pair: Pair) -> Transform:
        level, fine = self.search.levels(pair)
        least = self.least + pair.chance
        shifts, turned = self._shifts(pair), candidates(pair)
        settled = self._settled(level, torch.cat([shifts, turned]))
        turns = self.search.turns(pair)
        losses = level.losses(turns, self.search.ranking)
        cheap = torch.cat([shifts, turned, settled])
        scores = fine.losses(cheap)
        home, score = cheap[int(scores.argmin())], float(scores.min())
        if fine.unrelated - score < least:
            home = shifts[0]
        if self._stands(level, settled[0], turns, losses):
            return Linear(home)
        found, others = self.search.places(level, fine, turns, losses)
        return Linear(found[0] if self._convinces(fine, score, others, least) else home)

    def _shifts(self, pair: Pair) -> Tensor:
        """(3, D+1, D+1) starts that turn nothing, the centres of mass first."""
        starts = [start(pair) for start in (CentresOfMass(), Header(), Centres())]
        return torch.stack([start.matrix for start in starts if isinstance(start, Linear)])

    def _settled(self, level: Contest, starts: Tensor) -> Tensor:
        """The distinct cheap starts after a pattern search, best first."""
        ranking = self.search.ranking
        kept = level.best(starts, level.losses(starts, ranking), len(starts), _SAME)
        poses, losses = level.settle(starts[kept], ranking, _ROUNDS)
        return poses[level.best(poses, losses, len(losses), _SAME)]

    def _stands(self, level: Contest, home: Tensor, turns: Tensor, losses: Tensor) -> bool:
        """Whether the settled start explains the images better than anything that the search would look at."""
        far = level.apart(home, turns) > _FAR
        near = level.losses(level.turned(home, _TURN), self.search.ranking)
        return not bool(far.any()) or float(near.mean()) < float(losses[far].min())

    def _convinces(self, fine: Contest, score: float, losses: Tensor, least: float) -> bool:
        """Whether the best of the search's places, of these losses, is to be believed rather than the cheap start."""
        unrelated = fine.unrelated
        gains = unrelated - losses
        if not float(gains[0]) > least:
            return False
        rivals = [unrelated - score, *gains[1:2].tolist()]
        return float(gains[0]) * (1 - self.margin) > max(rivals)
