"""What the page makes of rows whose clocks and runs do not agree: its own functions, in a real browser."""

from __future__ import annotations

from typing import Any

from playwright.sync_api import Page

TRY = """async (rows) => {
  const { model, now, shares, silence, takeRows } = await import("/static/model.js");
  const at = now();
  takeRows(rows.map((row) => ({ ...row, station: "tried", part: `tried/${row.run}/${row.trigger}`,
    decided_at: at + row.decided_at })), 0, false);
  const found = model.stations.get("tried");
  const told = { latest: found.latest.part, parts: found.rows.map((row) => row.part), quiet: silence(found) };
  found.heard -= 60_000;
  const later = silence(found);
  model.stations.delete("tried");
  model.rows = model.rows.filter((row) => row.station !== "tried");
  return { ...told, later, shares: shares({ counts: { PASS: 3, REJECT: 1, MISSING: 6 } }) };
}"""


def row(run: str, trigger: str, decided_at: int, decision: str = "PASS") -> dict[str, Any]:
    return {"run": run, "trigger": trigger, "decided_at": decided_at, "decision": decision}


def test_a_run_that_began_with_a_clock_set_back_is_the_newer_one(page: Page) -> None:
    told = page.evaluate(TRY, [row("900", "7", -3000), row("20", "1", -2000), row("20", "2", -1000)])
    assert told["latest"] == "tried/20/2"
    assert told["parts"] == ["tried/900/7", "tried/20/1", "tried/20/2"]


def test_a_row_that_comes_again_is_there_once_whatever_the_workers_clocks_say(page: Page) -> None:
    rows = [row("900", "1", -1000), row("900", "2", -5000), row("20", "1", -3000), row("900", "1", -1000)]
    told = page.evaluate(TRY, rows)
    assert sorted(told["parts"]) == ["tried/20/1", "tried/900/1", "tried/900/2"]


def test_a_part_decided_in_the_future_grows_old_from_when_it_was_seen(page: Page) -> None:
    told = page.evaluate(TRY, [row("900", "1", 3_600_000)])
    assert told["quiet"] == 0
    assert told["later"] >= 60_000


def test_a_share_of_rejects_is_of_the_parts_that_were_scored(page: Page) -> None:
    told = page.evaluate(TRY, [row("900", "1", 0)])["shares"]
    assert (told["all"], told["scored"], told["rejected"], told["passed"]) == (10, 4, 1, 3)
