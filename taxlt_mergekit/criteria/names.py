"""The names of the criteria, for the command line: nothing heavy is imported here."""

LABELS, FIXED, OTHERS, BALANCE = NAMES = ("labels", "fixed", "others", "balance")

# What each goes by, for a reader.
SUMMARIES = {
    LABELS: "the best validation score in the language itself",
    FIXED: "the λ of the paper's table 9, else 0.9",
    OTHERS: "the best average score over other languages",
    BALANCE: "predictions spread over the classes",
}
