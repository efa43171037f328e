"""Makes `fixtures/tokens.json`: lines of many scripts, and the ids that BERT's tokenizer gives.

    python -m tests.keras_vitbert.trained.make_tokenizer_fixture

The reference is BertWordPieceTokenizer of Hugging Face's `tokenizers`, lower case; made with 0.23.
"""

import json
import pathlib
import unicodedata

import numpy as np
from tokenizers import BertWordPieceTokenizer

from pipelines.text.wordpiece import SPECIAL_TOKENS

PATH = pathlib.Path(__file__).parent / "fixtures" / "tokens.json"
LINES = """\
The quick brown fox jumps over the lazy dog.
Don't stop -- it's 3.14159, isn't it?  (Yes/No) [maybe] {so} <tag> a_b #5 50% $3 €4 £5 ¥6 a&b
"Quoted," she said; ‘single’ “double” «guillemets» „low“ – en — em ‐ hyphen
naïve café Ångström résumé façade coöperate Zoë São Paulo Łódź Dvořák Ærøskøbing Þingvellir
e\u0301 decomposed, n\u0303 too, and a\u0323\u0302 with two marks; \u0301 alone
İstanbul, ısı, Iğdır; DŽ is two letters here
tabs\tand\tno-break\u00a0spaces\u2003em\u3000ideographic
soft\u00adhyphen zero\u200bwidth joiner\u200d mark\ufeff direction\u200e here
Ελλάδα και ΑΘΗΝΑ
Привет, мир! Ёлка и йод; ЩУКА
שָׁלוֹם עולם
مرحبا بالعالم، كيف الحال؟ مُحَمَّد
नमस्ते दुनिया। हिन्दी
สวัสดีชาวโลก
你好。世界、中文字𠀀
こんにちは世界、カタカナ ガギグ ぱぴぷ
안녕하세요 세계 각
Xin chào thế giới Việt Nam
გამარჯობა მსოფლიო
բարեւ աշխարհ
𝄞 ☃ ♥ ★ → ∑ √ ∞ ≠ ≤ © ® ° § ¶ † ‡ • ‰
😀 👍🏽 👩‍👩‍👧 🇩🇪 🎉
x+y=z 2^10 a*b c~d `code` \\back |pipe|
unaffable ##ab ## word1 WORD2 Word3 aaaa"""
# Where the pipeline's tokenizer does otherwise, lower case: it writes compatibility characters
# out and folds case in full, and takes most control characters for spaces. These lines differ.
DIFFERENT = """\
ς ends a Greek word
straße
21½ miles
5 km²
wait… what
№ 5
ﬁsh
acute´accent
Ⅳ
ａｂｃ
你好，
no‑break
ª and º
c\x81d
a\ufffdb
\u115f
[MASK] is a string here
a [SEP] b"""
SCRIPTS = (
    *("LATIN", "GREEK", "CYRILLIC", "ARMENIAN", "HEBREW", "ARABIC", "DEVANAGARI", "BENGALI"),
    *("TAMIL", "TELUGU", "THAI", "LAO", "GEORGIAN", "HANGUL", "HIRAGANA", "KATAKANA"),
    *("CJK", "ETHIOPIC", "KHMER", "MONGOLIAN", "TIBETAN", "MYANMAR", "GUJARATI", "SINHALA"),
)
LINES_A_SCRIPT = 10


def script_lines():
    """Words of random letters of a script, each line another script."""
    random = np.random.default_rng(0)
    letters = {script: [] for script in SCRIPTS}
    for number in range(0xC0, 0xD7A4):
        character = chr(number)
        script = unicodedata.name(character, "-").split()[0]
        # Compatibility characters and full case folding are among those that differ.
        plain = unicodedata.normalize("NFKD", character) == unicodedata.normalize("NFD", character)
        folded = character.casefold() == character.lower()
        is_letter = unicodedata.category(character) in ("Lu", "Ll", "Lo", "Mc", "Nd")
        if script in letters and plain and folded and is_letter:
            letters[script] += [] if "FILLER" in unicodedata.name(character) else [character]
    for script in SCRIPTS:
        for _ in range(LINES_A_SCRIPT):
            found = random.choice(letters[script][:900], 12)
            ends = sorted(random.choice(np.arange(1, 12), 3, replace=False))
            yield " ".join("".join(word) for word in np.split(found, ends))


def all_characters(lines):
    """A vocabulary of every character, unchanged and as a tokenizer may change it."""
    found = set()
    for character in {character for line in lines for character in line}:
        for form in ("NFC", "NFD", "NFKD"):
            for changed in (character, character.lower(), character.casefold()):
                found |= set(unicodedata.normalize(form, changed))
    found = sorted(c for c in found if not c.isspace())
    return [*SPECIAL_TOKENS, *found, *(f"##{c}" for c in found)]


def main():
    """Writes the fixture."""
    lines = [*LINES.split("\n"), *script_lines()]
    different = DIFFERENT.split("\n")
    vocabulary = all_characters([*lines, *different])
    vocabulary += ["the", "quick", "##ing", "##able", "una", "##ff", "привет", "世界", "ca", "##fe"]
    ids = {token: number for number, token in enumerate(vocabulary)}
    tokenizer = BertWordPieceTokenizer(vocab=ids, lowercase=True)

    def reference(texts):
        found = tokenizer.encode_batch(texts, add_special_tokens=False)
        return [[text, encoding.ids] for text, encoding in zip(texts, found, strict=True)]

    content = {
        "vocabulary": vocabulary,
        "lines": reference(lines),
        "different": reference(different),
    }
    PATH.write_text(json.dumps(content, ensure_ascii=False, separators=(",", ":")) + "\n", "utf-8")


if __name__ == "__main__":
    main()
