"""Captions ↔ token ids: BOS in front, EOS at the end, masks by length, one shift."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

import torch
from torch import Tensor

from a2i import hub

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerBase

IGNORE = -100  # target of padding; cross-entropy passes over it
END_OF_TEXT = "<|endoftext|>"
REMEMBERED = 100_000  # captions; AudioCaps has half as many
UNKNOWN = "<unk>"  # a word that is not in the vocabulary; left out where ids become text
TokenKind = Literal["bpe", "words"]


@dataclass(frozen=True)
class TokenBatch:
    """Captions ready for teacher forcing: `targets[:, i]` is what follows `inputs[:, : i + 1]`.

    Attributes:
        inputs: (C, L) token ids, BOS first (unless the tokenizer leaves it out), padded at the end.
        targets: (C, L) token ids shifted by one, EOS last, IGNORE where padded.
        mask: (C, L) bool, True for real inputs.
    """

    inputs: Tensor
    targets: Tensor
    mask: Tensor

    def to(self, device: torch.device | str) -> "TokenBatch":
        return TokenBatch(self.inputs.to(device), self.targets.to(device), self.mask.to(device))


class CaptionTokenizer:
    """A `transformers` tokenizer with what captions need.

    GPT-2's tokenizer adds neither BOS nor EOS. Without a BOS the first token is never a target, so that a decoder learns to
    begin with a caption's second token; padding that is recognised by its id takes the EOS out of the loss with it, so that
    captions never end. Here both stand in every caption, and padding is known by length.

    `bos=False` is the published recipe, kept so that its defect can be shown: inputs are a caption's tokens without the
    last, targets its tokens without the first. Generation starts from BOS all the same, as GPT-2's does; having never seen
    one, a decoder begins with what it has learnt to say first, a second token: 'irds' of B|irds. EOS ends captions in both,
    so that BOS is the one difference.
    """

    def __init__(self, tokenizer: "PreTrainedTokenizerBase", max_tokens: int = 64, bos: bool = True) -> None:
        """Wrap a tokenizer.

        Args:
            tokenizer: any that has an EOS token; without a BOS token of its own, EOS begins captions too, as in GPT-2.
            max_tokens: tokens of the longest caption, BOS and EOS not counted. What is longer is cut, without an EOS, so
                that a decoder does not learn to stop in the middle of a sentence.
            bos: whether BOS begins the captions that are learnt from; see the class.

        Raises:
            ValueError: the tokenizer has no EOS token, or `max_tokens` leaves nothing to learn.
        """
        if tokenizer.eos_token_id is None:
            raise ValueError(
                f"{tokenizer.name_or_path}: tokenizer has no EOS token; expected one that marks captions' ends"
            )
        if max_tokens < (fewest := 1 if bos else 2):
            raise ValueError(f"got max_tokens={max_tokens}; expected at least {fewest}")
        self.tokenizer = tokenizer
        self.max_tokens = max_tokens
        self.bos = bos
        self.eos_id: int = tokenizer.eos_token_id
        self.bos_id: int = self.eos_id if tokenizer.bos_token_id is None else tokenizer.bos_token_id
        self._ids: dict[str, list[int]] = {}  # of captions seen before: every epoch has the same

    def __len__(self) -> int:
        """Size of the vocabulary in tokens."""
        return len(self.tokenizer)

    def encode(self, captions: Sequence[str]) -> TokenBatch:
        """Tokenise captions for teacher forcing.

        Raises:
            ValueError: there are none, or one is blank.
        """
        captions = [" ".join(caption.split()) for caption in captions]
        if not captions or not all(captions):
            raise ValueError(f"got captions {captions}; expected at least one, none of them blank")
        if len(self._ids) > REMEMBERED:
            self._ids.clear()
        if new := [caption for caption in captions if caption not in self._ids]:
            ids = self.tokenizer(new, add_special_tokens=False, split_special_tokens=True)["input_ids"]
            self._ids.update(zip(new, ids, strict=True))
        rows = [self._ids[caption] for caption in captions]
        rows = [[*row, self.eos_id] if len(row) <= self.max_tokens else row[: self.max_tokens] for row in rows]
        if self.bos:
            rows = [[self.bos_id, *row] for row in rows]
        longest = max(map(len, rows))
        ids = torch.tensor([row + [self.eos_id] * (longest - len(row)) for row in rows])
        mask = torch.arange(1, longest) < torch.tensor([[len(row)] for row in rows])
        return TokenBatch(ids[:, :-1].where(mask, self.eos_id), ids[:, 1:].where(mask, IGNORE), mask)

    def decode(self, ids: Iterable[int]) -> str:
        """The caption that token ids spell: from the first that is no BOS to the first EOS; white space folded."""
        row = list(ids)
        if row and row[0] == self.bos_id:
            row = row[1:]
        if self.eos_id in row:
            row = row[: row.index(self.eos_id)]
        text = str(self.tokenizer.decode(row, skip_special_tokens=True, clean_up_tokenization_spaces=False))
        return " ".join(text.split())

    def save(self, folder: str | Path) -> None:
        """Write the tokenizer's files, as `transformers` names them."""
        self.tokenizer.save_pretrained(str(folder))

    @classmethod
    def load(
        cls, name: str | Path, max_tokens: int = 64, bos: bool = True, revision: str | None = None
    ) -> "CaptionTokenizer":
        """Load a Hub id or a local folder; a folder may hold just GPT-2's `vocab.json` and `merges.txt`.

        Args:
            name: of the tokenizer.
            max_tokens: as for the class.
            bos: as for the class.
            revision: branch, tag or commit on the Hub.

        Raises:
            ValueError: no tokenizer could be loaded from there.
        """
        from transformers import AutoTokenizer, GPT2Tokenizer

        folder = Path(name)
        bare = (folder / "vocab.json").exists() and not (folder / "tokenizer_config.json").exists()
        try:
            hub.look_up(name, revision)
            load = (GPT2Tokenizer if bare else AutoTokenizer).from_pretrained
            tokenizer = load(str(name), trust_remote_code=False, revision=revision or "main")
            if len(tokenizer) <= len(tokenizer.all_special_ids):
                raise ValueError("what is there knows no tokens")  # transformers makes one of a model's settings alone
        except (*hub.failures(), ValueError, TypeError) as error:
            raise ValueError(
                f"{name}: no tokenizer found ({hub.why(error)}); expected a Hub id or a folder with tokenizer.json, or"
                " with vocab.json and merges.txt"
            ) from error
        return cls(tokenizer, max_tokens, bos)

    @classmethod
    def train(
        cls,
        captions: Iterable[str],
        vocab_size: int | None,
        max_tokens: int = 64,
        bos: bool = True,
        kind: TokenKind = "bpe",
    ) -> "CaptionTokenizer":
        """Learn a tokenizer from captions, for a decoder trained from nothing.

        Args:
            captions: the training captions.
            vocab_size: tokens in all; of `bpe` at least 257 (every byte and the end of text), of `words` None for all words.
            max_tokens: as for the class.
            bos: as for the class.
            kind: `bpe`, a byte-level BPE of GPT-2's kind, to which a space is put before the first word, so that it is the
                same token wherever in a sentence it stands; or `words`, whole words in small letters without punctuation,
                as audio captioning papers have them, where what is not in the vocabulary can't be said.

        Raises:
            ValueError: an unknown kind, or too small a vocabulary.
        """
        from transformers import PreTrainedTokenizerFast

        if kind not in get_args(TokenKind):
            raise ValueError(f"got tokenizer kind {kind!r}; expected one of {', '.join(get_args(TokenKind))}")
        learn = _learn_bpe if kind == "bpe" else _learn_words
        tokenizer = learn((" ".join(caption.split()) for caption in captions), vocab_size)
        unknown = {"unk_token": UNKNOWN} if kind == "words" else {}
        ends = {"bos_token": END_OF_TEXT, "eos_token": END_OF_TEXT}
        return cls(PreTrainedTokenizerFast(tokenizer_object=tokenizer, **ends, **unknown), max_tokens, bos)


def _learn_bpe(captions: Iterable[str], vocab_size: int | None) -> "Tokenizer":
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    if vocab_size is None or vocab_size < 257:
        raise ValueError(f"got vocab_size={vocab_size}; expected at least 257 (every byte and the end of text)")
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[END_OF_TEXT],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    bpe.train_from_iterator(captions, trainer)
    return bpe


def _learn_words(captions: Iterable[str], vocab_size: int | None) -> "Tokenizer":
    from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, trainers

    if vocab_size is not None and vocab_size < 3:
        raise ValueError(
            f"got vocab_size={vocab_size}; expected at least 3 (a word, the unknown one, the end), or null"
        )
    words = Tokenizer(models.WordLevel(unk_token=UNKNOWN))
    punctuation = normalizers.Replace(Regex(r"[^\w\s']"), " ")
    words.normalizer = normalizers.Sequence([normalizers.Lowercase(), punctuation])
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    size = {} if vocab_size is None else {"vocab_size": vocab_size}
    trainer = trainers.WordLevelTrainer(special_tokens=[END_OF_TEXT, UNKNOWN], show_progress=False, **size)
    words.train_from_iterator(captions, trainer)
    return words
