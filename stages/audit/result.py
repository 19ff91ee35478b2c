"""The result of an audit: its findings, and columns of scores where the step names some."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from hyperloom.stages.results import Samples


@dataclass(frozen=True)
class Audited(Samples):
    """`findings` as `stages.audit.finding.AuditFinding` says them; `table`: the file of scores, a row a sample."""

    noun: ClassVar[str] = "audit"

    findings: Sequence[Mapping[str, Any]]
    table: str
    samples: int = 0
