from __future__ import annotations

import pytest

from pinco.catalog.quality.decision import QualityRules, decide


def test_a_good_picture_is_ok_without_a_reason() -> None:
    verdict = decide(identical=True, confidence=1.0, extension=0.02, shrinkage=0.0)
    assert (verdict.status, verdict.reason) == ("ok", "")


def test_what_was_not_measured_does_not_count() -> None:
    assert decide(identical=True, confidence=1.0).status == "ok"


@pytest.mark.parametrize(
    ("measures", "status", "reason"),
    [
        ({"identical": False}, "rejected", "not those of its photo"),
        ({"confidence": 0.3}, "review", "uncertain (30%)"),
        ({"extension": 0.5}, "review", "may have grown: 50%"),
        ({"extension": 1.5}, "rejected", "grew by 150%"),
        ({"shrinkage": 0.5}, "review", "partly covered: 50%"),
    ],
)
def test_each_rule_gives_its_status_and_reason(measures: dict[str, float], status: str, reason: str) -> None:
    good = {"identical": True, "confidence": 0.95, "extension": 0.0, "shrinkage": 0.0}
    verdict = decide(**{**good, **measures})  # type: ignore[arg-type]
    assert verdict.status == status and reason in verdict.reason


def test_all_reasons_are_given_and_the_worst_decides() -> None:
    verdict = decide(identical=False, confidence=0.1, shrinkage=0.9)
    assert verdict.status == "rejected" and verdict.reason.count(".") >= 3


def test_a_measure_at_its_limit_is_within_it() -> None:
    rules = QualityRules()
    at_limit = {"confidence": rules.review_confidence, "shrinkage": rules.review_shrinkage}
    assert decide(identical=True, extension=rules.review_extension, **at_limit).status == "ok"
    assert decide(identical=True, extension=rules.reject_extension, **at_limit).status == "review"
    beyond = {"confidence": 0.5999, "shrinkage": 0.3001, "extension": 1.0001}
    for name, value in beyond.items():
        values = {"confidence": 1.0, "shrinkage": 0.0, "extension": 0.0, name: value}
        assert decide(identical=True, **values).status != "ok"


def test_limits_can_be_changed() -> None:
    strict = QualityRules(review_confidence=0.99, review_extension=0.01)
    assert decide(identical=True, confidence=0.98, rules=strict).status == "review"
    assert decide(identical=True, confidence=1.0, extension=0.02, rules=strict).status == "review"
    assert decide(identical=True, confidence=0.98, extension=0.02).status == "ok"
