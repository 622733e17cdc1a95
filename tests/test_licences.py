import pytest

from a2i.licences import CONDITIONAL, NON_COMMERCIAL, restriction


@pytest.mark.parametrize(
    ("licence", "said"),
    [
        ("cc-by-nc-4.0", NON_COMMERCIAL),
        ("CC BY-NC-SA 3.0", NON_COMMERCIAL),
        ("cc_by_nc_4.0", NON_COMMERCIAL),
        (
            "Stability AI non-commercial (sai-nc-community); commercial use: https://stability.ai/license",
            NON_COMMERCIAL,
        ),
        ("flux-1-dev-non-commercial-license", NON_COMMERCIAL),
        ("NVIDIA, for non-commercial research alone", NON_COMMERCIAL),
        ("NVIDIA NSCL v2-custom; Gemma Terms of Use", NON_COMMERCIAL),
        ("research only", NON_COMMERCIAL),
        ("research-only", NON_COMMERCIAL),
        ("Research-use-only licence", NON_COMMERCIAL),
        ("for research use only", NON_COMMERCIAL),
        ("not for commercial use", NON_COMMERCIAL),
        ("No commercial use", NON_COMMERCIAL),
        ("personal use only", NON_COMMERCIAL),
        ("evaluation only", NON_COMMERCIAL),
        ("academic use", NON_COMMERCIAL),
        ("Academic Free License v3.0", None),
        ("afl-3.0", None),
        ("stabilityai-ai-community", CONDITIONAL),
        ("Stability AI Community License (commercial use below 1 M USD of yearly revenue)", CONDITIONAL),
        ("Apache-2.0 (Noto Emoji)", None),
        ("CreativeML Open RAIL-M", None),
        ("cc-by-4.0", None),
        ("mit", None),
        ("function", None),
        (None, None),
    ],
)
def test_what_a_licence_says_of_commercial_use(licence: str | None, said: str | None) -> None:
    assert restriction(licence) == said
