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

from a2i.metrics.pictures.attribution import Blame, Verdict, blame, blame_pictures, verdict
from a2i.metrics.pictures.clap import CLAP
from a2i.metrics.pictures.clip import CLIP
from a2i.metrics.pictures.clipscore import (
    PREFIX,
    PictureScores,
    W,
    clip_score,
    ref_clip_score,
    reference_score,
    score_pictures,
)
from a2i.metrics.pictures.ranking import Ranking, Retrieval, retrieval
from a2i.metrics.pictures.similarity import AudioImage, audio_image_similarity, compare_audio_image, pool_settings
from a2i.metrics.pictures.towers import Texts

__all__ = [
    "CLAP",
    "CLIP",
    "PREFIX",
    "AudioImage",
    "Blame",
    "PictureScores",
    "Ranking",
    "Retrieval",
    "Texts",
    "Verdict",
    "W",
    "audio_image_similarity",
    "blame",
    "blame_pictures",
    "clip_score",
    "compare_audio_image",
    "pool_settings",
    "ref_clip_score",
    "reference_score",
    "retrieval",
    "score_pictures",
    "verdict",
]
