"""What a program needs beside the packages for captioning and drawing, and the extra of a2i that brings it."""

from importlib.util import find_spec

# Without these a program can do nothing. What single metrics, loggers or downloads need they say themselves.
NEEDED = {
    "train": ("train", ("lightning", "matplotlib")),
    "evaluate": ("eval", ("matplotlib",)),
    "app": ("app", ("gradio", "matplotlib")),
}


def require(program: str) -> None:
    """Raise an ImportError where packages that a program needs are not installed; it says what to install.

    Args:
        program: `train`, `evaluate`, …
    """
    extra, packages = NEEDED.get(program, ("", ()))
    if missing := [name for name in packages if not _is_installed(name)]:
        are = "is" if len(missing) == 1 else "are"
        raise ImportError(f"{' and '.join(missing)} {are} not installed: pip install 'a2i[{extra}]'")


def _is_installed(package: str) -> bool:
    try:
        return find_spec(package) is not None
    except (ImportError, ValueError):  # such as a module that was put aside
        return False
