"""What a trigger is to be judged with. Bound when the trigger comes, so that a changeover never splits a part."""

from __future__ import annotations

from dataclasses import dataclass

from edge.bus.messages import Mode, Provenance
from edge.recipe import Recipe


@dataclass(frozen=True, slots=True, eq=False)
class Job:
    """A recipe (None: none is active), and what its verdicts say about their origin."""

    recipe: Recipe | None
    provenance: Provenance

    @property
    def mode(self) -> Mode:
        """What the verdicts are for."""
        return Mode.OBSERVE if self.provenance.is_test else Mode.JUDGE
