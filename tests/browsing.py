"""What a browser complained of, and what keeps people out of a page; several test files ask."""

from pathlib import Path


def troubles(browser) -> list[str]:
    """What the console complained of, and requests that failed or left the disk."""
    found = [entry["message"] for entry in browser.get_log("browser") if entry["level"] in {"SEVERE", "WARNING"}]
    for entry in browser.get_log("performance"):
        if '"Network.loadingFailed"' in entry["message"] or '"url":"http' in entry["message"]:
            found.append(entry["message"][:300])
    return found


AXE = Path(__file__).parent / "vendor" / "axe.min.js"
RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]


def barriers(browser, without: tuple[str, ...] = ()) -> list[str]:
    """What axe-core finds against WCAG 2.2 AA on the page that is shown, and headings out of order; a line each.

    `without` names rules that are left out.
    """
    browser.execute_script(AXE.read_text(encoding="utf-8"))
    browser.set_script_timeout(300)  # a page of large tables, on a busy machine
    options = {
        "preload": False,
        "runOnly": {"type": "tag", "values": RULES},
        "rules": {"heading-order": {"enabled": True}} | {rule: {"enabled": False} for rule in without},
    }
    script = "const done = arguments[1];"
    script += "axe.run(document, arguments[0]).then(r => done(r.violations), e => done([{id: String(e), nodes: []}]))"
    found = browser.execute_async_script(script, options)
    return [
        f"{one['id']}: {node['html'][:160]} {node.get('failureSummary', '')[:200]}"
        for one in found
        for node in one["nodes"][:3]
    ] + [one["id"] for one in found if not one["nodes"]]
