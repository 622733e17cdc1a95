"""What is done with every sound: all that another process needs to know to do its share."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from a2i.audio.addresses import Sound
from a2i.grid import Shape
from a2i.rerank import enough, reranked
from a2i.results import RowSettings
from a2i.rows import Places, infer

if TYPE_CHECKING:
    from a2i.loading import Chosen
    from a2i.pipeline import AudioToImage


@dataclass(frozen=True)
class Work:
    """Which models, and what they do with a sound. It can be pickled.

    Attributes:
        chosen: which models.
        settings: of the rows.
        seed: of the pictures, and of sampling.
        decoding: changes of the captioner's decoding settings, by name.
        batch_size: clips captioned at once.
        picture_batch: pictures drawn at once.
        grid: of pictures for each sound; None for none.
        rerank: what puts the candidates in order; None for the captioner itself.
        rerank_model: the model that does; None for its default.
    """

    chosen: "Chosen"
    settings: RowSettings
    seed: int = 0
    decoding: dict[str, Any] | None = None
    batch_size: int = 1
    picture_batch: int = 1
    grid: Shape | None = None
    rerank: str | None = None
    rerank_model: str | None = None

    def load(self, tell: Callable[[str], None]) -> "AudioToImage":
        """Load both models, and tell what the user should know of them; see `a2i.loading.load`.

        Raises:
            FileNotFoundError: there is no such model.
            ValueError: a model or a decoding setting does not fit, or can't be loaded.
        """
        from a2i.loading import load  # here: --help, and what is there already, need not wait for torch

        a2i = load(self.chosen, tell)
        a2i.captioner = reranked(a2i.captioner, self.rerank, self.rerank_model, self.chosen.device)
        return a2i

    def rows(
        self, a2i: "AudioToImage", sounds: Sequence[Sound], places: Places, show_progress: bool = False
    ) -> Iterator[dict[str, Any]]:
        """A row for each sound; see `a2i.rows.infer`.

        Raises:
            OSError: the folder takes no more pictures.
        """
        decoding = enough(a2i.captioner, self.decoding or {}, self.grid.captions if self.grid else 1)
        batches = (self.batch_size, self.picture_batch)
        return infer(a2i, sounds, places, self.settings, self.seed, decoding, *batches, self.grid, show_progress)
