"""Where a trial is put: by planned memory, on the emptiest device."""

from __future__ import annotations

from tunebook.workflows.sweep_queue import SHARED_BY, Need, Place, places_here


def test_trials_share_a_card_as_long_as_their_planned_memory_fits() -> None:
    card = Place(0, 10, SHARED_BY)
    assert card.has_room(4, whole=False)
    card.taken["a"] = 4
    assert card.has_room(6, whole=False)
    assert not card.has_room(7, whole=False)
    card.taken |= {"b": 1, "c": 1, "d": 1}
    assert not card.has_room(1, whole=False)


def test_a_trial_of_several_cards_shares_none_and_one_alone_goes_where_its_plan_fits() -> None:
    empty, used = Place(0, 10, 4), Place(1, 10, 4, {"a": 1})
    assert empty.has_room(20, whole=True)
    assert not used.has_room(1, whole=True)


def test_a_processor_is_one_place_for_as_many_trials_as_are_asked_for() -> None:
    [place] = places_here("cpu", 3)
    assert (place.number, place.most) == (None, 3)
    assert place.free is not None
    assert places_here("cpu", None)[0].most >= 1
    assert Need(5).devices == 1
