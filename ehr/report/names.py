"""Names as people read them."""

from collections.abc import Mapping

NAMES: Mapping[str, str] = {
    "anamnesis": "Anamnesis",
    "as_released": "As released",
    "logistic_regression": "Logistic regression",
    "gradient_boosting": "Gradient boosting",
    "train/loss": "training loss",
    "tuning/loss": "loss on the tuning split",
    "tuning/auroc": "AUROC on the tuning split",
}
RULES: Mapping[str, str] = {
    "alive": "dead by then",
    "prior_case": "had it before",
    "exclude": "excluded by a code",
    "min_history_days": "known too briefly",
    "age": "outside the ages",
    "every": "not the one of its period",
}


def words(name: str) -> str:
    """Return a name of outcome, model or metric as words."""
    return NAMES.get(name, name.replace("_", " "))


def removed(rule: str) -> str:
    """Return why a rule of attrition removed samples, or that it kept them."""
    return "kept" if rule == "kept" else f"removed: {RULES.get(rule, words(rule))}"
