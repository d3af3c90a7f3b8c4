"""Placing: what a run asks its fleet for, and the learner on the accelerators that it was granted.

The learner starts when its accelerators are there (at once, where it asks for none). When a higher priority wants them
back it writes a checkpoint, gives them up and waits; robots go on with the weights that they have.
"""

import logging
from collections.abc import Sequence

from cloud.actors import Cloud
from cloud.claim import Claim
from cloud.config import LaunchConfig
from cloud.gang import Gang
from user_rl.ask import AcceleratorsAsk, Ask, RobotsAsk
from user_rl.errors import ConfigError, Unreachable, UserRlError, WireError
from user_rl.fleet import AcceleratorCard

log = logging.getLogger(__name__)


def ask_of(config: LaunchConfig, simulated: Sequence[str]) -> Ask:
    """The run's one request; `simulated` are the cells that the run starts itself. Raises ConfigError."""
    robots, inference, placement = config.robots, config.inference, config.placement
    cameras = len(config.cameras) if robots.cameras is None else robots.cameras
    try:
        return Ask(
            robots=RobotsAsk(
                count=len(simulated) or robots.count, min_count=robots.min_count or 1, model=robots.model,
                site=robots.site, cameras=cameras, control_mode=robots.control_mode, cells=tuple(simulated),
            ),
            learner=AcceleratorsAsk(gpus=config.learner.gpus),
            inference=AcceleratorsAsk(gpus=inference.gpus, near=inference.near),
            priority=placement.priority, preemptible=placement.preemptible,
        )  # fmt: skip
    except WireError as error:
        raise ConfigError(f"robots, inference or placement: {error}") from error


class LearnerPlace:
    """Starts and pauses the learner as the run's accelerators come and go. All calls from one thread."""

    def __init__(self, cloud: Cloud, claim: Claim) -> None:
        self._cloud, self._claim = cloud, claim
        self.trouble = ""

    def tick(self) -> None:
        """Call it often."""
        cards = self._claim.holds("learner")
        wanted_back = set(self._claim.wanted_back)
        lost = cards is None or any(card.id in wanted_back for card in cards)
        if self._cloud.learns and lost:
            self._pause()
        elif not self._cloud.learns and cards is not None and not lost:
            self._start(cards)

    def _start(self, cards: Sequence[AcceleratorCard]) -> None:
        try:
            gang = Gang(cards) if cards else None
        except Unreachable as error:
            self._told(str(error))
            self._give_back()
            return
        self.trouble = ""
        self._cloud.start_learner(gang)

    def _pause(self) -> None:
        self._told(
            "a higher priority has the learner's accelerators; it goes on from its checkpoint when they are free"
        )
        self._cloud.pause_learner()
        self._give_back()

    def _give_back(self) -> None:
        try:
            self._claim.give_back(self._claim.accelerators.get("learner", ()))
        except UserRlError as error:  # the fleet takes them back when they are not renewed
            log.warning("%s", error)

    def _told(self, trouble: str) -> None:
        if trouble != self.trouble:
            log.warning("%s", trouble)
        self.trouble = trouble
