"""Terms that several pages explain in the same words."""

WHEELS = (
    "An emotion wheel is a table that groups emotion words into a few categories. w1 … w5 are five such tables. They "
    "make free words comparable; each score is a mean over them."
)
