#!/usr/bin/env python3
"""Small tokenizers and what Hugging Face's libraries make with them: make_golden.py tests/golden/text [AQUILA]

NAME.json is a tokenizer.json (or NAME.model a SentencePiece model), NAME.cases.json its cases: text and ids; where they
differ from those, the ids with special tokens, and what the ids decode to with special tokens kept and skipped. AQUILA is
examples/aquila/tokenizer of FlagScale's tree (vocab.json, merges.txt, special_tokens.txt), of which only cases are written.
"""
import io
import json
import pathlib
import random
import sys
import tempfile

import sentencepiece
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

from corpus_parts import SCRIPTS, deciding, words_of
from sentencepiece_models import KINDS, USER, changed, train, unescaped, unused

ENGLISH = """The river doesn't run any faster because we're watching it, and I've learnt that it'll reach the sea anyway.
In 2024 there were 1234567 grains of sand on the beach; we'd counted 89 of them before the tide came (it's quick here!).
def area(width: float, height: float = 1.5) -> float:
    if width <= 0 or height <= 0:
        raise ValueError(f"no area: {width} x {height}")
    return width * height  # in m²

\tTabs,   several   spaces, ellipses... and "quotes" — that is all.\r\nA line that ends the other way.
"""
GPT2 = r"""'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"""
CONTRACTIONS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
SPACES = r"\s*[\r\n]+|\s+(?!\S)|\s+"
LLAMA3 = CONTRACTIONS + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|" + SPACES
QWEN2 = CONTRACTIONS + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|" + SPACES
QWEN35 = CONTRACTIONS + r"|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|" + SPACES
DEEPSEEK = ("[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|[^\r\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+|"
            " ?[\\p{P}\\p{S}]+[\r\n]*|\\s*[\r\n]+|\\s+(?!\\S)|\\s+")


def split(pattern):
    return pre_tokenizers.Split(Regex(pattern), "isolated")


def bytes_only():
    return pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)


PRE_TOKENIZERS = {
    "gpt2": pre_tokenizers.ByteLevel(add_prefix_space=False),
    "prefix_space": pre_tokenizers.ByteLevel(add_prefix_space=True),
    "smollm": pre_tokenizers.Sequence([pre_tokenizers.Digits(True), pre_tokenizers.ByteLevel(add_prefix_space=False)]),
    "llama3": pre_tokenizers.Sequence([split(LLAMA3), bytes_only()]),
    "qwen2": pre_tokenizers.Sequence([split(QWEN2), bytes_only()]),
    "qwen35": pre_tokenizers.Sequence([split(QWEN35), bytes_only()]),
    "deepseek3": pre_tokenizers.Sequence([split(r"\p{N}{1,3}"), split("[一-龥぀-ゟ゠-ヿ]+"), split(DEEPSEEK), bytes_only()]),
}


def training_texts():
    rng = random.Random(3)
    return [ENGLISH] * 3 + [words_of(rng, ranges)[:400] for ranges in SCRIPTS.values()]


def case_texts():
    rng = random.Random(11)
    texts = ["", " ", "\n", "a", " a", "  a", "Hello, world!", ENGLISH, "'S 'T 'RE 'Ve 'M 'lL 'D 'ſ'ſe", "it's IT'S", "1 12 123 1234 12345678",
             "x²½Ⅷ٣३", "e\u0301 \u1e9b\u0323 \uac00\u11a8 한국어", "a\u0301\u0323b", "北京2024年，東京の「カタカナ」・ﾊﾝｶｸ", "กินข้าวแล้ว नमस्ते दुनिया",
             "<|im_start|>user\nHi<|im_end|>\n", "a<|im_end|>b <|im_end|>  c", "<|im_end|", "x [PAD]  y", "   [PAD]z", "tail  ", "tail\n\n", " \n \n x",
             "🙂👩‍👩‍👧‍👦🇫🇷", "\u00a0\u00a0x\u3000\u3000y\u2028z", "\x01\x02abc \x7f", "!abc ?! /path/to/file.txt", "a" * 300, " " * 70 + "x", "ab" * 60]
    texts += [deciding(rng)[:100] for _ in range(40)]
    texts += [words_of(rng, ranges)[:80] for ranges in SCRIPTS.values()]
    return texts


