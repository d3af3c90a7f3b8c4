"""cloud.quota: a cell's share of the demonstrations, and never less than none."""

from cloud.episodes import EpisodeSum
from cloud.quota import Quota
from user_rl.rows import Klass

SHOWN = EpisodeSum(episode=0, klass=Klass.DEMONSTRATION, success=True, closed=True)


def test_one_more_than_wanted_is_not_a_debt() -> None:
    quota = Quota(1)
    for _ in range(2):
        quota.add("a/1/run", SHOWN)
    assert (quota.shown, quota.still_wanted("a/1/run")) == (2, 0)


def test_two_lives_of_a_cell_share_its_part() -> None:
    quota = Quota(10)
    quota.each = 2
    quota.add("a/1/run", SHOWN)
    quota.add("a/2/run", SHOWN)
    assert (quota.still_wanted("a/3/run"), quota.still_wanted("b/1/run")) == (0, 2)
