"""The hard set: strings on which tokenizers go apart, made by arithmetic, the same on every machine.

Random ones come from a linear congruential generator that is written down here, so that no library release changes
what was proved.
"""

# ruff: noqa: RUF001 - letters that look like others are what this file is about

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache

#: Strings that mean something else to a tokenizer that looks for them.
_SPECIALS = ("<|endoftext|>", "<|endofprompt|>", "<s>", "</s>", "<unk>", "<pad>", "[INST]", "[/INST]", "<0x41>",
    "<|im_start|>", "<|begin_of_text|>", "<bos>", "<eos>", "<|fim_prefix|>", "[CLS]", "[MASK]", "<mask>")  # fmt: skip

_SPACES = "\t\n\x0b\x0c\r\x1c\x1d\x1e\x1f \x85\xa0\u1680\u2000\u2003\u2009\u200a\u2028\u2029\u202f\u205f\u3000"

#: Just before and after the surrogates, ends of planes, private use, non-characters, marks that show nothing.
_BORDERS = "\u07ff\u0800\ud7ff\ue000\uf8ff\ufdd0\ufeff\ufffc\ufffd\ufffe\uffff\U00010000\U0001ffff\U000e0001\U0010ffff"
_UNSEEN = "\u00ad\u034f\u061c\u180e\u200b\u200c\u200d\u200e\u200f\u202a\u202e\u2060\u2066\u2069\ufe0e\ufe0f\U000e0100"

_TROUBLE = (
    "",
    "e\u0301 \u00e9 n\u0303 \u00f1 A\u030a \u00c5 \u212b",
    "\u1e9b\u0323 \ufb01 \u2460 \u00bd \u2126 \u03a9",
    "o\u0302\u0323\u0308\u0331" * 8 + " \u0301 alone \u0301\u0301",
    "Z\u0351\u036b\u0343\u034a\u0346a\u0313\u0349l\u030eg\u0361o\u0309",
    "👩\u200d👩\u200d👧\u200d👦 🏳\ufe0f\u200d🌈 👍🏽 🇫🇷🇩🇪 1\ufe0f\u20e3 🤷🏿\u200d♂\ufe0f",
    "😀" * 50,
    "שלום עולם, \u202bמה שלומך\u202c? 123 abc",
    "مرحبا بالعالم ١٢٣ \u0640\u0640\u0640 بِسْمِ",
    "नमस्ते दुनिया क्षत्रिय १२३",
    "สวัสดีชาวโลก ๑๒๓",
    "안녕하세요 \u1112\u1161\u11ab\u1100\u1173\u11af",
    "你好，世界。“引号”！三百二十一",
    "日本語のテキスト。カタカナ ｶﾀｶﾅ ひらがな",
    "Привет, мир! Ёё Ђ",
    "Γειά σου Κόσμε ΣΊΣΥΦΟΣ ς",
    "İstanbul ıI iİ ß ẞ ﬀ Ǆ ǅ ǆ ſ K",
    "x² y₃ ¼ Ⅷ ⅷ ① ㊿ ٣ ३ 𝟘𝟙 𝒜𝔅",
    "I'm you're they'll we've he'd it's don't O'Neill 'tis 'S 'RE 'Ll 'VE 'M 'D 'T",
    "I’m you’re they’ll we’ve he’d it’s DON’T IT’S ’tis ʼn",
    "I'M YOU'RE THEY'LL WE'VE HE'D IT'S 's're'll've'd'm't 'ſ",
    "0 00 000 0000 00000 1234567 12,345,678.90 1e-10 0xDEADBEEF 3.14159265358979",
    "def f(x):\n\tif x != 0:\n\t\treturn x**2  # square\n\n\n    else_ = lambda y: {y: [x]}\n",
    "for (int i = 0; i < n; ++i) { a[i] <<= 2; } /* end */ // done\r\n#include <stdio.h>\r\n",
    "\\begin{align}\n\\frac{\\partial f}{\\partial x} &= \\sum_{i=1}^{n} x_i^2 \\\\\n\\end{align} $\\alpha_{ij}$",
    "SGVsbG8sIHdvcmxkISBUaGlzIGlzIGJhc2U2NC4gU3VwZXJjYWxpZnJhZ2lsaXN0aWM+/w==",
    '{"a": [1, 2.5, null, true], "b": {"c": "\\u00e9\\n"}}',
    "<html><body class='x'>&nbsp;&lt;p&gt;</body></html>",
    "https://example.org/a/b?c=d&e=%20f#g user@example.org C:\\dir\\file.txt ../x",
    "| a | b |\n|---|:-:|\n| 1 | 2 |\n\n- [ ] x\n* y\n1. z\n> q\n```py\n```\n",
    "CamelCaseWord snake_case_word SCREAMING_CASE kebab-case mIxEdCaSe HTTPServer iPhone",
    "word.Word!word?Word;word:word,word...word…word—word–word-word",
    "$100 €5 £3 ¥9 ₿1 50% #tag @user ^^ ~~ `` || && <> => -> :: ?? !!",
    "▁ ▁▁ a▁b ▁a a▁ ▁ ▁ \u2581\n\u2581",
    "\ufeffBOM first", "BOM\ufeffinside", "\x00", "a\x00b\x00\x00c", "\ufffd\ufffd \ufffd",
)  # fmt: skip

