"""One spelling per region: which names of a country's first-level regions mean the same region, and its ISO code.

Geolocation data is gathered from many sources, so it spells one region in several ways: "Odesa" and "Odessa Oblast",
"Hamburg" and "Free and Hanseatic City of Hamburg". Two names are one region when they differ in case, accents or
punctuation only, or are names of the same subdivision in ISO 3166-2, or differ in a word such as "Province" only and
nothing else in the country could be meant ("Moscow" and "Moscow Oblast" are two). Where the list of subdivisions comes
from, and what a region is used for, does not belong here.
"""

import re
import unicodedata
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import NamedTuple

# Letters that Unicode does not decompose into a base letter and a mark.
_LETTERS = str.maketrans({"ø": "o", "ł": "l", "đ": "d", "ı": "i", "æ": "ae", "œ": "oe", "ð": "d", "þ": "th", "ə": "a"})
_CONTROL_OR_SPACE = re.compile(r"[\s\x00-\x1f\x7f-\x9f]+")
# Marks within a word, as in "Ha‘apai" or "Leningradskaya Oblast’": nothing stands in their place.
_APOSTROPHES = re.compile("['`´‘’ʻʼʹʾʿ]")
# Words for the kind of a subdivision; a city and the land around it are often two subdivisions of one name.
_KINDS = frozenset(
    [
        "autonomous",
        "canton",
        "collectivity",
        "commune",
        "community",
        "county",
        "department",
        "departamento",
        "departement",
        "district",
        "division",
        "emirate",
        "governorate",
        "kray",
        "krai",
        "municipality",
        "oblast",
        "oblysy",
        "parish",
        "prefecture",
        "principality",
        "province",
        "provincia",
        "provins",
        "quarter",
        "raion",
        "rayon",
        "region",
        "republic",
        "state",
        "territory",
        "voivodeship",
    ]
)
_CITY = "city"
_FILLERS = frozenset(["and", "de", "del", "do", "du", "la", "las", "le", "los", "of", "the"])
_CITY_STATE = re.compile("^(free (and )?hanseatic city of|city state|state of) ")


class Subdivision(NamedTuple):
    """One first-level or lower entry of ISO 3166-2, or a name that it also goes by: code, names, first level, a city."""

    code: str
    name: str
    other_names: tuple[str, ...]
    first_level: bool
    city: bool


class Region(NamedTuple):
    """How a region is spelt, and its ISO 3166-2 code where it has one."""

    name: str
    code: str | None


def clean(name: str) -> str:
    """The name in Unicode form NFC, control characters and runs of white space as one blank, none at the ends."""
    return unicodedata.normalize("NFC", _CONTROL_OR_SPACE.sub(" ", name)).strip()


def one_spelling(counts: Mapping[str, int], subdivisions: Sequence[Subdivision]) -> dict[str, Region]:
    """The region of each name in use in one country. `counts`: how often each name occurs; `subdivisions`: the country's.

    Of the names of one region the most frequent one stands, but without a word such as "Province" if it also occurs so.
    """
    names = {name: _Name.of(name) for name in sorted(counts)}
    codes = _codes(names, subdivisions)
    ambiguous = {bare for bare, found in _wide(subdivisions).items() if len(found) > 1}
    groups = _Groups()
    for name, parts in names.items():
        groups.join(("name", name), ("form", parts.form))
        if name in codes:
            groups.join(("name", name), ("code", codes[name]))
    for (bare, _), alike in _by_bare(names).items():
        kinds = {names[name].kinds for name in alike} - {frozenset()}
        meant = {codes[name] for name in alike if name in codes}
        if bare not in ambiguous and len(kinds) <= 1 and len(meant) <= 1:
            for name in alike:
                groups.join(("name", alike[0]), ("name", name))

    members = defaultdict(list)
    for name in names:
        members[groups.of(("name", name))].append(name)
    regions: dict[str, Region] = {}
    for variants in members.values():
        usual = min(variants, key=lambda name: (-counts[name], name))
        plainest = {name: names[name].noise for name in variants if names[name].bare == names[usual].bare}
        spelling = min(plainest, key=lambda name: (plainest[name], -counts[name], name))
        code = next((codes[name] for name in variants if name in codes), None)
        regions.update((name, Region(spelling, code)) for name in variants)
    return regions


def spelling_among(name: str, known: Sequence[str], subdivisions: Sequence[Subdivision]) -> Region:
    """The region that another source calls `name`, spelt as in `known`, a country's regions in one spelling each, if it is
    one of them. `subdivisions`: the country's. The answer hangs on nothing else that the source names."""
    name = clean(name)
    regions = one_spelling({name: 1, **dict.fromkeys(known, 2)}, subdivisions)
    same = [name] if name in known else [other for other in known if regions[other] == regions[name]]
    return Region(same[0] if len(same) == 1 else name, regions[name].code)