def byte_level(name, pre_tokenizer):
    tokenizer = Tokenizer(models.BPE())
    if name.startswith("qwen"):
        tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizer
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    trainer = trainers.BpeTrainer(vocab_size=700, special_tokens=["<|endoftext|>"], show_progress=False,
                                  initial_alphabet=pre_tokenizers.ByteLevel.alphabet())
    tokenizer.train_from_iterator(training_texts(), trainer)
    tokenizer.add_special_tokens(["<|im_start|>", "<|im_end|>"])
    tokenizer.add_tokens([AddedToken("[PAD]", lstrip=True, rstrip=True, normalized=False), AddedToken("tail", normalized=True)])
    if name == "llama3":
        tokenizer.post_processor = processors.Sequence([
            processors.ByteLevel(trim_offsets=False),
            processors.TemplateProcessing(single="<|endoftext|> $A", pair="<|endoftext|> $A <|endoftext|>:1 $B:1",
                                          special_tokens=[("<|endoftext|>", 0)])])
    return tokenizer


def ignore_merges(tokenizer):
    """LLaMA-3 takes a word that is a token as it is; some token must not be what the merges make of it."""
    content = json.loads(tokenizer.to_str())
    content["model"]["ignore_merges"] = True
    content["model"]["vocab"]["Ġlearnt"] = content["model"]["vocab"].pop(max(content["model"]["vocab"], key=len))
    content["model"]["merges"] = [pair for pair in content["model"]["merges"]
                                  if all(part in content["model"]["vocab"] for part in (*pair, "".join(pair)))]
    return Tokenizer.from_str(json.dumps(content))


def metaspace():
    """LLaMA-2's shape."""
    tokenizer = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>", fuse_unk=True))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(),
                                           decoders.Strip(" ", 1, 0)])
    alphabet = [chr(point) for point in range(33, 127)] + ["▁", "é", "ü", "п", "р"]  # a fixed one: ties go by hash else
    trainer = trainers.BpeTrainer(vocab_size=500, show_progress=False, initial_alphabet=alphabet, limit_alphabet=len(alphabet),
                                  special_tokens=["<unk>", "<s>", "</s>"] + [f"<0x{byte:02X}>" for byte in range(256)])
    lines = [word for text in training_texts()[:6] for word in ("▁" + text.replace(" ", " ▁")).split(" ")]
    normalizer, tokenizer.normalizer = tokenizer.normalizer, None
    tokenizer.train_from_iterator(lines, trainer)
    content = json.loads(tokenizer.to_str())
    content["added_tokens"] = content["added_tokens"][:3]
    tokenizer = Tokenizer.from_str(json.dumps(content))
    tokenizer.normalizer = normalizer
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", pair="<s> $A <s>:1 $B:1",
                                                             special_tokens=[("<s>", 1)])
    return tokenizer


def metaspace_first():
    """The same as later files say it."""
    tokenizer = metaspace()
    tokenizer.normalizer = None
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="first", split=False)
    return tokenizer


def cases(tokenizer):
    result = []
    for text in case_texts():
        ids = tokenizer.encode(text, add_special_tokens=False).ids
        case = {"text": text, "ids": ids}
        if (special := tokenizer.encode(text).ids) != ids:
            case["special"] = special
        for key, skip in (("decoded", False), ("skipped", True)):
            if (decoded := tokenizer.decode(ids, skip_special_tokens=skip)) != text:
                case[key] = decoded
        result.append(case)
    return result


def write_cases(folder, name, content):
    lines = ",\n".join(json.dumps(case, ensure_ascii=False, separators=(",", ":")) for case in content)
    (folder / f"{name}.cases.json").write_text(f"[\n{lines}\n]\n")


def sentencepiece_models(folder):
    for kind in ("bpe", "unigram"):
        out = io.BytesIO()
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter([line for text in training_texts()[:8] for line in text.splitlines() if line]), model_writer=out,
            model_type=kind, vocab_size=1200, byte_fallback=True, character_coverage=0.98,
            normalization_rule_name="identity" if kind == "bpe" else "nmt_nfkc", remove_extra_whitespaces=kind == "unigram",
            num_threads=1, minloglevel=2, hard_vocab_limit=False)
        (folder / f"spm_{kind}.model").write_bytes(out.getvalue())
        model = sentencepiece.SentencePieceProcessor(model_proto=out.getvalue())
        result = []
        for text in case_texts():
            ids = model.encode(text)
            case = {"text": text, "ids": ids, "special": [model.bos_id()] + ids}
            if (decoded := model.decode(ids)) != text:
                case["decoded"] = case["skipped"] = decoded
            result.append(case)
        write_cases(folder, f"spm_{kind}", result)


# Few, so that a model is small: letters made lower, spaces of other kinds, what goes, what grows, rules inside rules.
RULES = {"A": "a", "B": "b", "T": "t", "\u3000": " ", "\t": " ", "\u200b": "", "\u0301": "", "e\u0301": "é", "e\u0301\u0323": "ẹ́", "…": "...",
         "①": "(1)", "\u00bc": " 1/4 ", "ﬁ": "fi", "ｱ": "ア", "the": "THE", "the r": "[r]", "\x01": "", "\uff3f": "▁"}
