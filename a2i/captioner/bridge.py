"""Encoder states → what the decoder attends to.

There are three: `Bridge` passes each state on, or none, `Resampler` sums all of them up in a few, and `KeywordBridge` wraps
either and adds one state for the sources that it recognises.
"""

from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any, Literal, NamedTuple, get_args

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from a2i.bounds import number
from a2i.captioner.label_head import LabelHead

BridgeKind = Literal["auto", "identity", "projection", "none", "resampler", "keywords"]


class Bridged(NamedTuple):
    """What the decoder attends to.

    Attributes:
        states: (B, S, D_decoder).
        mask: (B, S) bool, True for real states.
        evidence: (B,) log-probability of the keywords that were estimated; None where none were.
    """

    states: Tensor
    mask: Tensor
    evidence: Tensor | None = None


def make_bridge(
    encoder_width: int, decoder_width: int, bridge: BridgeKind | dict[str, Any]
) -> "Bridge | Resampler | KeywordBridge":
    """The bridge of a kind, or of a kind with settings of its own: `{"kind": "resampler", "queries": 64}`.

    Args:
        encoder_width: size of an encoder state.
        decoder_width: size that the decoder attends to.
        bridge: `identity`, `projection`, `auto`, `none` (see `Bridge`), `resampler` (see `Resampler`), or `keywords` with
            `inner` and `names` (see `KeywordBridge`).

    Raises:
        ValueError: an unknown kind or setting, or one that does not fit.
    """
    settings = {"kind": bridge} if isinstance(bridge, str) else dict(bridge)
    if settings.get("kind") not in get_args(BridgeKind):
        raise ValueError(f"got bridge {bridge!r}; expected one of {', '.join(get_args(BridgeKind))}")
    try:
        if settings["kind"] == "resampler":
            return Resampler(encoder_width, decoder_width, **{**settings, "kind": "resampler"})
        if settings["kind"] == "keywords":
            return KeywordBridge(encoder_width, decoder_width, **{**settings, "kind": "keywords"})
        return Bridge(encoder_width, decoder_width, **settings)
    except TypeError as error:
        # Without the settings, among which may be hundreds of keywords.
        raise ValueError(f"bridge {settings['kind']}: {error}") from error


class Bridge(nn.Module):
    """Fits the encoder's states (B, S, D_encoder) to the decoder's cross-attention (B, S, D_decoder), each by itself."""

    label_head = None  # it learns nothing from labels

    def __init__(self, encoder_width: int, decoder_width: int, kind: str = "auto") -> None:
        """Choose how.

        Args:
            encoder_width: size of an encoder state.
            decoder_width: size that the decoder attends to.
            kind: `identity` (the published system: both are 768), `projection` (a linear layer), `auto` (identity where the
                sizes are equal, else projection), or `none`: no state is passed on, for a decoder that writes from keywords.

        Raises:
            ValueError: an unknown kind, or identity between different sizes.
        """
        super().__init__()
        if kind not in ("auto", "identity", "projection", "none"):
            raise ValueError(f"got bridge {kind!r}; expected one of auto, identity, projection, none")
        if kind == "auto":
            kind = "identity" if encoder_width == decoder_width else "projection"
        if kind == "identity" and encoder_width != decoder_width:
            raise ValueError(
                f"got bridge 'identity' between states of {encoder_width} and a decoder of {decoder_width}; set"
                " bridge: projection"
            )
        self.kind, self.width = kind, decoder_width
        self.projection = nn.Linear(encoder_width, decoder_width) if kind == "projection" else nn.Identity()

    @property
    def settings(self) -> str:
        return self.kind

    def forward(self, states: Tensor, mask: Tensor, labels: Tensor | None = None) -> Bridged:
        """States (B, S, D_encoder) and mask (B, S) → (B, S, D_decoder) and the same mask, or S = 0 with `none`; labels are not
        used."""
        if self.kind == "none":
            return Bridged(states.new_zeros(len(states), 0, self.width), mask[:, :0])
        return Bridged(self.projection(states), mask)


