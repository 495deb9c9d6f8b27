"""Freezes the embedded wheels: `python -m recipe.mer_r1.method.wheels.build_builtin` rewrites builtin_wheels.json.

Needs lemminflect (extra `dev`), whose dictionary gives inflections and tells real derived words from invented ones.
Running it twice gives the same bytes; the tests check that the committed file is what it makes.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import lemminflect
import yaml

from recipe.mer_r1.method.wheels.builtin import DATA, FROZEN
from recipe.mer_r1.method.wheels.table import WheelError

SOURCE = "builtin_wheels.yaml"
# Adjective or verb ending → endings of the nouns made from it; a candidate counts only if the dictionary has it.
_NOUN_ENDINGS = {
    "": ["ment", "ance", "ence", "ation", "ion", "ity", "ship", "hood"],
    "e": ["ation", "ion", "ance", "ity", "ure"],
    "ate": ["acy", "ation"],
    "ent": ["ence", "ency"],
    "ant": ["ance", "ancy"],
    "able": ["ability"],
    "ible": ["ibility"],
    "ful": [""],
    "y": ["iment", "iness", "ication"],
    "ous": ["osity", ""],
    "ic": ["icism"],
}


def main() -> None:
    """Write the frozen table next to its source."""
    path = Path(str(DATA / FROZEN))
    path.write_text(freeze(), encoding="utf-8")
    print(f"wrote {path}")


def freeze() -> str:
    """The frozen table as JSON text, one word a line."""
    source = yaml.safe_load((DATA / SOURCE).read_text(encoding="utf-8"))
    wheels = {name: list(_rows(tree)) for name, tree in source["wheels"].items()}
    nearest = _nearest(source["families"], {word for rows in wheels.values() for row in rows for word in row})
    data = {
        "name": "mer-r1-builtin",
        "version": source["version"],
        "made_with": f"lemminflect {version('lemminflect')}",
        "wheels": wheels,
        "nearest": {word: ", ".join(found) for word, found in sorted(nearest.items())},
        "forms": {form: ", ".join(names) for form, names in sorted(_forms(nearest).items())},
    }
    text = json.dumps(data, ensure_ascii=False, indent=1)
    return re.sub(r"\[\s+(\"[^\]]*?\")\s+\]", lambda m: "[" + re.sub(r",\s+", ", ", m[1]) + "]", text) + "\n"


def _rows(tree: dict[str, dict[str, str]]) -> Iterator[tuple[str, str, str]]:
    for inner, branches in tree.items():
        for middle, leaves in branches.items():
            for outer in leaves.split(", "):
                yield inner, middle, outer


def _nearest(families: dict[str, dict[str, str]], wheel_words: set[str]) -> dict[str, list[str]]:
    """Each listed word → the wheel words it may stand for, nearest first. Checks the families against the wheels."""
    nearest: dict[str, list[str]] = {}
    for name, family in families.items():
        anchors = [word for word in family["nearest"].split(", ") if word]
        if stray := [word for word in anchors if word not in wheel_words]:
            raise WheelError(
                f"{SOURCE}, family {name}: {', '.join(stray)} are not on any wheel; `nearest` takes wheel words"
            )
        for word in family["words"].split(", "):
            found = nearest.setdefault(word, [word] if word in wheel_words else [])
            found.extend(anchor for anchor in anchors if anchor not in found)
    if homeless := wheel_words - nearest.keys():
        raise WheelError(f"{SOURCE}: the wheel words {', '.join(sorted(homeless))} are in no family")
    return nearest


def _forms(nearest: dict[str, list[str]]) -> dict[str, list[str]]:
    """Unlisted form → the listed words it is a form of, in the table's order."""
    forms: dict[str, list[str]] = defaultdict(list)
    for word in nearest:
        for form in _word_forms(word):
            if form not in nearest and word not in forms[form]:
                forms[form].append(word)
    return {form: names for form, names in forms.items() if names}


def _word_forms(word: str) -> set[str]:
    """Inflections, adverb and nouns of a word and of the verb it is a participle of ("annoyed" → annoy, annoyance)."""
    if not re.fullmatch(r"[a-z-]+", word):
        return set()  # phrases are taken as they stand
    bases = {word, *lemminflect.getAllLemmas(word, "VERB").get("VERB", ())}
    forms = {word + "ly", word + "ness"} if not word.endswith("y") else {word[:-1] + "ily", word[:-1] + "iness"}
    forms |= {word[:-1] + "y"} if word.endswith("le") else set()
    forms |= {word + "ally"} if word.endswith("ic") else set()
    for base in bases:
        forms |= {base} | _inflections(base)
        for noun in _nouns(base):
            forms |= {noun} | _inflections(noun)
    forms |= {form + "ly" for form in forms if form.endswith("ing")}
    # "self-conscious" is also written apart and in one word
    forms |= {form.replace("-", written) for form in (word, *forms) if "-" in form for written in (" ", "")}
    return forms - {word}


def _inflections(word: str) -> set[str]:
    return {form for listed in lemminflect.getAllInflections(word).values() for form in listed}


def _nouns(base: str) -> set[str]:
    """Nouns made from an adjective or verb, as far as the dictionary knows them."""
    made = {
        base[: len(base) - len(ending)] + noun
        for ending, nouns in _NOUN_ENDINGS.items()
        if base.endswith(ending) and len(base) - len(ending) >= 3
        for noun in nouns
    }
    return {noun for noun in made if "NOUN" in lemminflect.getAllLemmas(noun, "NOUN")}


if __name__ == "__main__":
    main()
