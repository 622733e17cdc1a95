"""The encoders, or the decoders, by name."""

from importlib import import_module
from pkgutil import iter_modules
from typing import Any, TypeVar

from a2i import plugins

Kind = TypeVar("Kind", bound=type[Any])


class Registry:
    """Classes by their `name`, which captioner folders hold.

    The files of a package register theirs when they are imported, and are imported only when one is looked for: some need
    much of `transformers`.
    """

    def __init__(self, kind: str, package: str) -> None:
        """Set up.

        Args:
            kind: what the classes are, for messages.
            package: whose files register classes.
        """
        self.kind, self.package = kind, package
        self._classes: dict[str, type[Any]] = plugins.watched({})

    def register(self, made: Kind) -> Kind:
        """Add a class, under its `name`; use it as a decorator.

        Raises:
            ValueError: the class has no name, or another class has that name.
        """
        name = getattr(made, "name", None)
        if not isinstance(name, str) or not name:
            raise ValueError(
                f"got {made.__qualname__} without a name; expected a {self.kind} with name = '…' in its class"
            )
        if name in self._files() and made.__module__ != f"{self.package}.{name}":
            import_module(f"{self.package}.{name}")  # so that no class from elsewhere is there before
        if (other := self._classes.get(name, made)) is not made:
            raise ValueError(
                f"got {self.kind} {name!r} of {made.__module__}.{made.__qualname__}; expected another name:"
                f" {other.__module__}.{other.__qualname__} has this one"
            )
        self._classes[name] = made
        return made

    def names(self) -> list[str]:
        """All registered names, sorted."""
        for file in self._files():
            import_module(f"{self.package}.{file}")
        return sorted(self._classes)

    def find(self, name: str) -> type[Any]:
        """The class of that name.

        Raises:
            ValueError: there is none.
        """
        if name not in self._classes and name in self._files():
            import_module(f"{self.package}.{name}")  # most often the file has the name of what it registers
        if name not in self._classes and name not in self.names():
            raise ValueError(f"got {self.kind} {name!r}; expected one of {', '.join(self.names())}")
        return self._classes[name]

    def name_of(self, part: Any) -> str:
        """The name under which a captioner folder has this part.

        Raises:
            ValueError: its class is not registered, so that no folder could be loaded.
        """
        name = str(getattr(part, "name", None))
        if self._classes.get(name) is not type(part):
            raise ValueError(
                f"got {type(part).__qualname__}, which is no registered {self.kind}; expected one that"
                f" {self.package}.register knows"
            )
        return name

    def _files(self) -> list[str]:
        return [module.name for module in iter_modules(import_module(self.package).__path__)]
