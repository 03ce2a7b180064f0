"""Which names mean one region, and which do not."""

import pytest

from s3logx_assets.core.region_names import Region, Subdivision, clean, one_spelling, spelling_among


def entry(code: str, name: str, *others: str, first_level: bool = True, city: bool = False) -> Subdivision:
    return Subdivision(code, name, others, first_level, city)


def spelt(counts: dict[str, int], *subdivisions: Subdivision) -> dict[str, str]:
    return {name: region.name for name, region in one_spelling(counts, subdivisions).items()}


def codes(counts: dict[str, int], *subdivisions: Subdivision) -> dict[str, str | None]:
    return {name: region.code for name, region in one_spelling(counts, subdivisions).items()}


def test_case_accents_and_punctuation_make_no_region_and_the_most_frequent_spelling_stands() -> None:
    assert spelt({"Ōsaka": 37, "Osaka": 48447, "OSAKA": 1}) == dict.fromkeys(["Ōsaka", "Osaka", "OSAKA"], "Osaka")
    assert spelt({"Tver’ Oblast": 1, "Tver Oblast": 2})["Tver’ Oblast"] == "Tver Oblast"
    assert spelt({"Hoče–Slivnica": 2, "Hoče-Slivnica": 3})["Hoče–Slivnica"] == "Hoče-Slivnica"


def test_a_word_for_the_kind_goes_only_where_the_name_also_occurs_without_it() -> None:
    found = spelt({"Kano State": 9, "Kano": 1, "Lagos State": 5, "State of Berlin": 9, "Berlin": 1})
    assert found == {
        "Kano State": "Kano",
        "Kano": "Kano",
        "Lagos State": "Lagos State",
        "State of Berlin": "Berlin",
        "Berlin": "Berlin",
    }
    assert spelt({"Free and Hanseatic City of Hamburg": 9, "Hamburg": 1}) == {
        "Free and Hanseatic City of Hamburg": "Hamburg",
        "Hamburg": "Hamburg",
    }


def test_two_kinds_of_one_name_are_two_regions() -> None:
    names = {"Lima region": 3, "Lima Province": 2, "Lima": 1}
    assert spelt(names) == {name: name for name in names}


def test_a_city_and_the_land_around_it_are_two_regions() -> None:
    """One pass over the real data joined Moscow with Moscow Oblast and Kyiv with Kyiv Oblast."""
    moscow = [
        entry("RU-MOW", "Moskva", "Москва", "Moscow City", city=True),
        entry("RU-MOS", "Moskovskaja oblast'", "Moscow"),
    ]
    assert one_spelling({"Moscow": 9, "Moscow Oblast": 1}, moscow) == {
        "Moscow": Region("Moscow", "RU-MOW"),
        "Moscow Oblast": Region("Moscow Oblast", "RU-MOS"),
    }
    kyiv = [entry("UA-30", "Kyiv", "Kyiv City", city=True), entry("UA-32", "Kyivska oblast", "Kyiv")]
    assert one_spelling({"Kyiv City": 9, "Kyiv Oblast": 3, "Kyiv": 1}, kyiv) == {
        "Kyiv City": Region("Kyiv", "UA-30"),
        "Kyiv": Region("Kyiv", "UA-30"),
        "Kyiv Oblast": Region("Kyiv Oblast", "UA-32"),
    }


def test_a_province_keeps_its_name_beside_a_city_of_the_same_name() -> None:
    argentina = [
        entry("AR-B", "Buenos Aires"),
        entry("AR-C", "Ciudad Autónoma de Buenos Aires", "Autonomous City of Buenos Aires", city=True),
        entry("AR-C", "Buenos Aires F.D.", city=True),
    ]
    assert codes({"Buenos Aires": 5, "Buenos Aires F.D.": 9}, *argentina) == {
        "Buenos Aires": "AR-B",
        "Buenos Aires F.D.": "AR-C",
    }


def test_names_of_one_subdivision_are_one_region_and_the_usual_one_stands() -> None:
    ukraine = entry("UA-51", "Odeska oblast", "Odesa", "Odessa")
    assert one_spelling({"Odesa": 1307, "Odessa": 191}, [ukraine]) == {
        "Odesa": Region("Odesa", "UA-51"),
        "Odessa": Region("Odesa", "UA-51"),
    }


@pytest.mark.parametrize(
    ("official", "name"),
    [
        ("Madrid, Comunidad de", "Madrid"),
        ("Madrid, Comunidad de", "Comunidad de Madrid"),
        ("Nafarroako Foru Komunitatea/Navarra", "Navarra"),
        ("Skåne län [SE-12]", "Skane lan"),
        ("Wellington", "Wellington Region"),
        ("Illes Balears [Islas Baleares]", "Illes Balears"),
    ],
)
def test_an_official_name_is_matched_in_all_its_forms(official: str, name: str) -> None:
    assert codes({name: 1}, entry("XX-1", official)) == {name: "XX-1"}


def test_the_first_level_and_official_names_come_first_and_a_name_of_two_is_nobodys() -> None:
    spain = [
        entry("ES-O", "Asturias", first_level=False),
        entry("ES-AS", "Asturias, Principado de"),
        entry("ES-X", "Ixia", "Ambigua"),
        entry("ES-Y", "Ypsilon", "Ambigua"),
    ]
    assert codes({"Asturias": 1, "Ambigua": 1, "Nowhere": 1}, *spain) == {
        "Asturias": "ES-AS",
        "Ambigua": None,
        "Nowhere": None,
    }


def test_a_name_of_nothing_but_a_kind_is_a_name() -> None:
    assert spelt({"Province": 1, "District": 1, "Central": 2, "Central Region": 1}) == {
        "Province": "Province",
        "District": "District",
        "Central": "Central",
        "Central Region": "Central",
    }
    assert one_spelling({}, []) == {}


def test_a_clean_name_has_no_control_characters_and_one_unicode_form() -> None:
    assert clean(" Île-de-\u0301\tFrance\n") == clean("Île-de-\u0301 France")
    assert clean("I\u0302le") == "Île"
    assert clean("a\x00b\x1fc\u2028d") == "a b c d"
    assert clean("\t") == ""


def test_another_source_s_name_takes_the_spelling_that_is_known() -> None:
    known = ["North Holland", "Zurich Canton", "Moscow", "Moscow Oblast", "Tver Oblast"]
    list_of_codes = [
        entry("NL-NH", "North Holland", "Noord-Holland"),
        entry("RU-MOW", "Moscow", city=True),
        entry("RU-MOS", "Moscow Oblast"),
    ]

    def named(name: str) -> Region:
        return spelling_among(name, known, list_of_codes)

    assert named("North Holland") == Region("North Holland", "NL-NH")
    assert named("north-holland\t Province") == Region("North Holland", "NL-NH")
    assert named("Noord-Holland") == Region("North Holland", "NL-NH")
    assert named("Zurich") == Region("Zurich Canton", None), (
        "a shorter name does not replace the one that has a coordinate"
    )
    assert named("Moscow") == Region("Moscow", "RU-MOW")
    assert named("Moscow Oblast") == Region("Moscow Oblast", "RU-MOS")
    assert named("Tver’ Oblast") == Region("Tver Oblast", None)
    assert named("Elsewhere") == Region("Elsewhere", None)
    assert spelling_among("Elsewhere", [], []) == Region("Elsewhere", None)
