"""AsyncAPI's own parser accepts the document, and has nothing to say about it."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

DOCUMENT = Path(__file__).parents[2] / "docs" / "asyncapi.yaml"
PARSE = """
const { Parser } = require("@asyncapi/parser");
const { readFileSync } = require("fs");
(async () => {
  for (const path of process.argv.slice(2)) {
    const { document, diagnostics } = await new Parser().parse(readFileSync(path, "utf8"));
    console.log(JSON.stringify({
      messages: document ? document.allMessages().all().map((message) => message.id()) : null,
      diagnostics: diagnostics.map((each) => `${each.code} ${each.path.join("/")}: ${each.message}`),
    }));
  }
})();
"""


@pytest.fixture(scope="module")
def parsed(node_modules: Path, tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What the parser says of the document, and of one that is broken."""
    folder = tmp_path_factory.mktemp("parser")
    (folder / "broken.yaml").write_text(DOCUMENT.read_text().replace("action: send", "action: shout", 1))
    (folder / "parse.js").write_text(PARSE)
    (folder / "node_modules").symlink_to(node_modules)
    command = ["node", "parse.js", str(DOCUMENT), "broken.yaml"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=240, check=True)
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_the_official_parser_has_nothing_to_say(parsed: list[dict[str, Any]]) -> None:
    assert parsed[0]["diagnostics"] == []
    kinds = {"frame", "notice", "verdict", "heatmap", "command", "label", "heartbeat", "original"}
    assert kinds <= set(parsed[0]["messages"])


def test_the_official_parser_would_say_what_is_wrong(parsed: list[dict[str, Any]]) -> None:
    assert parsed[1]["messages"] is None
    assert parsed[1]["diagnostics"]