PARTS = [*USER, *RULES, " ", " ", " ", "  ", "   ", "▁", "▁▁", "\n", "\r\n", "\0", "\x7f", "\u2028", "\u0323", "the river", "The", " and", "ing", "ed.", "1234",
         "x" * 40, "北京2024", "カタカナ", "नमस्ते", "Ж", "👩‍👩‍👧", "\ue000", "\U0010ffff", "<unk>", "<0x0A>", "�", "a\u0301\u0323b", "'s"]


def piece_texts():
    """Texts, and how often each is repeated."""
    rng = random.Random(17)
    texts = [(text, 1) for text in case_texts()]
    for _ in range(80):
        texts.append(("".join(rng.choice(PARTS) for _ in range(rng.choice((1, 2, 3, 8, 30)))), 1))
    # Long ones, where single-precision sums are coarse and start anew.
    return texts + [("".join(rng.choice(PARTS) for _ in range(200)), 40), (ENGLISH, 60), (words_of(rng, SCRIPTS["Cyrillic"])[:1000], 20)]


def digest(ids):
    """FNV-1a of the ids' bytes."""
    value = 0xCBF29CE484222325
    for byte in b"".join(id.to_bytes(4, "little") for id in ids):
        value = (value ^ byte) * 0x100000001B3 % 2**64
    return f"{value:016x}"


def sentencepiece_kinds(folder):
    """Models with every option that changes ids: spm_kinds.json holds texts, and by model their ids or, of long texts, a digest."""
    lines = [line for text in training_texts()[:8] for line in text.splitlines() if line] + [part * 2 for part in PARTS if "\0" not in part]
    texts, found = piece_texts(), {}
    with tempfile.NamedTemporaryFile("w", suffix=".tsv") as rules:
        for source, target in RULES.items():
            rules.write("\t".join(" ".join(f"{ord(c):X}" for c in text) for text in (source, target)) + "\n")
        rules.flush()
        models = {}
        for name, options in KINDS.items():
            if options.pop("normalization_rule_name") != "identity":
                options["normalization_rule_tsv"] = rules.name
            else:
                options["normalization_rule_name"] = "identity"
            models[name] = train(lines, 1300, **options | dict(character_coverage=0.98))
    for kind in ("bpe", "unigram"):
        models[f"{kind}_unused"] = changed(models[kind], unused)
        models[f"{kind}_unescaped"] = changed(models[kind], unescaped)
    for name, model in models.items():
        (folder / f"spm_kind_{name}.model").write_bytes(model)
        library = sentencepiece.SentencePieceProcessor(model_proto=model)
        found[name] = [ids if len(ids := library.encode(text * times)) < 400 else digest(ids) for text, times in texts]
    compact = dict(ensure_ascii=False, separators=(",", ":"))
    lines = [f"{json.dumps(name)}:[\n" + ",\n".join(json.dumps(ids, **compact) for ids in each) + "]" for name, each in found.items()]
    (folder / "spm_kinds.json").write_text('{"texts":' + json.dumps(texts, ensure_ascii=True, separators=(",", ":")) + ',\n"models":{\n' + ",\n".join(lines) + "}}\n")


def aquila(path):
    """As FlagScale's AquilaTokenizerFS: GPT-2's tokenizer, the special tokens added."""
    tokenizer = Tokenizer(models.BPE.from_file(str(path / "vocab.json"), str(path / "merges.txt")))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    special = ["<|endoftext|>", *(path / "special_tokens.txt").read_text().splitlines()]
    tokenizer.add_special_tokens([AddedToken(token, normalized=False) for token in special])
    return tokenizer


def main():
    folder = pathlib.Path(sys.argv[1])
    if len(sys.argv) > 2:
        write_cases(folder, "aquila", cases(aquila(pathlib.Path(sys.argv[2]))))
    for name, pre_tokenizer in PRE_TOKENIZERS.items():
        tokenizer = byte_level(name, pre_tokenizer)
        if name == "llama3":
            tokenizer = ignore_merges(tokenizer)
        (folder / f"{name}.json").write_text(tokenizer.to_str() + "\n")
        write_cases(folder, name, cases(tokenizer))
        if name == "gpt2":
            tokenizer.model.save(str(folder), "gpt2")
    for name, tokenizer in (("metaspace", metaspace()), ("metaspace_first", metaspace_first())):
        (folder / f"{name}.json").write_text(tokenizer.to_str() + "\n")
        write_cases(folder, name, cases(tokenizer))
    sentencepiece_models(folder)
    sentencepiece_kinds(folder)


main()
