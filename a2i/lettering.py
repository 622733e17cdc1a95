"""Text that is drawn into a picture: into how many lines, and where it ends."""

from PIL import ImageFont


def fitted_lines(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: int, most: int) -> list[str]:
    """Text in at most `most` lines of at most `width` pixels; what does not fit is cut off, and … stands for it.

    Returns:
        the lines, at least one.
    """
    lines = [""]
    words = " ".join("".join(each if each.isprintable() else " " for each in text).split()).split(" ")
    while words:
        longer = f"{lines[-1]} {words[0]}".lstrip()
        if font.getlength(longer) <= width:
            lines[-1] = longer
            words.pop(0)
        elif not lines[-1]:  # a word that no line holds
            kept = next(
                end for end in range(len(words[0]) - 1, 0, -1) if end == 1 or font.getlength(words[0][:end]) <= width
            )
            lines[-1], words[0] = words[0][:kept], words[0][kept:]
        elif len(lines) < most:
            lines.append("")
        else:
            break
    if words:
        while lines[-1] and font.getlength(f"{lines[-1]}…") > width:
            lines[-1] = lines[-1][:-1].rstrip()
        lines[-1] += "…"
    return lines
