"""Metrics of pictures: picture against sentence, picture against sound, and who failed, the captioner or the painter.

CLIPScore and RefCLIPScore: Hessel et al., "CLIPScore: A Reference-free Evaluation Metric for Image Captioning", EMNLP
2021 (arXiv:2104.08718). All scores here are on the paper's scale, 2.5 · max(cos, 0), in [0, 2.5]. That of torchmetrics is
another: 100 · cos, so 40 times as much, cut at 0 only after the mean over pairs, and of captions without the paper's
'A photo depicts '.

`CLIP` and `CLAP` hold a model; `score_pictures`, `blame_pictures` and `compare_audio_image` are thin helpers that embed
with them; the rest are pure functions of embeddings, (N, D) at unit length, or of similarities. A score means nothing
without its model: `settings` says which. A cosine of picture and sentence does not compare with one of two sentences (in
CLIP's space pictures lie apart from all text), so nothing here subtracts one from the other.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import soxr
import torch
from PIL import Image
from safetensors import SafetensorError
from torch import Tensor
from torch.nn.functional import normalize
from transformers import AutoConfig, AutoImageProcessor, AutoTokenizer, ClapFeatureExtractor, ClapModel, CLIPModel
from transformers.utils import logging

from a2i.metrics.sentence_model import max_tokens

W = 2.5  # CLIPScore's weight: stretches the cosines that CLIP really gives over about [0, 1]
PREFIX = "A photo depicts "  # the paper's, before captions and references alike
RECALL_AT = (1, 5, 10)
_NOISE = 1e-6  # similarities nearer than this differ by rounding alone: unit vectors in float32


class Texts(NamedTuple):
    """Sentences embedded."""

    vectors: Tensor  # (N, D) float32 on the CPU, unit length
    unseen_tokens: tuple[int, ...]  # N: tokens of each sentence's end that the model did not see


class _Model:
    """What CLIP and CLAP share: a text tower, and a way to be loaded."""

    kind: str
    model_class: Any

    def __init__(
        self,
        model: str | Path,
        revision: str | None = None,
        device: str | torch.device | None = None,
        batch_size: int = 32,
    ) -> None:
        """Load a model.

        Args:
            model: a local folder in transformers' format, or a Hub id.
            revision: branch, tag or commit on the Hub.
            device: None for CUDA where there is one, else the CPU.
            batch_size: pictures, sounds or texts at once. It does not change the embeddings.

        Raises:
            ValueError: the model can't be had, is not of this kind, or lacks weights.
        """
        if batch_size < 1:
            raise ValueError(f"got batch_size {batch_size}; expected at least 1")
        self.name = str(model)
        self.device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        self.batch_size = batch_size
        logging.disable_progress_bar()  # a bar over some hundred tensors that are there at once
        try:
            self.tokenizer, self.processor, self.model = self._load(self.name, revision)
        except (OSError, ValueError, KeyError, RuntimeError, ImportError, SafetensorError) as error:
            why = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise ValueError(
                f"{self.name}: no {self.kind.upper()} model to be had there ({why}); expected a Hub id, which needs the "
                "network once, or a local folder in transformers' format, with tokenizer and preprocessor"
            ) from error
        self.model.eval().requires_grad_(False).to(self.device)
        self.max_tokens = max_tokens(self.tokenizer, self.model.text_model)

    def _load(self, source: str, revision: str | None) -> tuple[Any, Any, Any]:
        config = AutoConfig.from_pretrained(source, revision=revision, trust_remote_code=False)
        if config.model_type != self.kind:
            raise ValueError(f"its type is {config.model_type!r}, not {self.kind!r}")
        tokenizer = AutoTokenizer.from_pretrained(source, revision=revision, trust_remote_code=False)
        processor = self._load_processor(source, revision)
        model, report = self.model_class.from_pretrained(
            source, revision=revision, dtype=torch.float32, output_loading_info=True
        )
        if report["missing_keys"]:  # transformers would fill them with random numbers
            raise ValueError(f"{len(report['missing_keys'])} weights are missing: {min(report['missing_keys'])}, …")
        return tokenizer, processor, model

    def _load_processor(self, source: str, revision: str | None) -> Any:
        raise NotImplementedError

    @property
    def settings(self) -> dict[str, Any]:
        """What made the embeddings, as plain values for a report or a log."""
        packages = ("a2i", "torch", "transformers", "tokenizers", "pillow", "soxr")
        return {
            "library": "a2i",
            "model": self.name,
            "revision": getattr(self.model.config, "_commit_hash", None),
            "max_tokens": self.max_tokens,
            "float32_matmul_precision": torch.get_float32_matmul_precision(),
            "versions": {package: found for package in packages if (found := _version(package))},
        }

    def embed_texts(self, texts: Sequence[str]) -> Texts:
        """Embed sentences; what is longer than the model takes (77 tokens in most CLIPs) is cut, and told.

        Raises:
            ValueError: something is not a string.
        """
        if isinstance(texts, str) or not all(isinstance(text, str) for text in texts):
            raise ValueError(f"got {texts!r:.200}; expected a list of strings")
        cut: dict[str, Any] = {"truncation": True, "max_length": self.max_tokens} if self.max_tokens else {}
        vectors, unseen = [], []
        for start in range(0, len(texts), self.batch_size):
            batch = list(texts[start : start + self.batch_size])
            whole = self.tokenizer(batch, truncation=False, verbose=False)["input_ids"]
            seen = self.tokenizer(batch, padding=True, return_attention_mask=True, return_tensors="pt", **cut)
            ids, mask = seen["input_ids"], seen["attention_mask"]
            unseen += [len(full) - int(kept.sum()) for full, kept in zip(whole, mask, strict=True)]
            vectors.append(self._run("get_text_features", input_ids=ids, attention_mask=mask))
        return Texts(self._stack(vectors), tuple(unseen))

    @torch.no_grad()
    def _run(self, method: str, **inputs: Tensor) -> Tensor:
        """A batch's embeddings (B, D), unit length, on the CPU."""
        with torch.autocast(self.device.type, enabled=False):
            given = {key: value.to(self.device) for key, value in inputs.items()}
            features = getattr(self.model, method)(**given).pooler_output
        return normalize(features, dim=-1).cpu()

    def _stack(self, vectors: Sequence[Tensor]) -> Tensor:
        return torch.cat(list(vectors)) if vectors else torch.empty(0, self.model.config.projection_dim)