class Resampler(nn.Module):
    """A few learned queries look at all states, so that the decoder attends to as many for a long clip as for a short one.

    A Perceiver (Jaegle et al. 2021) as Flamingo uses it (Alayrac et al. 2022, section 3.1.1): in every layer the queries
    attend to the states and to themselves, then a feed-forward network; each with a residual and a norm before it. Unlike
    there, the states bring their own sense of time, from the encoder.
    """

    label_head = None  # it learns nothing from labels

    def __init__(
        self,
        encoder_width: int,
        decoder_width: int,
        kind: str = "resampler",
        queries: int = 32,
        width: int | None = None,
        layers: int = 2,
        heads: int = 4,
    ) -> None:
        """Set up.

        Args:
            encoder_width: size of an encoder state.
            decoder_width: size that the decoder attends to.
            kind: its name in the settings.
            queries: Q, how many states the decoder attends to.
            width: of the queries and layers; None for the decoder's.
            layers: how many.
            heads: of each attention; they divide `width`.

        Raises:
            ValueError: a number is out of range, or the heads don't divide the width.
        """
        super().__init__()
        width = decoder_width if width is None else width
        if min(queries, width, layers, heads) < 1 or width % heads:
            raise ValueError(
                f"got queries={queries}, width={width}, layers={layers}, heads={heads}; expected at least 1 each, and heads"
                " that divide the width"
            )
        self.kind = kind
        self.settings = {"kind": kind, "queries": queries, "width": width, "layers": layers, "heads": heads}
        self.queries = nn.Parameter(torch.randn(queries, width) * 0.02)
        self.inward = nn.Linear(encoder_width, width)
        self.layers = nn.ModuleList(_ResamplerLayer(width, heads) for _ in range(layers))
        self.norm = nn.LayerNorm(width)
        self.outward = nn.Linear(width, decoder_width)

    def forward(self, states: Tensor, mask: Tensor, labels: Tensor | None = None) -> Bridged:
        """States (B, S, D_encoder) and mask (B, S), at least one real state per clip → (B, Q, D_decoder) and mask (B, Q).

        Labels are not used.
        """
        states = self.inward(states)
        queries = self.queries.expand(len(states), -1, -1)
        seen = torch.cat((mask, mask.new_ones(queries.shape[:2])), dim=1)
        for layer in self.layers:
            queries = layer(queries, states, seen)
        return Bridged(self.outward(self.norm(queries)), seen[:, states.shape[1] :])


class _ResamplerLayer(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.queries_norm, self.states_norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = nn.MultiheadAttention(width, heads, batch_first=True)
        self.feed_forward = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)
        )

    def forward(self, queries: Tensor, states: Tensor, seen: Tensor) -> Tensor:
        """Queries (B, Q, W), states (B, S, W), and which of both may be attended to (B, S + Q) bool."""
        asked = self.queries_norm(queries)
        values = torch.cat((self.states_norm(states), asked), dim=1)
        attended, _ = self.attention(asked, values, values, key_padding_mask=~seen, need_weights=False)
        queries = queries + attended
        after: Tensor = queries + self.feed_forward(queries)
        return after


