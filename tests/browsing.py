"""What a browser complained of; several test files ask."""


def troubles(browser) -> list[str]:
    """What the console complained of, and requests that failed or left the disk."""
    found = [entry["message"] for entry in browser.get_log("browser") if entry["level"] in {"SEVERE", "WARNING"}]
    for entry in browser.get_log("performance"):
        if '"Network.loadingFailed"' in entry["message"] or '"url":"http' in entry["message"]:
            found.append(entry["message"][:300])
    return found
