"""Kubernetes quantities such as `500m` and `1Gi`: exact, in the API machinery's canonical form."""

from decimal import Context, Decimal

BINARY = {
    suffix: Decimal(1024) ** power
    for power, suffix in enumerate(("", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"))
}
DECIMAL = {
    "n": Decimal("1e-9"),
    "u": Decimal("1e-6"),
    "m": Decimal("1e-3"),
    "": Decimal(1),
    "k": Decimal(1000),
    "M": Decimal("1e6"),
    "G": Decimal("1e9"),
    "T": Decimal("1e12"),
    "P": Decimal("1e15"),
    "E": Decimal("1e18"),
}

# A pod's sum may have more digits than the default context's 28.
EXACT = Context(prec=60)

Quantity = str | int | float


def parse(quantity: Quantity) -> Decimal:
    """Return the exact amount; raises ValueError."""
    written = str(quantity)
    number, factor = written, Decimal(1)
    if is_binary(written):
        number, factor = written[:-2], BINARY[written[-2:]]
    elif written and written[-1] in DECIMAL:
        number, factor = written[:-1], DECIMAL[written[-1]]
    try:
        amount = Decimal(number)
        if amount.is_finite():
            return amount * factor
    except ArithmeticError:
        pass
    raise ValueError("not a quantity")


def is_binary(quantity: Quantity) -> bool:
    """Return whether a quantity has a binary suffix; its canonical form keeps one."""
    return str(quantity)[-1:] == "i" and str(quantity)[-2:] in BINARY


def canonical(amount: Decimal, *, binary: bool = False) -> str:
    """Return the form with the largest suffix that leaves a whole number: `1536Mi`, `500m`."""
    is_binary = binary and amount == amount.to_integral_value() and abs(amount) >= 1024
    units = BINARY if is_binary else DECIMAL
    if amount == 0:
        return "0"
    for suffix, unit in reversed(units.items()):
        if EXACT.remainder(amount, unit) == 0:
            return f"{EXACT.divide(amount, unit).to_integral_value():f}" + suffix
    return f"{EXACT.divide(amount, DECIMAL['n']).to_integral_value():f}n"
