"""The paper itself, as cards and reports name it."""

URL = "https://aclanthology.org/2024.eacl-short.12"
TEXT = (
    "Marinela Parović, Ivan Vulić, Anna Korhonen. *Investigating the Potential of Task Arithmetic for "
    "Cross-Lingual Transfer*. EACL 2024."
)
