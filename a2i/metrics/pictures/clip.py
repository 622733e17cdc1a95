"""CLIP: pictures and sentences in one space."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image, UnidentifiedImageError
from torch import Tensor
from transformers import AutoImageProcessor, CLIPModel

from a2i.metrics.pictures.towers import Tower


class CLIP(Tower):
    """Embeds pictures and sentences in one space: Radford et al. 2021 (arXiv:2103.00020)."""

    kind = "clip"
    model_class = CLIPModel

    def _load(self, source: str, revision: str | None) -> tuple[Any, Any, Any]:
        tokenizer, processor, model = super()._load(source, revision)
        end = model.config.text_config.eos_token_id
        ids = tokenizer("a")["input_ids"]
        # The text tower reads its result where this token stands, or at the first token where it stands nowhere: all
        # sentences would be alike. 2 is what old configurations say, and then it reads at the highest id.
        if tokenizer.eos_token_id not in ids or tokenizer.eos_token_id != (max(ids) if end == 2 else end):
            raise ValueError(f"its configuration ends texts with token {end}, its tokenizer writes {ids}")
        return tokenizer, processor, model

    def _load_processor(self, source: str, revision: str | None) -> Any:
        # By name: without torchvision, which nothing here needs, transformers would choose it too, but remark on it.
        return AutoImageProcessor.from_pretrained(source, revision=revision, backend="pil", trust_remote_code=False)

    def embed_pictures(self, pictures: Sequence[Image.Image | Path]) -> Tensor:
        """(N, D) float32 on the CPU, unit length, of N pictures of any size and mode, or their files.

        The model's own processor resizes the shorter side and crops the middle: what lies beyond a square is not seen.

        Raises:
            ValueError: something is not a PIL picture, nor a file with one.
        """
        for i, picture in enumerate(pictures):
            if not isinstance(picture, Image.Image | Path):
                raise ValueError(f"picture {i}: got {type(picture).__name__}; expected a PIL.Image.Image or its file")
        vectors = []
        for start in range(0, len(pictures), self.batch_size):
            batch = [_rgb(picture) for picture in pictures[start : start + self.batch_size]]
            pixels = self.processor(images=batch, return_tensors="pt")["pixel_values"]
            vectors.append(self._run("get_image_features", pixel_values=pixels))
        return self._stack(vectors)


def _rgb(picture: Image.Image | Path) -> Image.Image:
    if isinstance(picture, Image.Image):
        return picture.convert("RGB")
    try:
        with Image.open(picture) as opened:
            return opened.convert("RGB")
    except (OSError, UnidentifiedImageError) as error:
        raise ValueError(f"{picture}: can't be read as a picture ({error}); expected PNG, JPEG or WebP") from error
