"""The two tokenizers: each word of the vocabulary is one token, and any other Unicode text is spelled out.

CLIP's spells unknown text in bytes, T5's in letters, with one token for any letter that it does not have, as Google's does.
Both ignore case.
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
    return T5Tokenizer(vocab=pieces, extra_ids=0, _spm_precompiled_charsmap=_normaliser(), model_max_length=TEXT_TOKENS)


def clip_tokenizer() -> CLIPTokenizer:
    """Its merges are learnt from the vocabulary alone, until each word is one token."""
    bare = CLIPTokenizer()
    letters = sorted(ByteLevel.alphabet())
    last_letters = sorted({word[-1] + "</w>" for word in KNOWN})
    trainer = BpeTrainer(
        vocab_size=10_000,
        min_frequency=1,
        # Given ids before the merges are learnt: otherwise the order of these tokens, and of merges that tie, is random.
        special_tokens=[*letters, *last_letters],
        end_of_word_suffix="</w>",
        show_progress=False,
    )
    bare.backend_tokenizer.train_from_iterator(sorted(KNOWN), trainer)
    learned = json.loads(bare.backend_tokenizer.to_str())["model"]
    pieces = dict.fromkeys(sorted(learned["vocab"], key=learned["vocab"].get))
    pieces |= dict.fromkeys(letter + "</w>" for letter in letters)
    names = [piece for piece in pieces if piece not in SPECIAL] + list(SPECIAL)
    merges = [tuple(pair) for pair in learned["merges"]]
    return CLIPTokenizer(vocab={piece: index for index, piece in enumerate(names)}, merges=merges, model_max_length=CLIP_TOKENS)


def _normaliser() -> bytes:
    """SentencePiece's own table for Unicode compatibility forms and case; only its trainer gives access to it."""
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
