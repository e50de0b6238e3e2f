import pytest

from telemetron_collectors.kubernetes.api.quantity import canonical, is_binary, parse


@pytest.mark.parametrize(
    ("written", "amount"),
    [
        ("500m", "0.5"),
        ("1Gi", "1073741824"),
        ("3482911n", "0.003482911"),
        ("10u", "0.00001"),
        ("2k", "2000"),
        ("1e3", "1000"),
        (2, "2"),
        (0.1, "0.1"),
    ],
)
def test_quantity_is_parsed_exactly(written, amount):
    assert format(parse(written).normalize(), "f") == amount


@pytest.mark.parametrize("written", ["", "x", "1Xi", "Gi", "NaN", "Infinity", "1 Gi m"])
def test_invalid_quantity_is_an_error(written):
    with pytest.raises(ValueError, match="not a quantity"):
        parse(written)


@pytest.mark.parametrize(
    ("written", "form"),
    [
        ("500m", "500m"),
        ("0.5", "500m"),
        ("1500m", "1500m"),
        ("0", "0"),
        ("1000", "1k"),
        ("1e3", "1k"),
        ("1536Mi", "1536Mi"),
        ("1024Ki", "1Mi"),
        ("512", "512"),
        ("0.5Ki", "512"),
        ("0.5Gi", "512Mi"),
        ("128974848", "128974848"),
        ("1G", "1G"),
        ("0.1n", "0n"),
    ],
)
def test_the_canonical_form(written, form):
    assert canonical(parse(written), binary=is_binary(written)) == form


def test_a_binary_amount_that_no_binary_suffix_fits_has_none():
    assert canonical(parse("1000Ki") + parse("1500000"), binary=True) == "2524000"
