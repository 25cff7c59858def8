import pytest

from activities.texts import LONGEST_SENTENCE, cosine, is_repetitive, numbers, pairs, sentences, share, terms


def test_sentences_end_where_people_end_them_and_questions_are_left_out():
    assert sentences("A run has a home. A step has a place! Which one? Placement says.") == [
        "A run has a home.",
        "A step has a place!",
        "Placement says.",
    ]


@pytest.mark.parametrize("text", ["It cost 3.5 million.", "See e.g. the handbook.", "Version 1.2.3 is out."])
def test_not_every_dot_ends_a_sentence(text):
    assert sentences(text) == [text]


def test_paragraphs_and_list_items_are_sentences_and_wrapped_lines_are_not():
    assert sentences("A home is\na region\n\n- first item\n- second item\n\n***") == [
        "A home is a region",
        "first item",
        "second item",
    ]


def test_marks_of_markdown_and_code_blocks_are_no_part_of_a_sentence():
    table = "| word | meaning |\n|---|---|\n| **home** | the `region` |"
    assert sentences(f"```python\nx = 1.\n```\nText.\n\n{table}") == [
        "Text.",
        "word meaning",
        "home the region",
    ]


def test_a_block_without_punctuation_is_cut():
    [sentence] = sentences("x " * LONGEST_SENTENCE)
    assert len(sentence) == LONGEST_SENTENCE


def test_terms_are_the_words_that_say_something_in_any_of_their_forms():
    assert terms("Was the placement of it placed?") == {"place"}
    assert terms("places") == terms("Placed")
    assert terms("der die das und ist nicht") == set()
    assert terms("Kim") == {"kim"}


def test_numbers_are_the_same_however_their_digits_are_grouped():
    assert numbers("1,250 points in 1985") == numbers("1250 Punkte 1985") == numbers("1.250, 1985")
    assert numbers("3.5") != numbers("35")


def test_share():
    assert share({"a", "b"}, ["a", "c"]) == 0.5
    assert share(set(), []) == 1.0


def test_a_text_that_goes_round_in_circles_is_noticed():
    assert is_repetitive("The state is the state is the state is the state is the state.")
    assert not is_repetitive("A run has a home, the region that runs its workflow and keeps its history.")


def test_cosine():
    assert cosine([1, 0], [2, 0]) == pytest.approx(1)
    assert cosine([1, 0], [0, 3]) == 0
    assert cosine([0, 0], [1, 0]) == 0


def test_pairs_are_words_that_stand_together():
    assert pairs("A run has a home.") == {("a", "run"), ("run", "has"), ("has", "a"), ("a", "home")}
    assert pairs("Home") == set()
