"""Templates → pages that hold all they show, and may run nothing but their own script."""

import base64
import hashlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent


def fill(
    folders: Sequence[Path],
    template: str,
    styles: Sequence[str],
    script: str,
    filters: Mapping[str, Callable[..., Any]],
    **values: Any,
) -> str:
    """Fill in a template that extends `page.html.j2`. All values are escaped.

    Args:
        folders: with the files that are named, the first that has one counting.
        template: name of a file.
        styles: names of files, put together in this order.
        script: name of a file.
        filters: of the template, by name.
        values: of the template, by name.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup

    page = Environment(
        loader=FileSystemLoader(folders),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    page.filters.update(filters)
    code = _read(folders, script)
    style = "".join(_read(folders, name) for name in styles)
    # Only this very script may run, whatever a caption holds.
    script_hash = base64.b64encode(hashlib.sha256(code.encode("utf-8")).digest()).decode("ascii")
    return page.get_template(template).render(
        **values,
        script=Markup(code),  # noqa: S704 (our own files)
        style=Markup(style),  # noqa: S704
        script_hash=script_hash,
    )


def _read(folders: Sequence[Path], name: str) -> str:
    return next(folder / name for folder in folders if (folder / name).is_file()).read_text(encoding="utf-8")