_RANDOM_STRINGS = 160
#: Ranges that random characters come from: ASCII, control, Latin, combining, punctuation, CJK, emoji, anything.
_RANGES = ((32, 127), (0, 32), (0xA0, 0x250), (0x300, 0x370), (0x2000, 0x2070), (0x4E00, 0x5000), (0x1F300, 0x1F6FF),
    (0, 0xD800), (0xE000, 0x10000), (0x20000, 0x2A6C0), (0x40000, 0x110000), (0x10000, 0x40000))  # fmt: skip


def strings(specials: Sequence[str] = ()) -> tuple[str, ...]:
    """Return the hard set: the fixed part, then a few strings for each of a vocabulary's first special tokens."""
    own = [text for name in specials[:32] for text in (name, f"a {name} b", f"a{name}b\n{name}{name}")]
    return (*_fixed(), *own)


@cache
def _fixed() -> tuple[str, ...]:
    found = [*_TROUBLE, *_around(_SPACES), *_around(_BORDERS), *_around(_UNSEEN), *_control(), *_runs(), *_special()]
    return tuple(dict.fromkeys([*found, *_random()]))


def _around(characters: str) -> Iterator[str]:
    for character in characters:
        yield f"{character}a {character} b{character}{character} {character}\n{character}1{character}"
    yield characters


def _control() -> Iterator[str]:
    for code in (*range(0x20), *range(0x7F, 0xA0)):
        yield f"a{chr(code)}b {chr(code)} {chr(code)}{chr(code)}c"


def _runs() -> Iterator[str]:
    for character in " \n\t\ra0=-_.#é中▁\x00\u3000\u0301!":
        for count in (2, 3, 7, 16, 17, 100, 2000):
            run = character * count
            yield run if count == 2000 else f"{run}a{run} b {run}"
    for unit in ("\r\n", " \n", "\n ", "\t ", "ab", "aA", "1a", ". ", "'s", "\n\n\r", "  \n\n"):
        for count in (2, 5, 64, 500):
            yield f"x{unit * count}y{unit * count}"


def _special() -> Iterator[str]:
    for name in _SPECIALS:
        yield from (name, f"before {name} after", f"x{name}{name}y\n {name[:-1]} {name[1:]}")


def _random() -> Iterator[str]:
    state = 20_240_229

    def next_below(bound: int) -> int:
        nonlocal state
        state = (state * 6_364_136_223_846_793_005 + 1_442_695_040_888_963_407) % (1 << 64)
        return (state >> 33) % bound

    for _ in range(_RANDOM_STRINGS):
        ranges = [_RANGES[next_below(len(_RANGES))] for _ in range(1 + next_below(3))]
        codes = (ranges[next_below(len(ranges))] for _ in range(1 + next_below(60)))
        text = "".join(chr(low + next_below(high - low)) for low, high in codes)
        yield text if next_below(2) else f"word {text} 12 {text[:5]}.\n"
