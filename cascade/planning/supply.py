"""What associated inputs are chosen from: candidates of a data source or task, and finished masters."""

from collections.abc import Iterable, Sequence

from ccdflow.cascade.planning.associate import Barrier, Candidates
from ccdflow.cascade.planning.framegroups import FrameGroups
from ccdflow.cascade.planning.jobs import Group
from ccdflow.cascade.records import CLASSES


class CandidateSupply:
    """Candidates by the name that an input asks for, each collection made once.

    Parameters
    ----------
    groups : FrameGroups
        Frames that candidates are made of.
    barriers : sequence of Barrier
        What happened to the instruments.
    """

    def __init__(self, groups: FrameGroups, barriers: Sequence[Barrier]) -> None:
        self._groups = groups
        self._resolved = groups.resolved
        self._barriers = barriers
        self._sets: dict[str, Candidates[Group]] = {}
        self._masters: dict[tuple[str, str], Candidates[Group]] = {}

    def sets_of(self, source: str) -> Candidates[Group]:
        """Return the groups of frames of a data source, or from which a task could make its product.

        Parameters
        ----------
        source : str
            Name of a data source, task or relay.

        Returns
        -------
        Candidates of Group
            Of a task on raw frames also those for which its condition does not hold: whoever takes one is told so.
        """
        if source not in self._sets:
            self._sets[source] = Candidates(self._groups_of(source), self._barriers)
        return self._sets[source]

    def _groups_of(self, source: str) -> list[Group]:
        # Of a task on raw frames its own condition is not asked here: a candidate for which it does not hold is to be
        # named as such, and not to be unheard of. Products are known only where all conditions on the way hold.
        maker = self._resolved.cascade.relayed(source)
        groups: Iterable[Group]
        if maker in self._resolved.cascade.sources:
            groups = self._groups.raw_groups(maker)
        elif self._resolved.takes_frames(maker):
            groups = self._groups.main_groups(maker)
        else:
            return list(self._groups.product_groups(source).values())
        return [group for group in groups if self._resolved.conditions.passes(source, group)]

    def masters_of(self, task: str, product: str) -> Candidates[Group]:
        """Return the finished products of a task's category that were made elsewhere, each as a group of one.

        Parameters
        ----------
        task : str
            Name of a task or relay; of a data source there are none.
        product : str
            Category, for a task that makes several; else empty.

        Returns
        -------
        Candidates of Group
        """
        name = task, product
        if name not in self._masters:
            self._masters[name] = Candidates(self._finished(task, product), self._barriers)
        return self._masters[name]

    def _finished(self, task: str, product: str) -> list[Group]:
        task = self._resolved.cascade.relayed(task)
        if task not in self._resolved.cascade.tasks:
            return []
        category = product or next(iter(self._resolved.recipe(task).outputs), "")
        if category in CLASSES:  # raw science frames are no products of the task science
            return []
        finished = [
            Group((frame,))
            for frame in self._groups.ordered
            if frame.frame_class == category and not frame.refused
        ]
        return [master for master in finished if self._resolved.conditions.is_master(task, master)]
