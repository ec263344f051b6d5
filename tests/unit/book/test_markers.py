from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tunebook.book.markers import END, author_words, merge_page

BEGIN = "<!-- tunebook:begin (as somebody might type it) -->"
FRONT = "---\nrun: a\n---\n\n# a\n"
PIECES = st.sampled_from(
    ["own words", "\n", "\r\n", BEGIN, END, f"# {BEGIN}", "---\n", "é🙂", " ", "\udc80", "# x\n"]
)
PAGES = st.lists(PIECES, max_size=12).map("".join)


def test_a_first_page_has_front_matter_in_its_first_line() -> None:
    page = merge_page(FRONT, None)
    assert page.startswith("---\n# <!-- tunebook:begin")
    assert page.endswith(f"{END}\n")


def test_words_above_and_below_stay_and_the_middle_is_replaced() -> None:
    page = merge_page("# old\n", None)
    edited = f"above\n{page}below\r\nwith odd ends"
    merged = merge_page("# new\n", edited)
    assert merged == edited.replace(page, merge_page("# new\n", None))


def test_words_above_front_matter_stay_too() -> None:
    edited = "above\n\n" + merge_page(FRONT, None) + "below"
    assert merge_page(FRONT, edited) == edited


def test_a_page_turned_to_other_line_ends_is_still_recognised() -> None:
    edited = merge_page(FRONT, None).replace("\n", "\r\n") + "mine\r\n"
    merged = merge_page("---\nrun: b\n---\n", edited)
    assert merged.count("tunebook:begin") == 1
    assert merged.endswith("\r\nmine\r\n")


def test_generated_text_that_looks_like_a_marker_is_text() -> None:
    page = merge_page(f"a\n{END}\n{BEGIN}\n# {BEGIN}\nb", None)
    assert author_words(page) == "\n"
    assert merge_page("c", page + "mine") == merge_page("c", None) + "mine"


def test_a_lost_end_marker_keeps_the_whole_old_page_once() -> None:
    broken = merge_page("# old\n", None).replace(END, "") + "mine\n"
    merged = merge_page("# new\n", broken)
    assert merged.endswith(broken)
    assert merge_page("# new\n", merged) == merged


def test_a_page_without_markers_is_kept_below() -> None:
    assert merge_page("# a\n", "mine").endswith("\n\nmine")
    assert merge_page("# a\n", "") == merge_page("# a\n", None)


@given(PAGES, PAGES, PAGES)
def test_no_word_of_the_author_is_ever_lost(above: str, below: str, inside: str) -> None:
    page = above + merge_page(inside, None) + below
    merged = merge_page("# new\n", page)
    place = merged.find("# new")
    assert place >= 0
    assert merged.count("own words") >= (above + below).count("own words")
    assert merged.startswith(above) or merged.endswith(page)
    assert merged.endswith(below)


@given(PAGES)
def test_building_twice_changes_nothing_more(page: str) -> None:
    once = merge_page(FRONT, page)
    assert merge_page(FRONT, once) == once
    assert page in once or author_words(page) in (once, author_words(once))
