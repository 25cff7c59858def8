"""Regions that do not do their steps are set aside, tried again, and get their share back slowly."""

from datetime import timedelta

from orchestrator.fleet import RegionHealth
from orchestrator.fleet.health import FORGIVEN_AFTER, LEAST, LONGEST_ASIDE, SLOW_START

PLACES = ("berlin", "paris", "rome")
OTHERS = ("paris", "rome")
QUICK, PREDICTED, SLOW = timedelta(milliseconds=110), timedelta(milliseconds=100), timedelta(seconds=2)


class Regions:
    """Health on a clock and a chance of ours."""

    def __init__(self) -> None:
        self.now = 0.0
        self.chance = 0.0
        self.health = RegionHealth(clock=lambda: self.now, chance=lambda: self.chance)

    def order(self) -> list[str]:
        return list(self.health.ordered(PLACES, str))

    def set_aside(self, region: str = "berlin") -> None:
        self.health.failed(region, "no worker took it in time", surely=True)


def test_places_keep_their_order_while_all_is_well() -> None:
    regions = Regions()
    regions.health.succeeded("berlin", QUICK, PREDICTED)
    assert regions.order() == ["berlin", "paris", "rome"]
    assert regions.health.troubled() == {}


def test_a_region_whose_steps_nobody_takes_comes_last() -> None:
    regions = Regions()
    regions.set_aside()
    assert regions.order() == ["paris", "rome", "berlin"]
    assert regions.health.troubled() == {"berlin": "no worker took it in time"}


def test_one_failed_endpoint_is_not_enough() -> None:
    regions = Regions()
    regions.health.failed("berlin", "BackendFaultError", surely=False)
    assert regions.order()[0] == "berlin"
    for _ in range(LEAST):
        regions.health.failed("berlin", "BackendFaultError", surely=False)
    assert regions.order()[0] == "paris"


def test_failures_among_many_successes_are_not_enough() -> None:
    regions = Regions()
    for number in range(40):
        if number % 4 == 0:
            regions.health.failed("berlin", "BackendFaultError", surely=False)
        else:
            regions.health.succeeded("berlin", QUICK, PREDICTED)
    assert regions.order()[0] == "berlin"


def test_a_region_that_is_many_times_slower_than_predicted_is_set_aside() -> None:
    regions = Regions()
    for _ in range(LEAST):
        regions.health.succeeded("berlin", SLOW, PREDICTED)
    assert regions.order()[0] == "paris"


def test_where_all_regions_are_slow_none_is_set_aside_for_it() -> None:
    regions = Regions()
    for _ in range(LEAST - 1):
        for region in PLACES:
            regions.health.succeeded(region, SLOW, PREDICTED)
    for region in PLACES:
        regions.health.succeeded(region, SLOW, PREDICTED)
    assert regions.health.troubled() == {}


def test_a_single_step_tries_a_region_that_was_set_aside() -> None:
    regions = Regions()
    regions.set_aside()
    regions.now = 2.1
    assert regions.order()[0] == "berlin"
    # the others do not wait for its outcome
    assert regions.order()[0] == "paris"
    regions.health.failed("berlin", "no worker took it in time", surely=True)
    regions.now = 4.2
    assert regions.order()[0] == "paris"  # this time for four seconds
    regions.now = 6.2
    assert regions.order()[0] == "berlin"


def test_a_place_that_is_not_chosen_is_not_tried() -> None:
    regions = Regions()
    regions.set_aside("rome")
    regions.now = 2.1
    for _ in range(3):
        assert regions.order() == ["berlin", "paris", "rome"]
    # so the next step that has no better place tries it
    assert next(iter(regions.health.ordered(("rome", "paris"), str))) == "rome"


