from hypothesis import given
from hypothesis import strategies as st
from PIL import ImageFont

from a2i.lettering import fitted_lines

FONT = ImageFont.load_default(17)


@given(st.text(max_size=200), st.integers(20, 300), st.integers(1, 4))
def test_text_is_wrapped_or_what_is_cut_off_is_told(text: str, width: int, most: int) -> None:
    lines = fitted_lines(text, FONT, width, most)
    assert 1 <= len(lines) <= most
    assert all(FONT.getlength(line) <= width for line in lines)
    words = "".join(each for each in text if each.isprintable() and each != " ")
    kept = "".join(lines).replace(" ", "")
    assert kept == words or (kept.endswith("…") and words.startswith(kept[:-1])), "text is lost, and nothing says so"
