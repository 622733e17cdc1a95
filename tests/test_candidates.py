from a2i.captioner.candidates import Candidate, best_first, distinct


def test_equal_captions_count_once_where_the_best_stands() -> None:
    candidates = [
        Candidate("a dog", -1.0, 0.4, -1.0),
        Candidate("a cat", -2.0, 0.2, -2.0),
        Candidate("a dog", -3.0, 0.1, -3.0),
    ]
    assert distinct(candidates) == candidates[:2]
    assert best_first(reversed(candidates)) == candidates
