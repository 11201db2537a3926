"""The account: every part that passed has exactly one verdict, with every subscriber, and no bad part was accepted."""

from __future__ import annotations

import json
import sqlite3
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edge.types import Judgement
from tests.bench.chaos.world import World

Key = tuple[int, int]


@dataclass
class Account:
    """What was found; all but `judged` and `recovered` should be 0."""

    unjudged: int = 0
    double: int = 0
    false_accepts: int = 0
    wrong_rejects: int = 0
    missing: int = 0
    contradictions: int = 0
    judged: Counter[str] = field(default_factory=Counter)
    recovered: int = 0

    @property
    def balanced(self) -> bool:
        """Whether nothing is wrong."""
        found = (self.unjudged, self.double, self.false_accepts, self.wrong_rejects, self.missing, self.contradictions)
        return not any(found)


def read_lines(path: Path) -> list[dict[str, Any]]:
    """What a reader wrote."""
    return [json.loads(line) for line in path.read_bytes().splitlines()]


def journal_keys(folder: Path) -> set[Key]:
    """Every verdict that the journal holds, read without any of our code."""
    with sqlite3.connect(f"file:{folder / 'journal.sqlite'}?mode=ro", uri=True) as connection:
        return {(int(e), int(s)) for e, s in connection.execute("SELECT epoch, seq FROM verdicts")}


def audit(readers: list[Path], journal: Path, passed: int, acknowledged: dict[int, Key], world: World) -> Account:
    """Compare what passed with what was given, and what was given with what each reader got."""
    account = Account()
    published = journal_keys(journal)
    for reader in readers:
        lines = read_lines(reader)
        got = Counter((line["epoch"], line["seq"]) for line in lines if not line.get("lost"))
        account.missing += len(published - set(got)) + sum(line.get("lost", False) for line in lines)
        account.double += sum(count - 1 for count in got.values())
        account.double += _doubles(lines)
    lines = [line for line in read_lines(readers[0]) if not line.get("lost")]
    _check_parts(account, lines, passed, acknowledged)
    for line in lines:
        _check_verdict(account, line, world)
        account.recovered += line["replay"]
    return account


def _doubles(lines: list[dict[str, Any]]) -> int:
    """Triggers with more than one verdict."""
    seen = Counter((line["epoch"], line["trigger"]) for line in lines if not line.get("lost"))
    return sum(count - 1 for count in seen.values())


def _check_parts(account: Account, lines: list[dict[str, Any]], passed: int, acknowledged: dict[int, Key]) -> None:
    verdicts: dict[int, list[Key]] = defaultdict(list)
    for line in lines:
        verdicts[int(line["part"].split("-")[2])].append((line["epoch"], line["trigger"]))
    for number in range(1, passed + 1):
        found = verdicts.get(number, [])
        account.unjudged += not found
        account.double += max(0, len(found) - 1)
        account.contradictions += bool(found) and number in acknowledged and acknowledged[number] not in found


def _check_verdict(account: Account, line: dict[str, Any], world: World) -> None:
    product, kind, _ = line["part"].split("-")
    expected = world.expected(product, int(kind))
    account.judged[line["judgement"] if line["reason"] in (None, "defect") else line["reason"]] += 1
    account.false_accepts += line["accept"] and (expected is not Judgement.OK or line["product"] != product)
    account.wrong_rejects += line["reason"] == "defect" and expected is Judgement.OK
