"""MARC's reviews as published become rows with title, body and label."""

LABELS = {"1": "negative", "2": "negative", "4": "positive", "5": "positive"}


def binarise(docs):
    """1 and 2 stars are negative, 4 and 5 positive, 3 are left out; rows of taxlt-mergekit are so already."""
    if "label" in docs.column_names:
        return docs
    kept = docs.filter(lambda doc: str(doc["stars"]) in LABELS)
    return kept.map(
        lambda doc: {
            "title": doc["review_title"],
            "body": doc["review_body"],
            "label": LABELS[str(doc["stars"])],
        },
        remove_columns=docs.column_names,
    )