class _Name(NamedTuple):
    """A folded name; the same without the words for its kind; these words; whether it says that it is a city; whether
    it says anything of its kind."""

    form: str
    bare: str
    kinds: frozenset[str]
    city: bool
    noise: bool

    @classmethod
    def of(cls, name: str) -> "_Name":
        form = _fold(name)
        words = _CITY_STATE.sub("", form).split()
        kinds = frozenset(word for word in words if word in _KINDS)
        rest = [word for word in words if word not in _KINDS and word not in _FILLERS and word != _CITY]
        if not rest:
            return cls(form, form, frozenset(), False, False)
        return cls(form, " ".join(rest), kinds, _CITY in words, bool(kinds) or _CITY in words or words != form.split())


class _Groups:
    """Disjoint sets, each known by the first of its members."""

    def __init__(self) -> None:
        self._parent: dict[tuple[str, str], tuple[str, str]] = {}

    def of(self, key: tuple[str, str]) -> tuple[str, str]:
        while (parent := self._parent.get(key, key)) != key:
            key = parent
        return key

    def join(self, one: tuple[str, str], other: tuple[str, str]) -> None:
        self._parent[self.of(other)] = self.of(one)


def _fold(name: str) -> str:
    """The name without case, accents and punctuation; words divided by one blank."""
    text = unicodedata.normalize("NFKD", _APOSTROPHES.sub("", name).casefold().translate(_LETTERS))
    text = "".join(letter if letter.isalnum() else " " for letter in text if not unicodedata.combining(letter))
    return " ".join(text.split())


def _forms(name: str) -> list[str]:
    """The folded ways to write an official name: `Madrid, Comunidad de` is `Comunidad de Madrid` and `Madrid`, and
    what stands in brackets or after a slash is a name too."""
    forms = [_fold(name)]
    for part in re.sub(r"\s*[\[(].*?[\])]", "", name).split("/"):
        head, comma, tail = part.partition(",")
        forms += [_fold(part)] + ([_fold(f"{tail} {head}"), _fold(head)] if comma else [])
    return [form for form in dict.fromkeys(forms) if form]


def _by_bare(names: Mapping[str, _Name]) -> dict[tuple[str, bool], list[str]]:
    """The names that differ in the words for their kind only; those that say "city" are apart."""
    alike = defaultdict(list)
    for name, parts in names.items():
        alike[parts.bare, parts.city].append(name)
    return alike


def _wide(subdivisions: Sequence[Subdivision]) -> dict[str, set[str]]:
    """The codes that a name may mean once the words for its kind are gone; of the first level, if there are any."""
    levels: dict[bool, dict[str, set[str]]] = {True: defaultdict(set), False: defaultdict(set)}
    for entry in subdivisions:
        for name in (entry.name, *entry.other_names):
            for form in _forms(name):
                levels[entry.first_level][_Name.of(form).bare].add(entry.code)
    return levels[False] | levels[True]


def _exact(subdivisions: Sequence[Subdivision]) -> dict[str, str]:
    """The code that a folded name stands for. The first level comes before lower ones, official names before others;
    what two subdivisions of the same standing are called is nobody's."""
    found: dict[str, str] = {}
    for first_level in (True, False):
        for official in (True, False):
            candidates = defaultdict(set)
            for entry in subdivisions:
                if entry.first_level == first_level:
                    for name in [entry.name] if official else entry.other_names:
                        for form in _forms(name):
                            candidates[form].add(entry.code)
            for form, codes in candidates.items():
                if len(codes) == 1:
                    found.setdefault(form, min(codes))
    return found


def _codes(names: Mapping[str, _Name], subdivisions: Sequence[Subdivision]) -> dict[str, str]:
    """The code of each name that has one: by its exact form; where a city and the land around it share a bare name, by
    what the name says of itself; and last by the bare form, where nothing else has that code."""
    exact, wide = _exact(subdivisions), _wide(subdivisions)
    cities = {entry.code for entry in subdivisions if entry.city}
    kinds_of: dict[str, set[frozenset[str]]] = defaultdict(set)
    for parts in names.values():
        kinds_of[parts.bare].add(parts.kinds)
    codes: dict[str, str | None] = {}
    for name, parts in names.items():
        candidates = wide.get(parts.bare, set())
        code = exact.get(parts.form)
        if len(candidates) > 1:
            land, has_typed = candidates - cities, kinds_of[parts.bare] != {frozenset()}
            if parts.kinds and not parts.city:
                code = _only(land) or code
            elif has_typed or parts.city or code is None:
                code = _only(candidates & cities) or code
        elif code is None and len(kinds_of[parts.bare] - {frozenset()}) <= 1:
            code = _only(candidates)
        codes[name] = code
    return {name: code for name, code in codes.items() if code}


def _only(codes: set[str]) -> str | None:
    return min(codes) if len(codes) == 1 else None
