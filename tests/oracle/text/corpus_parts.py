"""Scripts, characters between which pre-tokenizers decide, and random text made of them."""
SCRIPTS = {
    "Latin": [(0x41, 0x5A), (0x61, 0x7A)], "Latin with marks": [(0x61, 0x7A), (0xC0, 0x24F), (0x300, 0x36F), (0x1E00, 0x1EFF)],
    "Greek": [(0x370, 0x3FF), (0x1F00, 0x1FFF)], "Cyrillic": [(0x400, 0x52F)], "Armenian": [(0x530, 0x58F)],
    "Hebrew": [(0x590, 0x5FF)], "Arabic": [(0x600, 0x6FF), (0xFE70, 0xFEFF)], "Devanagari": [(0x900, 0x97F)],
    "Bengali": [(0x980, 0x9FF)], "Gurmukhi": [(0xA00, 0xA7F)], "Tamil": [(0xB80, 0xBFF)], "Telugu": [(0xC00, 0xC7F)],
    "Malayalam": [(0xD00, 0xD7F)], "Thai": [(0xE00, 0xE7F)], "Lao": [(0xE80, 0xEFF)], "Tibetan": [(0xF00, 0xFFF)],
    "Myanmar": [(0x1000, 0x109F)], "Georgian": [(0x10A0, 0x10FF)], "Ethiopic": [(0x1200, 0x137F)], "Khmer": [(0x1780, 0x17FF)],
    "Mongolian": [(0x1800, 0x18AF)], "Hangul": [(0xAC00, 0xD7A3), (0x1100, 0x11FF)], "Kana": [(0x3040, 0x30FF)],
    "Han": [(0x4E00, 0x9FFF), (0x3400, 0x4DBF), (0x20000, 0x2A6DF)], "symbols": [(0x2000, 0x2BFF), (0x1F300, 0x1FAFF)],
    "digits": [(0x30, 0x39), (0x660, 0x669), (0x966, 0x96F), (0x2150, 0x218B), (0xFF10, 0xFF19), (0x11DE0, 0x11DE9)],
}
DECIDING = ["'s", "'S", "'t", "'re", "'RE", "'ve", "'m", "'ll", "'LL", "'d", "'\u017f", "'", " ", "  ", "\n", "\r\n", "\r", "\t",
            "\u00a0", "\u3000", "\u2028", "\x0b", "\x85", "1", "23", "456", "\u0664", "\u00bd", "\u2167", "\U00011de3", "a", "The", "\u00e9",
            "e\u0301", "\u0301", "\u0323", "\u1ea5", "\ud55c", "\u1112\u1161\u11ab", "\u4e2d", "\u3042", "\u30fb", "\u309b", "\u9fa6",
            "!", "?!", ".", ",", "/", "$", "+", "<", "<|", "|>", "<|im_end|>", "<|endoftext|>", "</s>", "_", "\u2014", "\u20ac", "\U0001f642",
            "\u200d", "\ufe0f", "\x00"[:0], "\x01", "\x7f", "\ue000", "\u0378", "\ufffd", "\ufeff", "\U000e0001", "\U0010ffff"]


def point(rng, low, high):
    while True:
        c = rng.randint(low, high)
        if c and not 0xD800 <= c <= 0xDFFF:
            return chr(c)


def words_of(rng, ranges):
    out = []
    for _ in range(rng.randint(20, 2000)):
        out.append("".join(point(rng, *rng.choice(ranges)) for _ in range(rng.choice((1, 2, 3, 3, 4, 5, 6, 8, 12, 30)))))
        out.append(rng.choice((" ", " ", " ", " ", ", ", ". ", "\n", "\n\n", " 12 ", " 2024", "-", "'s ", " (", ") ", "! ", "  ")))
    return "".join(out)


def any_points(rng):
    return "".join(point(rng, 1, rng.choice((0x7F, 0x7FF, 0xFFFF, 0x10FFFF))) for _ in range(rng.randint(1, 3000)))


def deciding(rng):
    return "".join(rng.choice(DECIDING) * rng.choice((1, 1, 1, 1, 2, 3)) for _ in range(rng.randint(1, 3000)))
