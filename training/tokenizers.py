"""The two tokenizers: every word of the vocabulary is one token, every other text is spelled out. Any Unicode text is taken.

CLIP's spells unknown text in bytes; T5's in letters, with one token for letters of scripts that it does not have, as Google's does.
Both read capitals as small letters.
"""

import io
import json

import sentencepiece
from sentencepiece import sentencepiece_model_pb2
from tokenizers.pre_tokenizers import ByteLevel
from tokenizers.trainers import BpeTrainer
from transformers import CLIPTokenizer, T5Tokenizer

from flux_demo.mini_vocabulary import KNOWN
from training.networks import TEXT_TOKENS

CLIP_TOKENS = 77
LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789.,;:!?'\"()-–_/&%+*=#@àáâãäåæçèéêëìíîïñòóôõöøùúûüýœß"
SPECIAL = ("<|startoftext|>", "<|endoftext|>")


def t5_tokenizer() -> T5Tokenizer:
    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -6.0)]
    pieces += [("▁" + word, -4.0) for word in sorted(KNOWN)]
    pieces += [(letter, -12.0) for letter in LETTERS]
    return T5Tokenizer(vocab=pieces, extra_ids=0, _spm_precompiled_charsmap=_small_letters(), model_max_length=TEXT_TOKENS)


def clip_tokenizer() -> CLIPTokenizer:
    """Merges are learnt from the vocabulary alone, until every word of it is whole."""
    bare = CLIPTokenizer()
    letters = sorted(ByteLevel.alphabet())
    last_letters = sorted({word[-1] + "</w>" for word in KNOWN})
    learner = BpeTrainer(
        vocab_size=10_000,
        min_frequency=1,
        # Numbered before it learns: left to itself it numbers last letters, and settles ties, by chance.
        special_tokens=[*letters, *last_letters],
        end_of_word_suffix="</w>",
        show_progress=False,
    )
    bare.backend_tokenizer.train_from_iterator(sorted(KNOWN), learner)
    learnt = json.loads(bare.backend_tokenizer.to_str())["model"]
    pieces = dict.fromkeys(sorted(learnt["vocab"], key=learnt["vocab"].get))
    pieces |= dict.fromkeys(letter + "</w>" for letter in letters)
    names = [piece for piece in pieces if piece not in SPECIAL] + list(SPECIAL)
    merges = [tuple(pair) for pair in learnt["merges"]]
    return CLIPTokenizer(vocab={piece: index for index, piece in enumerate(names)}, merges=merges, model_max_length=CLIP_TOKENS)


def _small_letters() -> bytes:
    """SentencePiece's own table for Unicode compatibility forms and case, which only its trainer hands out."""
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(["a red sphere", "a blue cube"] * 20),
        model_writer=model,
        vocab_size=24,
        hard_vocab_limit=False,
        normalization_rule_name="nmt_nfkc_cf",
        minloglevel=2,
    )
    proto = sentencepiece_model_pb2.ModelProto()
    proto.ParseFromString(model.getvalue())
    return proto.normalizer_spec.precompiled_charsmap
