"""What the tests of manifests share: UIDs, and short ways to say what a manifest holds."""

UIDS = [f"1.2.826.0.1.{number}" for number in range(1, 4)]


def sources(manifest):
    return [list(entry.sources) for entry in manifest.entries]


def reasons(manifest):
    return [(each.reason, each.path.name) for each in manifest.skipped]