class CLIP(_Model):
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

    def embed_pictures(self, pictures: Sequence[Image.Image]) -> Tensor:
        """(N, D) float32 on the CPU, unit length, of N pictures of any size and mode.

        The model's own processor resizes the shorter side and crops the middle: what lies beyond a square is not seen.

        Raises:
            ValueError: something is not a PIL picture.
        """
        for i, picture in enumerate(pictures):
            if not isinstance(picture, Image.Image):
                raise ValueError(f"picture {i}: got {type(picture).__name__}; expected a PIL.Image.Image")
        vectors = []
        for start in range(0, len(pictures), self.batch_size):
            batch = [picture.convert("RGB") for picture in pictures[start : start + self.batch_size]]
            pixels = self.processor(images=batch, return_tensors="pt")["pixel_values"]
            vectors.append(self._run("get_image_features", pixel_values=pixels))
        return self._stack(vectors)


class CLAP(_Model):
    """Embeds sounds and sentences in one space: Wu et al. 2023 (arXiv:2211.06687)."""

    kind = "clap"
    model_class = ClapModel

    def _load_processor(self, source: str, revision: str | None) -> Any:
        return ClapFeatureExtractor.from_pretrained(source, revision=revision or "main")

    def embed_sounds(self, waveforms: Sequence[np.ndarray], rate: int) -> Tensor:
        """(N, D) float32 on the CPU, unit length, of N waveforms (samples,) float32 in [-1, 1] at `rate` Hz.

        They are resampled to the model's rate, mostly 48 kHz; from 16 kHz, nothing above 8 kHz is there to be heard. Of a
        sound longer than the model's window, mostly 10 s, transformers embeds pieces drawn at random. Here it is split
        into equal pieces, as few as fit, whose embeddings are averaged: all is heard, and the same every time.

        Raises:
            ValueError: a waveform has another shape, is empty or not finite; or the rate is not above 0.
        """
        pieces: list[np.ndarray] = []
        owners: list[int] = []
        window = self.processor.nb_max_samples
        for i, waveform in enumerate(waveforms):
            if rate < 1 or np.ndim(waveform) != 1 or not len(waveform) or not np.isfinite(waveform).all():
                raise ValueError(
                    f"sound {i}: got shape {np.shape(waveform)} at {rate} Hz; expected (samples,), finite, at least one"
                )
            sound = soxr.resample(np.asarray(waveform, dtype=np.float32), rate, self.processor.sampling_rate)
            sound = sound if len(sound) else np.zeros(1, dtype=np.float32)  # less than a sample of the model's rate
            found = np.array_split(sound, -(-len(sound) // window))
            pieces += found
            owners += [i] * len(found)
        vectors = [self._hear(pieces[i : i + self.batch_size]) for i in range(0, len(pieces), self.batch_size)]
        total = torch.zeros(len(waveforms), self.model.config.projection_dim)
        return normalize(total.index_add(0, torch.tensor(owners, dtype=torch.long), self._stack(vectors)), dim=-1)

    def _hear(self, pieces: Sequence[np.ndarray]) -> Tensor:
        features = self.processor(list(pieces), sampling_rate=self.processor.sampling_rate, return_tensors="pt")
        # The processor calls one short sound of a batch, drawn at random, a long one: for training. None is.
        longer = torch.zeros(len(pieces), 1, dtype=torch.bool)
        return self._run("get_audio_features", input_features=features["input_features"].float(), is_longer=longer)


# --- Picture against sentence


def clip_score(pictures: Tensor, captions: Tensor, w: float = W) -> Tensor:
    """CLIPScore of N pictures with a caption each: w · max(cos, 0), (N,), on the paper's scale (w = 2.5).

    Args:
        pictures, captions: (N, D) each, unit length.
        w: weight.

    Raises:
        ValueError: the shapes differ.
    """
    _same_shape(pictures, captions)
    return w * (pictures * captions).sum(dim=1).clamp(min=0)


def ref_clip_score(pictures: Tensor, captions: Tensor, references: Sequence[Tensor], w: float = W) -> Tensor:
    """RefCLIPScore: harmonic mean of CLIPScore and of the caption's largest max(cos, 0) with a reference, (N,).

    As in the paper, only the first of the two is weighted by w. 0 where one of them is.

    Args:
        pictures, captions: as in `clip_score`.
        references: N tensors (R, D), unit length; R at least 1, and may differ.

    Raises:
        ValueError: the shapes do not fit, or a caption has no reference.
    """
    _check_references(captions, references)
    seen = clip_score(pictures, captions, w)
    said = torch.stack([(group @ caption).amax() for caption, group in zip(captions, references, strict=True)])
    said = said.clamp(min=0)
    return (2 * seen * said / (seen + said)).nan_to_num(nan=0.0)


def reference_score(pictures: Tensor, references: Sequence[Tensor], w: float = W) -> Tensor:
    """Mean CLIPScore of each picture with its references, (N,); arguments as in `ref_clip_score`.

    The mean, not the maximum: the maximum grows with the number of references, and rewards a picture that shows what one
    person heard as much as one that shows what all did.
    """
    _check_references(pictures, references)
    pairs = zip(pictures, references, strict=True)
    return torch.stack([w * (group @ picture).clamp(min=0).mean() for picture, group in pairs])


@dataclass(frozen=True, eq=False)
class PictureScores:
    """Scores of N pictures, (N,) float32 each; references may be None."""

    clip_score: Tensor  # picture with caption
    ref_clip_score: Tensor | None  # the same, and caption with references
    reference_score: Tensor | None  # picture with references, whatever the caption
    unseen_tokens: tuple[int, ...]  # of each caption's end, beyond what the model takes
    unseen_reference_tokens: tuple[int, ...] | None  # likewise, all references of a clip together
    settings: dict[str, Any]


def score_pictures(
    clip: CLIP,
    pictures: Sequence[Image.Image],
    captions: Sequence[str],
    references: Sequence[Sequence[str]] | None = None,
    prefix: str = PREFIX,
) -> PictureScores:
    """Embed and score pictures; scale: the paper's, 2.5 · max(cos, 0).

    A blank caption scores 0, where CLIP would give the bare prefix the score of a poor caption. Blank references are
    left out.

    Raises:
        ValueError: the lists differ in length, a clip has no reference, or something is of the wrong type.
    """
    _same_length(pictures=pictures, captions=captions)
    seen = clip.embed_pictures(pictures)
    said = clip.embed_texts([prefix + caption for caption in captions])
    worded = torch.tensor([float(bool(caption.strip())) for caption in captions])
    settings = {**clip.settings, **_scale(prefix)}
    score = clip_score(seen, said.vectors) * worded
    if references is None:
        return PictureScores(score, None, None, said.unseen_tokens, None, settings)
    _same_length(pictures=pictures, references=references)
    groups, unseen = _embed_groups(clip, references, prefix)
    with_references = ref_clip_score(seen, said.vectors, groups) * worded
    return PictureScores(score, with_references, reference_score(seen, groups), said.unseen_tokens, unseen, settings)


# --- Who failed


@dataclass(frozen=True, eq=False)
class Blame:
    """Pictures of N clips drawn from the predicted and from a human caption, scored against the references; (N,) each."""

    predicted: Tensor  # mean CLIPScore of the predicted caption's picture with the clip's references
    human: Tensor  # likewise of the human caption's picture
    predicted_chance: Tensor  # mean of the same picture's scores with the other clips' references
    human_chance: Tensor
    settings: dict[str, Any] | None = None

    @property
    def captioner(self) -> Tensor:
        """What the captioner's words cost: how much better the same painter does with a person's."""
        return self.human - self.predicted

    @property
    def conveyed(self) -> Tensor:
        """What the painter conveys of a person's words: how much nearer the picture is to its clip than to others.

        0 is chance. There is no such mark for a perfect painter: how like its own words a picture can be is not known,
        so what the painter loses on the way cannot be put beside what the captioner loses.
        """
        return self.human - self.human_chance


class Verdict(NamedTuple):
    """Who failed: 'painter', 'captioner', 'nobody' or 'human'; and what that means, in a sentence."""

    who: str
    why: str


def blame(predicted: Tensor, human: Tensor, references: Sequence[Tensor], w: float = W) -> Blame:
    """Hold pictures drawn from predicted and from human captions against the references.

    Both must be drawn by the same painter with the same seed. The human caption that was drawn must not be among the
    references (the painter would be asked to match the very sentence it drew): `blame_pictures` sees to that. Chance
    comes from the other clips, so these should sound different from each other.

    Args:
        predicted, human: (N, D) embedded pictures, unit length; N at least 2.
        references: N tensors (R, D), embedded sentences.

    Raises:
        ValueError: the shapes do not fit, there is one clip alone, or a clip has no reference.
    """
    _same_shape(predicted, human)
    if len(human) < 2:
        raise ValueError(f"got {len(human)} clips; expected at least 2: the other clips' references say what chance is")
    predicted_score, predicted_chance = _against_all(predicted, references, w)
    human_score, human_chance = _against_all(human, references, w)
    return Blame(predicted_score, human_score, predicted_chance, human_chance)


def verdict(captioner: tuple[float, float], conveyed: tuple[float, float]) -> Verdict:
    """Who failed, from confidence intervals (low, high) of the means of `Blame.captioner` and `Blame.conveyed`.

    Raises:
        ValueError: an interval's low is above its high, or not a number.
    """
    for low, high in (captioner, conveyed):
        if not low <= high:
            raise ValueError(f"got the interval ({low}, {high}); expected (low, high)")
    if conveyed[0] <= 0:
        return Verdict(
            "painter",
            "Pictures of human captions are not shown to be nearer their own clips than others, so this painter, seen "
            "through this CLIP, can tell nothing about the captioner either.",
        )
    if captioner[0] > 0:
        return Verdict("captioner", "With human captions the same painter draws nearer to the references.")
    if captioner[1] < 0:
        return Verdict("human", "Pictures of predicted captions are nearer to the references than of human captions.")
    return Verdict("nobody", "No difference is shown between pictures of predicted and of human captions.")


def blame_pictures(
    clip: CLIP,
    predicted: Sequence[Image.Image],
    human: Sequence[Image.Image],
    human_captions: Sequence[str],
    references: Sequence[Sequence[str]],
    prefix: str = PREFIX,
) -> Blame:
    """Embed pictures and references, and `blame`.

    Args:
        predicted: N pictures of the predicted captions.
        human: N pictures of `human_captions`, by the same painter with the same seeds.
        human_captions: those that were drawn; left out where they are among the references.
        references: N lists, with at least one besides the drawn one.

    Raises:
        ValueError: as in `blame`, the lists differ in length, or no reference remains.
    """
    _same_length(predicted=predicted, human=human, human_captions=human_captions, references=references)
    others = [
        [reference for reference in group if reference.strip() != drawn.strip()]
        for drawn, group in zip(human_captions, references, strict=True)
    ]
    groups, _ = _embed_groups(clip, others, prefix)
    found = blame(clip.embed_pictures(predicted), clip.embed_pictures(human), groups)
    settings = {**clip.settings, **_scale(prefix), "references": "mean over those that were not drawn"}
    return Blame(found.predicted, found.human, found.predicted_chance, found.human_chance, settings)


# --- Picture against sound


def audio_image_similarity(audio_profiles: Tensor, image_profiles: Tensor) -> Tensor:
    """How alike sounds and pictures are by what sentences each is near to, (N, M) float64 in [-1, 1].

    A profile is a sound's (by CLAP) or a picture's (by CLIP) cosines with the P sentences of one pinned pool. The two
    models have no space in common, and none of their vectors or cosines are compared: each sentence's cosines are
    standardised over the sounds, and apart from that over the pictures (some sentences are near to everything, and CLAP's
    and CLIP's cosines differ in size); the similarity is then Pearson's correlation of a sound's profile with a
    picture's. No picture's caption enters.

    It says whether sound and picture stand out from their sets in the same sentences. It is no better than both models
    and the pool; a pool that tells what is heard and cannot be seen adds noise. Standardising makes a value depend on the
    whole set: compare values only over the same sounds, models and pool, and give some dozens of each. A sound or picture
    that stands out in nothing, as where a painter always draws the same, has 0 with all.

    Args:
        audio_profiles: (N, P), N at least 2, P at least 3.
        image_profiles: (M, P), M at least 2; the same sentences in the same order.

    Raises:
        ValueError: another shape, or something is not finite.
    """
    for profiles in (audio_profiles, image_profiles):
        if profiles.ndim != 2 or len(profiles) < 2 or profiles.shape[1] < 3 or not profiles.isfinite().all():
            raise ValueError(
                f"got profiles of shape {tuple(profiles.shape)}; expected (at least 2, at least 3 sentences), finite"
            )
    if audio_profiles.shape[1] != image_profiles.shape[1]:
        raise ValueError(
            f"got profiles over {audio_profiles.shape[1]} and {image_profiles.shape[1]} sentences; expected one pool"
        )
    return (_standardised(audio_profiles) @ _standardised(image_profiles).T).clamp(-1, 1)


def _standardised(profiles: Tensor) -> Tensor:
    """Each column standardised, then each row centred and at unit length; zeros where there is no spread."""
    profiles = profiles.double()
    centred = profiles - profiles.mean(dim=0)
    spread = centred.std(dim=0, correction=0)
    columns = torch.where(spread > _NOISE, centred / spread, 0.0)
    rows = columns - columns.mean(dim=1, keepdim=True)
    length = rows.norm(dim=1, keepdim=True)
    return torch.where(length > _NOISE, rows / length, 0.0)


@dataclass(frozen=True, eq=False)
class AudioImage:
    """Similarity of N sounds with M pictures."""

    similarity: Tensor  # (N, M); for `retrieval`, and its diagonal for clips with their own pictures
    unseen_tokens: dict[str, int]  # of the pool's sentences: `audio`, `image`
    settings: dict[str, Any]


def compare_audio_image(
    clap: CLAP,
    clip: CLIP,
    waveforms: Sequence[np.ndarray],
    rate: int,
    pictures: Sequence[Image.Image],
    sentences: Sequence[str],
) -> AudioImage:
    """Embed sounds (at `rate` Hz), pictures and a pool of sentences; `audio_image_similarity` of the profiles.

    Args:
        sentences: the pool, at least 3, all different; best from a split that is not scored. `settings` has its hash.

    Raises:
        ValueError: the pool does not fit, or as in the functions it calls.
    """
    if isinstance(sentences, str) or len(set(sentences)) != len(sentences):
        raise ValueError("got a pool with sentences that come twice, or a string; expected a list, all different")
    heard, seen = clap.embed_texts(sentences), clip.embed_texts(sentences)
    audio = clap.embed_sounds(waveforms, rate) @ heard.vectors.T
    image = clip.embed_pictures(pictures) @ seen.vectors.T
    settings = {
        "audio": clap.settings,
        "image": clip.settings,
        "audio_rate": rate,
        "method": "correlation of standardised profiles over a pool of sentences",
        "pool": pool_settings(sentences),
    }
    unseen = {"audio": sum(heard.unseen_tokens), "image": sum(seen.unseen_tokens)}
    return AudioImage(audio_image_similarity(audio, image), unseen, settings)


def pool_settings(sentences: Sequence[str]) -> dict[str, Any]:
    """What pins a pool: its size, and the SHA-256 of its sentences in their order (as a JSON list in UTF-8)."""
    text = json.dumps(list(sentences), ensure_ascii=False)
    return {"sentences": len(sentences), "sha256": hashlib.sha256(text.encode("utf-8")).hexdigest()}


# --- Retrieval


@dataclass(frozen=True, eq=False)
class Ranking:
    """Where each of N queries finds its own partner among N; (N,) float64 each, so that a caller can resample them.

    Partners that are equally near share their places: `rank` is the mean of these, `recall` and `reciprocal_rank` are the
    mean over every order they could come in. Where all are equal, that is chance: rank (N + 1) / 2, recall k / N.
    """

    rank: Tensor  # from 1, the nearest
    recall: dict[int, Tensor]  # at 1, 5 and 10: 1 where the partner is among the k nearest; 1 for all where N <= k
    reciprocal_rank: Tensor

    @property
    def summary(self) -> dict[str, float]:
        """Means over queries, the median rank (of an even number: the mean of the middle two), and N, `count`."""
        return {
            **{f"recall_at_{k}": float(values.mean()) for k, values in self.recall.items()},
            "median_rank": float(self.rank.quantile(0.5)),
            "mean_reciprocal_rank": float(self.reciprocal_rank.mean()),
            "count": float(len(self.rank)),
        }


class Retrieval(NamedTuple):
    """Both directions of retrieval between two modalities."""

    forward: Ranking  # a row, as a sound, looks for its column, as its picture
    backward: Ranking  # a column looks for its row


def retrieval(similarity: Tensor) -> Retrieval:
    """Retrieval over a pool of N pairs, from their similarities.

    All of it depends on N and on the pool: compare figures over the same pool only.

    Args:
        similarity: (N, N), any scale, the higher the nearer; pair i is row i with column i. What differs by no more than
            1e-6, rounding of float32 cosines, counts as equal.

    Raises:
        ValueError: not a square matrix, empty, or not finite.
    """
    if similarity.ndim != 2 or similarity.shape[0] != similarity.shape[1] or not len(similarity):
        raise ValueError(f"got similarities of shape {tuple(similarity.shape)}; expected (N, N), N at least 1")
    if not similarity.isfinite().all():
        raise ValueError("got similarities that are not finite; expected numbers, the higher the nearer")
    return Retrieval(_rank(similarity.double()), _rank(similarity.double().T))


def _rank(similarity: Tensor) -> Ranking:
    own = similarity.diagonal().unsqueeze(1)
    nearer = (similarity > own + _NOISE).sum(dim=1)
    equal = ((similarity - own).abs() <= _NOISE).sum(dim=1)  # itself among them
    places = torch.arange(1, len(similarity) + 1, device=similarity.device, dtype=torch.float64)
    sums = torch.cat([places.new_zeros(1), (1 / places).cumsum(dim=0)])  # sums[n] = 1 + 1/2 + … + 1/n
    return Ranking(
        rank=nearer + (equal + 1) / 2.0,
        recall={k: ((k - nearer) / equal.double()).clamp(0, 1) for k in RECALL_AT},
        reciprocal_rank=(sums[nearer + equal] - sums[nearer]) / equal,
    )


# --- Shared


def _against_all(pictures: Tensor, references: Sequence[Tensor], w: float) -> tuple[Tensor, Tensor]:
    """Mean score of each picture with its own references, and the mean over the other clips of that with theirs."""
    _check_references(pictures, references)
    flat = torch.cat(list(references))
    count = len(pictures)
    sizes = torch.tensor([len(group) for group in references])
    clips = torch.arange(count).repeat_interleave(sizes)
    own, others = [], []
    for i, picture in enumerate(pictures):  # one at a time: all pairs of a large set would not fit in memory
        scores = w * (flat @ picture).double().clamp(min=0)
        means = scores.new_zeros(count).index_add(0, clips, scores) / sizes
        own.append(means[i])
        others.append((means.sum() - means[i]) / max(1, count - 1))
    return torch.stack(own).float(), torch.stack(others).float()


def _embed_groups(clip: CLIP, references: Sequence[Sequence[str]], prefix: str) -> tuple[list[Tensor], tuple[int, ...]]:
    """References of each clip, (R, D) each, and how many tokens of them were not seen; blank ones left out."""
    worded = []
    for i, group in enumerate(references):
        if isinstance(group, str) or not all(isinstance(reference, str) for reference in group):
            raise ValueError(f"clip {i}: got the references {group!r:.200}; expected a list of strings")
        worded.append([reference for reference in group if reference.strip()])
        if not worded[-1]:
            raise ValueError(f"clip {i}: got {list(group)!r:.200}; expected at least one reference that can be used")
    found = clip.embed_texts([prefix + reference for group in worded for reference in group])
    sizes = [len(group) for group in worded]
    unseen = torch.tensor(found.unseen_tokens).split(sizes)
    return list(found.vectors.split(sizes)), tuple(int(group.sum()) for group in unseen)


def _check_references(queries: Tensor, references: Sequence[Tensor]) -> None:
    width = queries.shape[-1]
    fit = [group.ndim == 2 and len(group) > 0 and group.shape[1] == width for group in references]
    if not (all(fit) and len(fit) == len(queries) > 0):
        raise ValueError(
            f"got {tuple(queries.shape)} and references {[tuple(group.shape) for group in references][:5]}; expected one "
            "tensor (R, D) of references, R at least 1, for each of at least one clip"
        )


def _same_shape(first: Tensor, second: Tensor) -> None:
    if first.ndim != 2 or first.shape != second.shape:
        raise ValueError(f"got embeddings {tuple(first.shape)} and {tuple(second.shape)}; expected (N, D) twice")


def _same_length(**lists: Sequence[Any]) -> None:
    told = {name: "a string" if isinstance(values, str) else len(values) for name, values in lists.items()}
    if len(set(told.values())) > 1 or set(told.values()) & {0, "a string"}:
        raise ValueError(f"got {told}; expected lists of one length, at least 1")


def _scale(prefix: str) -> dict[str, Any]:
    return {"w": W, "scale": f"{W} * max(cos, 0)", "prefix": prefix}


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:  # this project itself, when it runs from a checkout
        return None