class KeywordBridge(nn.Module):
    """Recognises the sources in a clip, one or two, and passes them to the decoder as one more state after an inner bridge's.

    After Koizumi et al. 2020, "A Transformer-based audio captioning model with keyword estimation". There keywords are words of
    the captions; here they are the labels of a data set. A decoder that reads states alone weighs the probability of a wording
    together with that of a source, and so prefers the source with few wordings where two sound alike. With keywords, it has
    only to find the words.

    Which sources are likely and whether there are two are two questions, answered by `label_head` and `several`: either of two
    sources that sound alike may be the only one, and a loud source may be heard together with a soft one.
    """

    single: Tensor
    members: Tensor
    own: Tensor
    mean: Tensor
    std: Tensor

    def __init__(
        self,
        encoder_width: int,
        decoder_width: int,
        names: Sequence[str],
        kind: str = "keywords",
        inner: BridgeKind | dict[str, Any] = "auto",
        alone: Sequence[str] = (),
        unlikely: str | None = None,
        min_probability: float = 0.25,
        min_probability_of_two: float = 0.98,
        hidden: int = 64,
        ranks: int = 4,
        categories: Mapping[str, Sequence[str]] | None = None,
        min_probability_of_category: float = 0.5,
        halves: bool = False,
        window: int | None = None,
        bands: int = 1,
    ) -> None:
        """Set up with random weights.

        Args:
            encoder_width: size of an encoder state.
            decoder_width: size that the decoder attends to.
            names: of the labels.
            kind: its name in the settings.
            inner: the bridge for the states, see `make_bridge`.
            alone: labels that never stand beside another, such as silence.
            unlikely: the label for clips whose keywords have less than `min_probability`; None to keep the likeliest.
            min_probability: minimum probability of the keywords together.
            min_probability_of_two: minimum probability that there are two sources, for two keywords. High, because in
                training clips are mixed, and two sources far more common.
            hidden: units of the network that finds whether there are two sources.
            ranks: number of the largest label probabilities that this network reads.
            categories: by a label that says only what a source is like, such as "animal", the labels that it holds together.
                Where the keywords have less than `min_probability`, the likeliest category is told in their place, if it has
                enough; its probability is its own and that of all its labels.
            min_probability_of_category: minimum probability of a category that is told in place of a source.
            halves: where there are two sources, tell those that are likeliest in the first or the second half of the clip: one
                that follows the other is hardly heard in the whole.
            window: states of a window, see `LabelHead`; None for none.
            bands: likewise.

        Raises:
            ValueError: there are no names, or one twice; `alone`, `unlikely` or a category's are not among them; a state does
                not divide into the bands; or the inner bridge does not fit.
        """
        super().__init__()
        self.names = list(names)
        if not self.names or len(set(self.names)) < len(self.names):
            raise ValueError(f"got keywords {self.names}; expected the names of a data set's labels, each once")
        categories = {name: list(labels) for name, labels in (categories or {}).items()}
        told = {*alone, *([] if unlikely is None else [unlikely]), *categories, *chain(*categories.values())}
        if foreign := told - set(self.names):
            raise ValueError(f"got {sorted(foreign)}, which are none of the keywords {self.names}")
        shares = (min_probability, min_probability_of_two, min_probability_of_category)
        if window is not None:
            number("window", window, 1, whole=True)
            number("bands", bands, 1, whole=True)
            if encoder_width % bands:
                raise ValueError(f"got states of {encoder_width} in bands={bands}; expected bands of equal sizes")
        if hidden < 1 or ranks < 1 or not all(0 <= share <= 1 for share in shares):
            raise ValueError(
                f"got hidden={hidden}, ranks={ranks}, and minimum probabilities of {', '.join(map(str, shares))}; expected at"
                " least 1 of both, and probabilities from 0 to 1"
            )
        self.inner = make_bridge(encoder_width, decoder_width, inner)
        self.settings: dict[str, Any] = {
            **{"kind": kind, "inner": self.inner.settings},
            **{"names": self.names, "alone": list(alone), "unlikely": unlikely},
            **{"min_probability": min_probability, "min_probability_of_two": min_probability_of_two},
            **{"hidden": hidden, "ranks": ranks},
        }
        if categories:
            self.settings |= {"categories": categories, "min_probability_of_category": min_probability_of_category}
        if halves:
            self.settings["halves"] = True
        if window is not None:
            self.settings |= {"window": window, "bands": bands}
        self.label_head = LabelHead(encoder_width, len(self.names), window, bands)
        self.embedding = nn.Linear(len(self.names) + 1, decoder_width, bias=False)
        nn.init.normal_(self.embedding.weight)
        single = torch.tensor([*(self.names.index(name) for name in alone), len(self.names)])
        self.register_buffer("single", single, persistent=False)  # "none of them" stands alone too
        members = torch.zeros(len(self.names) + 1, len(categories))
        for column, (name, labels) in enumerate(categories.items()):
            members[[self.names.index(label) for label in {name, *labels}], column] = 1
        self.register_buffer("members", members, persistent=False)
        own = torch.tensor([self.names.index(name) for name in categories], dtype=torch.long)
        self.register_buffer("own", own, persistent=False)  # the places of the categories among the labels
        ranks = min(ranks, len(self.names) + 1)
        inputs = sum(self.label_head.sizes) + (2 * ranks + 1 if halves else ranks)
        self.register_buffer("mean", torch.zeros(inputs))  # of what `several` reads, over its training clips
        self.register_buffer("std", torch.ones(inputs))
        last = nn.Linear(hidden, 1)
        # One keyword, until it has learnt when there are two.
        nn.init.zeros_(last.weight)
        nn.init.constant_(last.bias, -10.0)
        self.several = nn.Sequential(nn.Linear(inputs, hidden), nn.ReLU(), nn.Dropout(0.3), last)
        self.several.requires_grad_(False)  # it learns after all else, see `a2i.training.several`

    def forward(self, states: Tensor, mask: Tensor, labels: Tensor | None = None) -> Bridged:
        """Bridge the states and add the keywords' state.

        Args:
            states: (B, S, D_encoder).
            mask: (B, S) bool.
            labels: (B, labels + 1) shares of the true labels, to learn from; None to estimate them. Where a clip's are all 0,
                they are not known and are estimated.

        Returns:
            states (B, S + 1, D_decoder), mask, and where labels is None the evidence.
        """
        bridged, evidence = self.inner(states, mask), None
        if labels is None:
            labels, evidence = self.estimate(states, mask)
        elif not bool((known := labels.sum(dim=1, keepdim=True) > 0).all()):
            labels = torch.where(known, labels, self.estimate(states, mask)[0])
        state = self.embedding(labels)[:, None].to(bridged.states.dtype)
        return Bridged(torch.cat((bridged.states, state), dim=1), pad(bridged.mask, (0, 1), value=True), evidence)

    def estimate(self, states: Tensor, states_mask: Tensor) -> tuple[Tensor, Tensor]:
        """Estimate the keywords: the likeliest label, or the two likeliest.

        Args:
            states: (B, S, D_encoder).
            states_mask: (B, S) bool.

        Returns:
            shares (B, labels + 1), as training takes them from the labels: equal for each keyword, with a sum of 1, the last
            for "none of them"; and (B,) finite log-probability that `label_head` gives to the keywords together.
        """
        return self.keywords(self.read(states, states_mask))

    def keywords(self, read: Tensor) -> tuple[Tensor, Tensor]:
        """What is read of clips (P, B, inputs) → as `estimate`."""
        probabilities = self.label_head.told(read[0]).exp()
        inputs = (self.several_inputs(read) - self.mean) / self.std
        several = self.several(inputs)[:, 0].sigmoid() > self.settings["min_probability_of_two"]
        keywords = torch.zeros_like(probabilities).scatter(1, probabilities.argmax(dim=1, keepdim=True), 1.0)
        together = probabilities.amax(dim=1)
        if bool(several.any()):
            parts = self.label_head.told(read[min(1, len(read) - 1) :]).exp()
            best = parts.amax(dim=0).topk(2, dim=1).indices
            two = (several & ~torch.isin(best, self.single).any(dim=1))[:, None]
            keywords = torch.where(two, torch.zeros_like(keywords).scatter(1, best, 1.0), keywords)
            together = torch.where(two[:, 0], (parts.mean(dim=0) * keywords).sum(dim=1), together)
        if self.settings["unlikely"] is not None:
            unlikely = self.names.index(self.settings["unlikely"])
            unsure = together < self.settings["min_probability"]
            instead = torch.full_like(probabilities[:, 0], unlikely, dtype=torch.long)
            found = probabilities[:, unlikely]
            if len(self.own):
                held, which = (probabilities @ self.members).max(dim=1)
                enough = held >= self.settings["min_probability_of_category"]
                instead, found = torch.where(enough, self.own[which], instead), torch.where(enough, held, found)
            alone = torch.zeros_like(keywords).scatter(1, instead[:, None], 1.0)
            keywords = torch.where(unsure[:, None], alone, keywords)
            together = torch.where(unsure, found, together)
        # What underflows to 0 has no logarithm.
        evidence = together.clamp_min(torch.finfo(torch.float32).tiny).log()
        return keywords / keywords.sum(dim=1, keepdim=True), evidence

    def read(self, states: Tensor, states_mask: Tensor) -> Tensor:
        """States (B, S, D_encoder) and mask (B, S) → (P, B, inputs): what `label_head` reads of all, and with `halves` of those
        of the first and of the second half."""
        masks = [states_mask]
        if self.settings.get("halves"):
            count = states_mask.sum(dim=1, keepdim=True)
            half, place = (count + 1) // 2, torch.arange(states_mask.shape[1], device=states_mask.device)
            masks += [place < half, (place >= count - half) & states_mask]
        return torch.stack([self.label_head.read(states, mask) for mask in masks])

    def several_inputs(self, read: Tensor, head: LabelHead | None = None) -> Tensor:
        """What is read of clips (P, B, inputs) → (B, numbers), which `several` reads once they are standardised.

        These are what is read of the whole clip, and the largest log-probabilities of labels; with `halves` also the largest in
        the mean of both halves, and how much the halves differ.

        Args:
            read: see `read`.
            head: that tells the labels; None for `label_head`.
        """
        log_probabilities = (head or self.label_head).told(read)
        ranks = min(self.settings["ranks"], log_probabilities.shape[2])
        inputs = [read[0].float(), log_probabilities[0].topk(ranks, dim=1).values]
        if self.settings.get("halves"):
            first, second = log_probabilities[1:].exp()
            likeliest = ((first + second) / 2).topk(ranks, dim=1).values.clamp_min(torch.finfo(torch.float32).tiny)
            inputs += [likeliest.log(), (first - second).abs().sum(dim=1, keepdim=True)]
        return torch.cat(inputs, dim=1)