def test_a_region_that_is_back_gets_its_share_slowly() -> None:
    regions = Regions()
    regions.set_aside()
    regions.now = 2.1
    assert regions.order()[0] == "berlin"
    regions.health.succeeded("berlin", QUICK, PREDICTED)
    regions.chance = 0.5
    assert regions.order()[0] == "paris"
    regions.now += SLOW_START.total_seconds() * 0.6
    assert regions.order()[0] == "berlin"
    regions.chance = 0.99
    regions.now += SLOW_START.total_seconds()
    assert regions.order()[0] == "berlin"


def test_a_region_that_wavers_is_asked_less_and_less() -> None:
    regions = Regions()
    trials = 0
    for second in range(600):
        regions.now = float(second)
        if regions.order()[0] == "berlin":
            trials += 1
            regions.set_aside()
    assert trials <= 16
    regions.now += LONGEST_ASIDE.total_seconds()
    assert regions.order()[0] == "berlin"


def test_what_was_sent_before_does_not_count_twice() -> None:
    regions = Regions()
    for _ in range(10):
        regions.set_aside()
    regions.now = 2.1
    assert regions.order()[0] == "berlin"


def test_old_trouble_is_forgiven() -> None:
    regions = Regions()
    for _ in range(5):
        regions.set_aside()
        regions.now += LONGEST_ASIDE.total_seconds()
    regions.order()
    regions.health.succeeded("berlin", QUICK, PREDICTED)
    regions.now += FORGIVEN_AFTER.total_seconds() + 1
    regions.set_aside()
    regions.now += 2.1
    assert regions.order()[0] == "berlin"


def test_regions_that_probes_find_away_come_after_those_in_doubt() -> None:
    regions = Regions()
    regions.set_aside("berlin")
    regions.health.note_states({"paris": "draining", "rome": "up"})
    assert regions.order() == ["rome", "berlin", "paris"]
    regions.health.note_states({})
    assert regions.order() == ["paris", "rome", "berlin"]


def test_a_step_that_is_about_to_run_in_a_region_set_aside_does_not_begin() -> None:
    regions = Regions()
    assert regions.health.takes("berlin", OTHERS)
    regions.set_aside()
    assert not regions.health.takes("berlin", OTHERS)
    assert regions.health.takes("paris", OTHERS)
    regions.now = 2.1
    assert regions.health.takes("berlin", OTHERS)  # one tries it again
    assert not regions.health.takes("berlin", OTHERS)
    regions.health.note_states({"rome": "draining"})
    assert regions.health.takes("rome", OTHERS)  # what runs there finishes


def test_a_region_counts_as_set_aside_until_a_step_has_tried_it() -> None:
    regions = Regions()
    assert not regions.health.is_set_aside("berlin", OTHERS)
    regions.set_aside()
    assert regions.health.is_set_aside("berlin", OTHERS)
    assert not regions.health.is_set_aside("paris", OTHERS)
    regions.now = 2.1
    assert not regions.health.is_set_aside("berlin", OTHERS)
    assert regions.order()[0] == "berlin"
    assert regions.health.is_set_aside("berlin", OTHERS)
    regions.health.succeeded("berlin", QUICK, PREDICTED)
    assert not regions.health.is_set_aside("berlin", OTHERS)


def test_what_is_known_against_a_region_is_told_to_people() -> None:
    regions = Regions()
    assert regions.health.trouble_of("berlin") is None
    regions.set_aside()
    told = regions.health.trouble_of("berlin")
    assert told == "the region is set aside: no worker took it in time"
    regions.now = 2.1
    assert regions.order()[0] == "berlin"
    regions.health.succeeded("berlin", QUICK, PREDICTED)
    regions.chance = 0.9
    assert regions.health.trouble_of("berlin") == "the region comes back, and gets its share slowly"
    regions.health.note_states({"berlin": "draining"})
    assert regions.health.trouble_of("berlin") == "the region is draining"


def test_a_step_stays_in_a_region_set_aside_where_no_other_is_better() -> None:
    regions = Regions()
    for region in PLACES:
        regions.set_aside(region)
    assert regions.health.takes("berlin", OTHERS)
    assert not regions.health.is_set_aside("berlin", OTHERS)
    assert not regions.health.is_set_aside("berlin", ())
